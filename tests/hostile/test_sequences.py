"""Packets that no honest client sends, in orders that no honest client chooses. For each: what must happen; that the
node stays up and a conversation beside it is untouched, the fixture `arena` asserts after every test."""

from __future__ import annotations

import struct

import pytest

from tests.hostile.conftest import Arena
from tests.hostile.recipes import over_long
from tests.people import people
from tests.wire import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    Will,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    refused,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

ENDS = {
    "a second CONNECT": connect("one"),
    "packet id 0 in PUBLISH": publish("x/y", b"", qos=1, id=0),
    "packet id 0 in PUBLISH 2": publish("x/y", b"", qos=2, id=0),
    "packet id 0 in SUBSCRIBE": subscribe(0, ("x/y", 0)),
    "packet id 0 in UNSUBSCRIBE": unsubscribe(0, "x/y"),
    "packet id 0 in PUBACK": puback(0),
    "packet id 0 in PUBREC": pubrec(0),
    "packet id 0 in PUBREL": pubrel(0),
    "packet id 0 in PUBCOMP": pubcomp(0),
    "QoS 3 in PUBLISH": packet(0x36, text("x/y") + b"\0\1"),
    "QoS 3 in SUBSCRIBE": subscribe(1, ("x/y", 3)),
    "reserved flags of PUBREL": b"\x60\x02\x00\x01",
    "reserved flags of SUBSCRIBE": b"\x80" + subscribe(1, ("x/y", 0))[1:],
    "reserved flags of PINGREQ": b"\xc4\x00",
    "reserved bits of a QoS": packet(0x82, b"\0\1" + text("x/y") + b"\x41"),
    "a remaining length of five bytes": b"\x32\xff\xff\xff\xff\x01",
    "a remaining length of five zeros": b"\x32\x80\x80\x80\x80\x00",
    "a packet only servers send": suback(1, 0),
}


@pytest.mark.parametrize("bad", ENDS.values(), ids=ENDS)
def test_what_breaks_the_protocol_ends_its_connection_unanswered(arena: Arena, bad: bytes) -> None:
    client = arena.client()
    client.send(PINGREQ, bad, PINGREQ)
    assert client.closed() == [PINGRESP]


ANSWERED = {
    "PUBACK out of nowhere": (puback(77), []),
    "PUBREC out of nowhere": (pubrec(77), [pubrel(77)]),
    "PUBREL out of nowhere": (pubrel(77), [pubcomp(77)]),
    "PUBCOMP out of nowhere": (pubcomp(77), []),
    "every packet id acknowledged": (b"".join(map(puback, range(1, 65_536))), []),
    "unsubscribing what was never subscribed": (unsubscribe(9, "never/was", "#"), [unsuback(9)]),
    "a length in more bytes than it needs": (b"\xc0" + over_long(PINGREQ), [PINGRESP]),
    "a thousand pings at once": (PINGREQ * 1_000, [PINGRESP] * 1_000),
}


@pytest.mark.parametrize(("odd", "answer"), ANSWERED.values(), ids=ANSWERED)
def test_what_is_only_odd_is_answered_and_the_connection_goes_on(arena: Arena, odd: bytes, answer: list[bytes]) -> None:
    client = arena.client()
    client.send(odd)
    client.expect(*answer)
    client.nothing()


BAD_TEXT = {
    "U+0000": b"a\0b",
    "a lone surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "an overlong slash": b"\xc0\xaf",
    "a cut sequence": b"a\xe2\x82",
    "0xff": b"\xff",
}


def fields(bad: bytes) -> dict[str, bytes]:
    """Every field in which a client says text; in the first three it is connected already."""

    def in_connect(flags: int, *parts: bytes) -> bytes:
        return packet(0x10, text("MQTT") + bytes((4, flags)) + b"\0\0" + b"".join(parts))

    return {
        "topic": packet(0x32, text(bad) + b"\0\1"),
        "filter": packet(0x82, struct.pack("!H", 1) + text("x/y") + b"\0" + text(bad) + b"\0"),
        "filter to leave": packet(0xA2, struct.pack("!H", 1) + text(bad)),
        "client identifier": in_connect(0x02, text(bad)),
        "user name": in_connect(0xC2, text("one"), text(bad), text("p")),
        "will topic": in_connect(0x06, text("one"), text(bad), text("w")),
    }


@pytest.mark.parametrize("bad", BAD_TEXT.values(), ids=BAD_TEXT)
@pytest.mark.parametrize("field", fields(b""))
def test_what_is_no_text_ends_its_connection(arena: Arena, field: str, bad: bytes) -> None:
    client = arena.dial() if field in ("client identifier", "user name", "will topic") else arena.client()
    client.send(fields(bad)[field], PINGREQ)
    assert client.closed() == []


def test_what_follows_a_disconnect_is_not_read(arena: Arena, name: str) -> None:
    """Nor is the will published: the client has said goodbye [MQTT-3.14.4-3]."""
    topic = f"{arena.home}/{name}"
    watcher = arena.client("watcher").subscribed((topic, 1))
    client = arena.client(will=Will(topic, b"will", 1))
    client.send(publish(topic, b"before"), DISCONNECT, publish(topic, b"after"), subscribe(1, (topic, 0)), PINGREQ)
    assert client.closed() == []
    assert watcher.take().payload == b"before"
    watcher.nothing()


def test_a_packet_id_used_twice_at_qos_2_is_one_message(arena: Arena, name: str) -> None:
    topic = f"{arena.home}/{name}"
    watcher = arena.client("watcher").subscribed((topic, 2))
    client = arena.client()
    client.send(*(publish(topic, str(i).encode(), qos=2, id=5) for i in range(20)))
    client.expect(*[pubrec(5)] * 20)
    client.send(pubrel(5), pubrel(5))
    client.expect(pubcomp(5), pubcomp(5))
    assert watcher.take().payload == b"0"
    watcher.nothing()


def test_qos_2_that_is_never_released_is_bounded_by_the_packet_ids(lab: Arena, name: str) -> None:
    """Every id once, never a PUBREL, then all of them again: no more memory for the second round than for nothing."""
    client = lab.client()

    def flood() -> None:
        for start in range(1, 65_536, 5_000):
            ids = range(start, min(start + 5_000, 65_536))
            client.send(*(publish(f"x/{name}", qos=2, id=id) for id in ids))
            client.expect(*map(pubrec, ids))

    flood()
    before = lab.server.memory()
    flood()
    assert lab.server.memory() - before < 4_000_000


def test_ten_thousand_filters_in_one_subscribe(arena: Arena) -> None:
    """As many as a session may have are granted, the rest is refused one by one, in order; and they can all be left."""
    filters = [f"{arena.home}/{number}" for number in range(10_000)]
    client = arena.client()
    client.send(subscribe(3, *((filter, 0) for filter in filters)))
    client.expect(suback(3, *[0] * 1_000, *[0x80] * 9_000))
    client.send(publish(filters[999], b"granted"), publish(filters[1_000], b"refused"))
    assert client.publication().payload == b"granted"
    client.nothing()
    client.send(unsubscribe(4, *filters))
    client.expect(unsuback(4))
    client.send(publish(filters[999], b"left"))
    client.nothing()


def test_dollar_topics_are_the_servers_own(arena: Arena) -> None:
    """What a client publishes to `$SYS` reaches nobody and is not retained; no leading wildcard reads a `$` topic."""
    watcher = arena.client("watcher")
    watcher.send(subscribe(1, ("$SYS/hostile/#", 1)))
    assert watcher.packet()[-1] in (1, 0x80)
    client = arena.client()
    client.send(publish("$SYS/hostile/x", b"forged", qos=1, id=5, retain=True))
    client.expect(puback(5))
    watcher.nothing()
    watcher.send(subscribe(2, ("$SYS/hostile/#", 1)))
    watcher.packet()
    watcher.nothing()


def test_a_will_to_the_servers_own_topics_reaches_nobody(arena: Arena, name: str) -> None:
    watcher = arena.client("watcher")
    watcher.send(subscribe(1, ("$SYS/hostile/#", 1)))
    watcher.packet()
    client = arena.dial()
    client.send(arena.connect("one", will=Will("$SYS/hostile/will", b"forged", 1, True)))
    client.packet()
    client.close()
    with arena.server.tcp() as other:  # the end of the one before is seen by then
        other.send(arena.connect("two"))
        other.packet()
        other.nothing()
    watcher.nothing()


def test_a_stolen_client_identifier_steals_nothing(embedded: Arena, name: str) -> None:
    """With a wrong password it is refused before anything of the session is touched; with another account it is
    another session."""
    assert embedded.person is not None
    topic = f"{embedded.home}/{name}"
    victim = embedded.client("victim", clean=False).subscribed((topic, 1))
    thief = embedded.dial()
    thief.send(connect("victim", user=embedded.person.user, password="wrong", clean=True, will=Will(topic, b"forged")))
    assert thief.closed() == [refused(5)]
    (other,) = people(embedded.server, "thief")
    with other.dial("victim") as second:
        second.caught_up()
        victim.nothing()
        writer = embedded.client("one")
        writer.published(topic, b"for the victim alone")
        assert victim.take().payload == b"for the victim alone"
        second.caught_up()
        assert second.journal == []
