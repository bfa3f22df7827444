"""Chapter 3.1 and 3.2: CONNECT and CONNACK, keep alive, client identifiers, take-over."""

import selectors
import socket
import time

import pytest

from tests.conformance.conftest import Dial
from tests.servers import Aldis
from tests.wire import (
    ACCEPTED,
    DISCONNECT,
    PATIENCE,
    PINGREQ,
    PINGRESP,
    RESUMED,
    TcpStream,
    Will,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    refused,
    subscribe,
    text,
    unsubscribe,
)

ANYTHING_ELSE = {
    "PUBLISH 0": publish("a"),
    "PUBLISH 1": publish("a", qos=1, id=1),
    "PUBLISH 2": publish("a", qos=2, id=1),
    "PUBACK": puback(1),
    "PUBREC": pubrec(1),
    "PUBREL": pubrel(1),
    "PUBCOMP": pubcomp(1),
    "SUBSCRIBE": subscribe(1, ("a", 0)),
    "UNSUBSCRIBE": unsubscribe(1, "a"),
    "PINGREQ": PINGREQ,
    "DISCONNECT": DISCONNECT,
}


@pytest.mark.parametrize("first", ANYTHING_ELSE.values(), ids=ANYTHING_ELSE)
def test_mqtt_3_1_0_1_the_first_packet_must_be_connect(dial: Dial, first: bytes) -> None:
    client = dial()
    client.send(first)
    assert client.closed() == []


def test_mqtt_3_1_0_2_a_second_connect_closes(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique)
    client.send(connect(unique))
    assert client.closed() == []


def test_mqtt_3_1_2_1_another_protocol_name_closes(dial: Dial) -> None:
    client = dial()
    client.send(connect("a", protocol=("MQTTs", 4)))
    assert client.closed() == []


@pytest.mark.parametrize("protocol", [("MQTT", 5), ("MQTT", 3), ("MQTT", 0), ("MQTT", 132), ("MQIsdp", 4)])
def test_mqtt_3_1_2_2_an_unsupported_level_is_refused_with_1(dial: Dial, protocol: tuple[str, int]) -> None:
    client = dial()
    client.send(connect("a", protocol=protocol))
    assert client.closed() == [refused(1)]


def test_mqtt_3_1_2_2_a_connect_of_mqtt_5_with_properties_is_refused_with_1(dial: Dial) -> None:
    client = dial()
    properties = bytes((5, 0x11)) + (3600).to_bytes(4, "big")
    client.send(packet(0x10, text("MQTT") + bytes((5, 2, 0, 60)) + properties + text("five")))
    assert client.closed() == [refused(1)]


def test_mqtt_3_1_is_spoken_too(dial: Dial, unique: str) -> None:
    """Level 3 under the name MQIsdp: what older microcontrollers speak."""
    client = dial().connected(unique, protocol=("MQIsdp", 3))
    client.subscribed((unique, 1))
    client.send(publish(unique, b"old", qos=1, id=9))
    assert client.publication().payload == b"old"
    client.expect(puback(9))


@pytest.mark.alone
def test_mqtt_3_1_2_24_keep_alive(dial_any: Dial, unique: str) -> None:
    """A silent client is closed between 1.5 times its keep alive and one second later."""
    client = dial_any()
    began = time.monotonic()
    client.connected(unique, keep_alive=1)
    assert client.closed() == []
    assert 1.5 <= time.monotonic() - began <= 2.5


def test_mqtt_3_1_2_24_keep_alive_of_many(dial: Dial, unique: str) -> None:
    """Forty clients spread over half a second: none early, none late, whatever the phase of the server's clock."""
    began: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:
        for number in range(40):
            client = dial()
            assert isinstance(client.stream, TcpStream)
            began[client.stream.socket] = time.monotonic()
            client.connected(f"{unique}-{number}", keep_alive=1)
            selector.register(client.stream.socket, selectors.EVENT_READ)
            time.sleep(0.0125)
        lasted = []
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                assert key.fileobj.recv(1) == b""
                lasted.append(time.monotonic() - began[key.fileobj])
                selector.unregister(key.fileobj)
    assert 1.5 <= min(lasted) and max(lasted) <= 2.5


@pytest.mark.alone
def test_mqtt_3_1_2_24_any_packet_counts(dial: Dial, unique: str) -> None:
    signs = {"ping": PINGREQ, "publish": publish("nobody", b"x"), "acknowledgement": puback(77)}
    clients = {name: dial().connected(f"{unique}-{name}", keep_alive=1) for name in signs}
    for _ in range(2):
        time.sleep(1.1)
        last = time.monotonic()
        for name, client in clients.items():
            client.send(signs[name])
    for client in clients.values():
        assert set(client.closed()) <= {PINGRESP}
        assert 1.5 <= time.monotonic() - last <= 2.5


@pytest.mark.alone
def test_mqtt_3_1_2_24_what_we_send_to_the_client_does_not_count(dial: Dial, unique: str) -> None:
    client = dial().connected(unique, keep_alive=1)
    began = time.monotonic()
    client.subscribed((unique, 0))
    other = dial().connected(unique + "-other")
    while not client.ended and time.monotonic() - began < 4:
        other.send(publish(unique, b"x"))
        try:
            client.packet(0.1)
        except (TimeoutError, AssertionError):
            pass
    assert 1.5 <= time.monotonic() - began <= 2.6


def test_mqtt_3_1_2_10_keep_alive_0_switches_it_off(dial: Dial, unique: str) -> None:
    client = dial().connected(unique, keep_alive=0)
    other = dial().connected(unique + "-other", keep_alive=1)
    other.closed()
    client.nothing()


def test_mqtt_3_1_3_5_usual_client_identifiers(dial: Dial) -> None:
    for client_id in ("a", "0123456789abcdefghijklm", "NOPQRSTUVWXYZnopqrstuvw"):
        dial().connected(client_id).disconnect()


@pytest.mark.parametrize("client_id", ["x" * 200, "mit leerzeichen", "ünï/+#", "\N{GRINNING FACE}", "\ufeffbom"])
def test_mqtt_3_1_3_4_longer_and_stranger_client_identifiers(dial: Dial, client_id: str) -> None:
    dial().connected(client_id, clean=False).disconnect()
    dial().connected(client_id, clean=False, answer=RESUMED).disconnect()
    dial().connected(client_id).disconnect()


def test_mqtt_3_1_3_6_no_client_identifier_with_a_clean_session(dial_any: Dial, unique: str) -> None:
    """Each such client is somebody else: they do not take each other over."""
    first = dial_any().connected("").subscribed((unique, 0))
    second = dial_any().connected("").subscribed((unique, 0))
    second.send(publish(unique, b"x"))
    assert first.publication().payload == second.publication().payload == b"x"


def test_mqtt_3_1_3_8_no_client_identifier_without_a_clean_session(dial_any: Dial) -> None:
    client = dial_any()
    client.send(connect("", clean=False))
    assert client.closed() == [refused(2)]


def test_mqtt_3_1_4_2_take_over(dial_any: Dial, unique: str) -> None:
    """The same client identifier on a new connection closes the old one, which says nothing more."""
    first = dial_any().connected(unique, clean=False).subscribed((unique, 1))
    second = dial_any().connected(unique, clean=False, answer=RESUMED)
    assert first.closed() == []
    dial_any().connected(unique + "-other").published(unique, b"x")
    assert second.take().payload == b"x"


def test_mqtt_3_1_4_2_take_over_by_a_clean_session(dial: Dial, unique: str) -> None:
    first = dial().connected(unique, clean=False).subscribed((unique, 1))
    second = dial().connected(unique, clean=True)
    assert first.closed() == []
    dial().connected(unique + "-other").published(unique, b"x")
    second.nothing()


def test_mqtt_3_1_4_2_take_over_carries_unacknowledged_messages_along(dial: Dial, unique: str) -> None:
    first = dial().connected(unique, clean=False).subscribed((unique, 1))
    dial().connected(unique + "-other").published(unique, b"x")
    before = first.publication()
    second = dial().connected(unique, clean=False, answer=RESUMED)
    assert second.publication() == before._replace(dup=True)


def test_mqtt_3_1_4_5_nothing_is_handled_after_a_refusal(dial: Dial, unique: str) -> None:
    client = dial()
    client.send(connect("", clean=False), publish(unique, b"x", retain=True), subscribe(1, (unique, 0)))
    assert client.closed() == [refused(2)]
    dial().connected(unique).subscribed((unique, 0)).nothing()


def test_mqtt_3_2_2_session_present(dial_any: Dial, unique: str) -> None:
    """Only a client that asks for its session, and has one, is told that there is one."""
    dial_any().connected(unique, clean=True).disconnect()
    dial_any().connected(unique, clean=False, answer=ACCEPTED).disconnect()  # a clean one left nothing
    dial_any().connected(unique, clean=False, answer=RESUMED).disconnect()
    dial_any().connected(unique, clean=True, answer=ACCEPTED).disconnect()  # and it is thrown away
    dial_any().connected(unique, clean=False, answer=ACCEPTED).disconnect()


def test_mqtt_3_2_2_5_a_refused_connection_is_closed(dial: Dial) -> None:
    client = dial()
    client.send(connect("a", protocol=("MQTT", 99)), PINGREQ)
    assert client.closed() == [refused(1)]


def test_mqtt_3_14_4_nothing_is_handled_after_disconnect(dial: Dial, unique: str) -> None:
    client = dial().connected(unique)
    client.send(DISCONNECT, publish(unique, b"x", retain=True), PINGREQ)
    assert client.closed() == []
    dial().connected(unique).subscribed((unique, 0)).nothing()


def test_packets_may_come_in_any_pieces(dial: Dial, unique: str) -> None:
    """[MQTT-4.2] a byte stream has no boundaries: one byte at a time, and everything at once."""
    whole = connect(unique) + subscribe(1, (unique, 1)) + publish(unique, b"x" * 200, qos=1, id=2) + PINGREQ
    client = dial()
    for byte in whole[:-210]:
        client.send(bytes((byte,)))
    client.send(whole[-210:-3])
    client.send(whole[-3:])
    client.expect(ACCEPTED)
    client.packet()
    assert client.publication().payload == b"x" * 200
    client.expect(puback(2), PINGRESP)

    again = dial()
    again.send(whole)
    again.expect(ACCEPTED)
    again.packet()
    assert again.publication().payload == b"x" * 200
    again.expect(puback(2), PINGRESP)


def test_a_client_that_gives_up_in_mid_connect_leaves_nothing(lab: Aldis, dial: Dial, unique: str) -> None:
    whole = connect(unique, will=Will(unique, b"will"))
    watcher = dial().connected(unique + "-watcher").subscribed((unique, 0))
    for cut in (1, 2, 5, len(whole) - 1):
        client = dial()
        client.send(whole[:cut])
        client.close()
    watcher.nothing()
    assert lab.alive
