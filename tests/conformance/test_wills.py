"""Chapter 3.1.2.5 to 3.1.2.7: the will."""

import time
from collections.abc import Callable

import pytest

from tests.conformance.conftest import Dial
from tests.wire import ACCEPTED, DISCONNECT, RESUMED, Client, Published, TcpStream, Will, connect


def reset(client: Client) -> None:
    assert isinstance(client.stream, TcpStream)
    client.stream.reset()


def break_the_protocol(client: Client) -> None:
    client.send(b"\x00\x00")
    assert client.closed() == []


ENDS: dict[str, Callable[[Client], None]] = {"FIN": Client.close, "RST": reset, "malformed packet": break_the_protocol}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_mqtt_3_1_2_8_abnormal_ends_publish_the_will(dial: Dial, unique: str, end: Callable[[Client], None]) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 2))
    end(dial().connected(unique, will=Will(unique, b"gone", 1)))
    found = watcher.take()
    assert (found.payload, found.qos, found.retain) == (b"gone", 1, False)
    watcher.nothing()


def test_mqtt_3_1_2_8_over_websocket(dial_any: Dial, unique: str) -> None:
    watcher = dial_any().connected(f"{unique}-watcher").subscribed((unique, 0))
    dial_any().connected(unique, will=Will(unique, b"gone")).close()
    assert watcher.publication().payload == b"gone"


@pytest.mark.alone
def test_mqtt_3_1_2_24_a_keep_alive_time_out_publishes_the_will(dial: Dial, unique: str) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    began = time.monotonic()
    dial().connected(unique, keep_alive=1, will=Will(unique, b"gone"))
    assert watcher.publication().payload == b"gone"
    assert 1.5 <= time.monotonic() - began <= 2.5


def test_a_take_over_publishes_the_will_of_the_old_connection(dial: Dial, unique: str) -> None:
    """The server closes it without a DISCONNECT: [MQTT-3.1.2-8]. The new connection's will is another one."""
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    first = dial().connected(unique, will=Will(unique, b"first"))
    second = dial().connected(unique, will=Will(unique, b"second"))
    assert watcher.publication().payload == b"first"
    first.closed()
    second.disconnect()
    watcher.nothing()


def test_mqtt_3_1_2_10_disconnect_discards_the_will(dial_any: Dial, unique: str) -> None:
    watcher = dial_any().connected(f"{unique}-watcher").subscribed((unique, 0))
    client = dial_any().connected(unique, clean=False, will=Will(unique, b"gone"))
    client.disconnect()
    client = dial_any().connected(unique, clean=False, answer=RESUMED)  # and it does not come back with the session
    client.close()
    dial_any().connected(unique).disconnect()
    watcher.nothing()


def test_mqtt_3_14_4_3_disconnect_in_the_same_write_as_the_end(dial: Dial, unique: str) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    client = dial()
    client.send(connect(unique, will=Will(unique, b"gone")), DISCONNECT, b"\x00\x00")
    assert client.closed() == [ACCEPTED]
    watcher.nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_3_1_2_6_will_qos(dial: Dial, unique: str, qos: int, granted: int) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, granted))
    dial().connected(unique, will=Will(unique, b"gone", qos)).close()
    assert watcher.take().qos == min(qos, granted)


def test_mqtt_3_1_2_16_a_will_without_retain_is_not_kept(dial: Dial, unique: str) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    dial().connected(unique, will=Will(unique, b"gone")).close()
    watcher.publication()
    dial().connected(f"{unique}-late").subscribed((unique, 0)).nothing()


def test_mqtt_3_1_2_17_a_will_with_retain_is_kept(dial: Dial, unique: str) -> None:
    """A device that was killed reads `offline` to whoever comes later, and `online` again after its return."""
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    client = dial().connected(unique, will=Will(unique, b"offline", 1, retain=True))
    client.published(unique, b"online", retain=True)
    assert watcher.publication() == Published(unique, b"online")
    client.close()
    assert watcher.publication() == Published(unique, b"offline")
    late = dial().connected(f"{unique}-late").subscribed((unique, 0))
    assert late.publication() == Published(unique, b"offline", retain=True)


def test_mqtt_3_1_2_17_an_empty_retained_will_clears(dial: Dial, unique: str) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 0))
    client = dial().connected(unique, will=Will(unique, b"", 0, retain=True))
    client.published(unique, b"online", retain=True)
    client.close()
    assert [watcher.publication().payload, watcher.publication().payload] == [b"online", b""]
    dial().connected(f"{unique}-late").subscribed((unique, 0)).nothing()


def test_mqtt_3_1_2_9_a_will_reaches_an_absent_persistent_session(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-watcher", clean=False).subscribed((unique, 1)).disconnect()
    dial().connected(unique, will=Will(unique, bytes(range(256)), 1)).close()
    time.sleep(0.05)
    watcher = dial().connected(f"{unique}-watcher", clean=False, answer=RESUMED)
    assert watcher.take().payload == bytes(range(256))


@pytest.mark.parametrize("topic", ["", "with/+", "with/#", "#"])
def test_mqtt_3_1_3_10_a_will_topic_must_be_a_topic_name(dial: Dial, unique: str, topic: str) -> None:
    """A topic that no PUBLISH may have is refused at once, not when the client is already gone."""
    client = dial()
    client.send(connect(unique, will=Will(topic, b"x")))
    assert client.closed() == []
