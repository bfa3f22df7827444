"""Chapter 6: MQTT over WebSocket. The flows themselves run in the other files, once per transport."""

import socket
import time
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import wire
from tests.servers import Aldis


def dial(lab: Aldis, *subprotocols: str) -> ClientConnection:
    offered = [Subprotocol(name) for name in subprotocols] or None
    return connect(f"ws://{lab.ws[0]}:{lab.ws[1]}/mqtt", subprotocols=offered, compression=None)


def test_mqtt_6_0_0_4_the_subprotocol_is_mqtt(lab: Aldis) -> None:
    with dial(lab, "other", "mqtt") as websocket:
        assert websocket.subprotocol == "mqtt"


@pytest.mark.parametrize("offered", [(), ("mqttv3.1",), ("other",)])
def test_mqtt_6_0_0_3_without_it_there_is_no_connection(lab: Aldis, offered: tuple[str, ...]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(lab, *offered)
    assert refused.value.response.status_code == 400


def test_mqtt_6_0_0_1_a_text_frame_closes(lab: Aldis, unique: str) -> None:
    with dial(lab, "mqtt") as websocket:
        websocket.send(wire.connect(unique))
        assert websocket.recv(5) == wire.ACCEPTED
        websocket.send("text")
        with pytest.raises(ConnectionClosed):
            websocket.recv(5)


def test_mqtt_6_0_0_2_packets_and_frames_have_different_boundaries(lab: Aldis, unique: str) -> None:
    """Several packets in one frame, one packet in several frames, one message in several fragments."""
    with dial(lab, "mqtt") as websocket:
        everything = wire.connect(unique) + wire.subscribe(1, (unique, 0)) + wire.publish(unique, b"x" * 300)
        expected = wire.ACCEPTED + wire.suback(1, 0) + wire.publish(unique, b"x" * 300)
        for start in range(0, len(everything), 7):
            websocket.send(everything[start : start + 7])
        _receives(websocket, expected)
        ping = wire.publish(unique, b"y" * 40) + wire.PINGREQ
        websocket.send([ping[:1], ping[1:20], ping[20:]])
        _receives(websocket, wire.publish(unique, b"y" * 40) + wire.PINGRESP)


def _receives(websocket: ClientConnection, expected: bytes) -> None:
    found = b""
    while len(found) < len(expected):
        data = websocket.recv(5)
        assert isinstance(data, bytes)
        found += data
    assert found == expected


def test_a_websocket_ping_is_answered(lab: Aldis, unique: str) -> None:
    with dial(lab, "mqtt") as websocket:
        websocket.send(wire.connect(unique))
        assert websocket.ping().wait(5)


def test_a_websocket_close_is_answered_and_is_no_disconnect(lab: Aldis, unique: str) -> None:
    """The will is published: only an MQTT DISCONNECT takes it back [MQTT-3.1.2-8]."""
    with wire.Client(lab.mqtt) as watcher, dial(lab, "mqtt") as websocket:
        watcher.connected(f"{unique}-watcher").subscribed((unique, 0))
        websocket.send(wire.connect(unique, will=wire.Will(unique, b"gone")))
        websocket.recv(5)
        websocket.close(1001)
        assert websocket.close_code == 1001
        assert watcher.publication().payload == b"gone"


def test_the_server_closes_with_a_close_frame(lab: Aldis, unique: str) -> None:
    with dial(lab, "mqtt") as websocket:
        websocket.send(wire.connect(unique) + wire.DISCONNECT)
        assert websocket.recv(5) == wire.ACCEPTED
        with pytest.raises(ConnectionClosed):
            websocket.recv(5)
        assert websocket.close_code == 1000


def test_a_packet_beyond_the_limit_closes(lab: Aldis, unique: str) -> None:
    for size in (262_145, 1_000_000):
        with dial(lab, "mqtt") as websocket:
            websocket.send(wire.connect(unique))
            websocket.recv(5)
            with suppress(ConnectionClosed):
                websocket.send(wire.publish(unique, b"x" * size))
            with pytest.raises(ConnectionClosed):
                websocket.recv(5)


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET /" + b"a" * 70_000,
        b"nonsense\r\n\r\n",
    ],
    ids=["plain GET", "POST", "endless line", "nonsense"],
)
def test_what_is_no_websocket_is_closed(lab: Aldis, start: bytes) -> None:
    with socket.create_connection(lab.ws, timeout=5) as plain:
        try:
            plain.sendall(start)
            while plain.recv(65_536):
                pass
        except ConnectionError:
            pass
    with dial(lab, "mqtt") as websocket:
        websocket.send(wire.connect("alive"))
        assert websocket.recv(5) == wire.ACCEPTED


@pytest.mark.alone
def test_mqtt_3_1_2_24_keep_alive_counts_mqtt_packets_not_websocket_pings(lab: Aldis, unique: str) -> None:
    with dial(lab, "mqtt") as websocket:
        began = time.monotonic()
        websocket.send(wire.connect(unique, keep_alive=1))
        assert websocket.recv(5) == wire.ACCEPTED
        with suppress(ConnectionClosed):
            while time.monotonic() - began < 5:
                websocket.ping()
                with suppress(TimeoutError):
                    websocket.recv(0.2)
        assert 1.5 <= time.monotonic() - began <= 2.8
