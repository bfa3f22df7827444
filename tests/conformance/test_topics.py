"""Chapter 4.7: topic names, filters, wildcards, `$`."""

from collections.abc import Iterator

import pytest

from tests.conformance.conftest import Dial
from tests.servers import Aldis, profile, running
from tests.wire import Published, packet, publish, subscribe, text, unsubscribe

MATCHES = [
    ("a", "a", True),
    ("a", "b", False),
    ("a", "A", False),  # [MQTT-4.7.3] names are case-sensitive
    ("a/b", "a/b", True),
    ("a/b", "a", False),
    ("a", "a/b", False),
    ("a", "a/", False),
    ("a/", "a/", True),
    ("/a", "a", False),
    ("/a", "/a", True),
    ("a b", "a b", True),
    ("+", "a", True),
    ("+", "a/b", False),
    ("+", "/a", False),
    ("+/+", "/a", True),
    ("/+", "/a", True),
    ("/+", "a", False),
    ("a/+", "a/b", True),
    ("a/+", "a/", True),
    ("a/+", "a", False),
    ("a/+", "a/b/c", False),
    ("+/b", "a/b", True),
    ("+/b/+", "a/b/c", True),
    ("+/b/+", "a/c/c", False),
    ("a/+/c", "a/b/c", True),
    ("a/+/c", "a//c", True),
    ("#", "a", True),
    ("#", "a/b/c", True),
    ("#", "/a", True),
    ("a/#", "a", True),  # [4.7.1.2] the parent level too
    ("a/#", "a/", True),
    ("a/#", "a/b/c", True),
    ("a/#", "ab", False),
    ("a/#", "b/a", False),
    ("a/+/#", "a/b", True),
    ("a/+/#", "a/b/c/d", True),
    ("a/+/#", "a", False),
    ("+/#", "a", True),
    ("/#", "/a/b", True),
    ("/#", "a/b", False),
    ("a/+", "a/$b", True),  # only in front is it special
    ("ü/+/\N{GRINNING FACE}", "ü/é/\N{GRINNING FACE}", True),
    ("\ufeffa", "\ufeffa", True),  # [MQTT-1.5.3-3] U+FEFF is a character like any other
    ("\ufeffa", "a", False),
]


@pytest.mark.parametrize(("filter", "topic", "matches"), MATCHES)
def test_mqtt_4_7_1_filters(dial: Dial, unique: str, filter: str, topic: str, matches: bool) -> None:
    """For live messages, and for retained ones, which are looked up the other way round."""
    client = dial().connected(unique)
    client.send(publish(topic, unique.encode(), retain=True))
    client.nothing()
    client.subscribed((filter, 0))
    kept = Published(topic, unique.encode(), retain=True)
    live = Published(topic, unique.encode())
    client.send(publish(topic, unique.encode(), retain=True))
    found = [wire for wire in client.settled() if wire.endswith(unique.encode())]
    expected = [publish(*kept[:2], retain=True), publish(*live[:2])] if matches else []
    assert found == expected
    client.send(publish(topic, b"", retain=True))
    client.settled()


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """A server that publishes its figures twice a second."""
    plugins = {
        "amqtt.plugins.authentication.AnonymousAuthPlugin": {},
        "aldis.plugins.sys_topics.SysTopics": {"interval": 0.5},
    }
    folder = tmp_path_factory.mktemp("figures")
    with running(folder, profile(folder / "figures.yaml", "lab", plugins)) as server:
        yield server


def test_mqtt_4_7_2_1_a_leading_wildcard_does_not_reach_the_servers_own_topics(figures: Aldis) -> None:
    """Neither what is retained nor what is news. Only the server publishes there: its own figures show it."""
    wide = [figures.tcp().connected(f"wide{number}") for number in range(4)]
    for client, filter in zip(wide, ("#", "+/#", "+/broker/uptime", "+/+/+"), strict=True):
        client.subscribed((filter, 0))
    narrow = [figures.tcp().connected(f"narrow{number}") for number in range(3)]
    for client, filter in zip(narrow, ("$SYS/#", "$SYS/+/uptime", "$SYS/broker/uptime"), strict=True):
        client.subscribed((filter, 0))
    for client in narrow:
        seen: list[bool] = []
        while len(seen) < 2:
            found = client.publication()
            if found.topic == "$SYS/broker/uptime":
                seen.append(found.retain)
        assert seen == [True, False]
    for client in wide:
        client.nothing()
    for client in (*wide, *narrow):
        client.close()


@pytest.mark.parametrize("filter", ["a#", "a/b#", "#/a", "a/#/b", "##", "+a", "a+", "a/b+/c", "++", "a/+b", ""])
def test_mqtt_4_7_1_2_a_bad_filter_closes(dial: Dial, unique: str, filter: str) -> None:
    client = dial().connected(unique)
    client.send(subscribe(1, ("good", 0), (filter, 0)))
    assert client.closed() == []


@pytest.mark.parametrize("topic", ["a/+", "+", "a/#", "#", "a+b", "a#"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_2_2_a_publish_with_a_wildcard_closes(dial: Dial, unique: str, topic: str, qos: int) -> None:
    client = dial().connected(unique)
    client.send(publish(topic, b"x", qos=qos, id=1))
    assert client.closed() == []


def test_mqtt_4_7_3_1_an_empty_topic_closes(dial: Dial, unique: str) -> None:
    client = dial().connected(unique)
    client.send(publish("", b"x"))
    assert client.closed() == []


def test_mqtt_4_7_3_3_the_longest_topic(dial: Dial, unique: str) -> None:
    """65,535 bytes, the most that two bytes of length can say."""
    topic = (unique + "x" * 65_535)[:65_535]
    client = dial().connected(unique).subscribed((topic, 0))
    client.send(publish(topic, b"x"))
    assert client.publication() == Published(topic, b"x")


@pytest.mark.parametrize(
    "bad", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"a\x00b", b"\xf8\x88\x80\x80\x80", b"\xc3"]
)
@pytest.mark.parametrize("place", ["publish", "subscribe", "unsubscribe", "client id", "will topic", "user name"])
def test_mqtt_1_5_3_1_ill_formed_utf_8_closes(dial: Dial, unique: str, place: str, bad: bytes) -> None:
    """Surrogates, overlong forms, cut characters and [MQTT-1.5.3-2] U+0000, wherever text travels."""
    client = dial()
    head = text("MQTT") + b"\x04"
    if place == "client id":
        client.send(packet(0x10, head + b"\x02\x00\x00" + text(bad)))
    elif place == "will topic":
        client.send(packet(0x10, head + b"\x06\x00\x00" + text(unique) + text(bad) + text("will")))
    elif place == "user name":
        client.send(packet(0x10, head + b"\x82\x00\x00" + text(unique) + text(bad)))
    else:
        client.connected(unique)
        rest = {"publish": text(bad), "subscribe": b"\0\1" + text(bad) + b"\0", "unsubscribe": b"\0\1" + text(bad)}
        client.send(packet({"publish": 0x30, "subscribe": 0x82, "unsubscribe": 0xA2}[place], rest[place]))
    assert client.closed() == []


def test_mqtt_1_5_3_a_payload_is_bytes_and_nothing_else(dial: Dial, unique: str) -> None:
    payload = bytes(range(256))
    client = dial().connected(unique).subscribed((unique, 0))
    client.send(publish(unique, payload))
    assert client.publication().payload == payload


def test_unsubscribe_takes_a_filter_of_any_form(dial: Dial, unique: str) -> None:
    """The standard asks nothing of it but well-formed text: what was never granted just does not match."""
    client = dial().connected(unique)
    client.send(unsubscribe(1, "a#b", "+a"))
    client.expect(b"\xb0\x02\x00\x01")
