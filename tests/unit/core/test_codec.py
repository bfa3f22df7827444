"""The codec as a whole: any bytes, in any pieces, give the same packets and the same failure, never an exception."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.core.codec import Decoder, TopicCache
from aldis.broker.core.packets import Message, Packet, Pingreq
from aldis.broker.core.reasons import CloseReason
from tests import wire

LIMIT = 300
PING = wire.PINGREQ


def decoder(limit: int = LIMIT, levels: int = 8) -> Decoder:
    return Decoder(limit, TopicCache(levels))


def outcome(used: Decoder, packets: list[Packet]) -> tuple[list[Packet], tuple[CloseReason, str] | None, int]:
    failure = used.failure
    return packets, None if failure is None else (failure.reason, failure.detail), used.buffered


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0+#/"), min_size=1, max_size=6)
levels = st.sampled_from(["a", "b", "", "é", "inbox"]) | texts
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
ids = st.integers(1, 0xFFFF)
payloads = st.binary(max_size=20) | st.integers(100, 160).map(bytes)
publishes = st.builds(
    lambda topic, payload, qos, id, retain, dup: wire.publish(
        topic, payload, qos=qos, id=id, retain=retain, dup=dup and qos > 0
    ),
    topics,
    payloads,
    st.integers(0, 2),
    ids,
    st.booleans(),
    st.booleans(),
)
connects = st.builds(
    lambda client, user, password, will, keep: wire.connect(
        client, user=user, password=password if user is not None else None, will=will, keep_alive=keep
    ),
    texts,
    st.none() | texts,
    st.none() | texts,
    st.none() | st.builds(wire.Will, topics, payloads, st.integers(0, 2), st.booleans()),
    st.integers(0, 0xFFFF),
)
filters = st.lists(st.tuples(topics, st.integers(0, 2)), min_size=1, max_size=4)
valid = st.one_of(
    publishes,
    connects,
    st.builds(lambda id, chosen: wire.subscribe(id, *chosen), ids, filters),
    st.builds(lambda id, chosen: wire.unsubscribe(id, *(name for name, _ in chosen)), ids, filters),
    st.sampled_from([wire.puback, wire.pubrec, wire.pubrel, wire.pubcomp]).flatmap(ids.map),
    st.sampled_from([PING, wire.DISCONNECT]),
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A packet with one byte changed, left out or put in."""
    packet = bytearray(draw(valid))
    place = draw(st.integers(0, len(packet) - 1))
    match draw(st.sampled_from(["change", "drop", "insert"])):
        case "change":
            packet[place] = draw(st.integers(0, 255))
        case "drop":
            del packet[place]
        case _:
            packet.insert(place, draw(st.integers(0, 255)))
    return bytes(packet)


streams = st.lists(valid | valid | spoilt() | st.binary(max_size=12), max_size=6).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(streams, st.data(), st.sampled_from([1, 130, 140, LIMIT]))
def test_the_pieces_in_which_bytes_come_change_nothing(data: bytes, drawn: st.DataObject, limit: int) -> None:
    whole = decoder(limit)
    expected = outcome(whole, whole.feed(data))
    pieces = decoder(limit)
    packets: list[Packet] = []
    for piece in in_pieces(data, drawn.draw(st.lists(st.integers(0, len(data)), max_size=8))):
        packets += pieces.feed(piece)
        assert pieces.buffered <= max(limit, 129)
    assert outcome(pieces, packets) == expected
    single = decoder(limit)
    assert outcome(single, [packet for byte in data for packet in single.feed(bytes((byte,)))]) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(valid, max_size=8))
def test_every_valid_packet_is_found(packets: list[bytes]) -> None:
    used = decoder(1_000_000)
    assert len(used.feed(b"".join(packets))) == len(packets)
    assert used.failure is None
    assert used.buffered == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise(data: bytes) -> None:
    used = decoder()
    used.feed(data)
    assert used.buffered <= min(len(data), LIMIT)


def test_every_cut_through_packets_with_long_lengths() -> None:
    data = PING.join(
        [b"", wire.publish("a/b", bytes(200), qos=1, id=5), wire.publish("a/b", bytes(60), qos=2, id=6), b""]
    )
    whole = decoder().feed(data)
    assert len(whole) == 5
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            used = decoder()
            found = used.feed(data[:first]) + used.feed(data[first:second]) + used.feed(data[second:])
            assert (found, used.failure, used.buffered) == (whole, None, 0)


def test_what_comes_before_a_failure_is_given_and_nothing_after_it() -> None:
    used = decoder()
    assert used.feed(PING + PING + b"\x00\x00" + PING) == [Pingreq(), Pingreq()]
    failure = used.failure
    assert failure is not None and failure.reason is CloseReason.MALFORMED
    assert used.feed(PING) == []
    assert used.failure is failure
    assert used.buffered == 0


def test_a_packet_that_is_too_large_is_refused_by_its_length_alone() -> None:
    for limit in (131, 500, 20_000):
        exactly = wire.publish("t", bytes(limit - 1 - len(wire.length(limit - 3)) - 3))
        assert len(exactly) == limit
        assert len(decoder(limit).feed(exactly)) == 1
        one_more = wire.publish("t", bytes(limit - len(wire.length(limit - 3)) - 3))
        assert len(one_more) == limit + 1
        for size in (len(one_more), 5):  # whole, or only its first bytes: the length is enough
            used = decoder(limit)
            assert used.feed(one_more[:size]) == []
            assert used.failure is not None and used.failure.reason is CloseReason.PACKET_TOO_LARGE
            assert used.buffered == 0


def test_a_length_of_one_byte_is_never_too_large() -> None:
    """A limit below 129 counts as 129: it costs nothing, and the answer must not depend on the pieces."""
    packet = wire.publish("t", bytes(124))
    assert len(packet) == 129
    whole, pieces = decoder(100), decoder(100)
    assert whole.feed(packet) == pieces.feed(packet[:50]) + pieces.feed(packet[50:]) != []


def test_a_trickle_of_200_kib_costs_no_more_than_its_bytes() -> None:
    """The same number of bytes, one at a time, in one packet and in many: who looked at a packet again with each byte,
    or copied what is there, would need many times as long for the one."""

    def seconds(packet: bytes, times: int) -> float:
        pieces = [packet[i : i + 1] for i in range(len(packet))] * times
        used = decoder(1_000_000)
        started = time.process_time()
        found = [packet for piece in pieces for packet in used.feed(piece)]
        elapsed = time.process_time() - started
        assert len(found) == times
        return elapsed

    small = wire.publish("a/b", bytes(3_200), qos=1, id=1)
    large = wire.publish("a/b", bytes(64 * 3_200), qos=1, id=1)
    runs = [(seconds(small, 64), seconds(large, 1)) for _ in range(3)]
    assert min(run[1] for run in runs) < 4 * min(run[0] for run in runs)


def test_a_topic_is_checked_once_and_its_memory_is_bounded() -> None:
    topics = TopicCache(8)
    used = Decoder(100_000, topics)
    for number in range(10_050):
        used.feed(wire.publish(f"t/{number}"))
    assert used.failure is None
    assert 0 < len(topics.known) <= 10_000
    long_topic = "l" * 257
    (packet,) = used.feed(wire.publish(long_topic))
    assert isinstance(packet, Message) and packet.topic == long_topic
    assert long_topic.encode() not in topics.known
    cached = b"known/topic"
    used.feed(wire.publish("known/topic"))
    assert topics.known[cached] == "known/topic"
