"""The queue of plain messages: bounded in number and bytes, by either rule, and sent in small helpings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.packets import Message
from aldis.broker.core.session import QueueRule, Session
from tests.wire import published


def session(queue: int, rule: QueueRule, window: int = 2) -> Session:
    return Session("alice", "phone", clean=False, max_inflight=window, max_queued=queue, rule=rule)


def waiting(one: Session) -> list[bytes]:
    return [message.payload for message, _ in one.queue or ()]


@given(st.integers(1, 6), st.integers(1, 30), st.booleans(), st.lists(st.integers(0, 12), max_size=60))
def test_the_bounds_hold_and_the_rule_says_who_goes(number: int, room: int, oldest: bool, sizes: list[int]) -> None:
    away = session(number, QueueRule(max_bytes=room, drop_oldest=oldest))
    model: list[bytes] = []
    dropped = 0
    for index, size in enumerate(sizes):
        payload = bytes((index,)) * size
        while oldest and model and (len(model) >= number or sum(map(len, model)) + size > room):
            model.pop(0)
            dropped += 1
        fits = len(model) < number and sum(map(len, model)) + size <= room
        if fits:
            model.append(payload)
        dropped += not fits
        assert away.deliver(Message("t", payload), 1) == fits
        assert waiting(away) == model
    assert away.dropped == dropped
    assert len(model) <= number and sum(map(len, model)) <= room


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 60), st.integers(1, 5))
def test_everything_queued_is_sent_in_order_by_acknowledgements_alone(
    sizes: list[int], burst: int, window: int
) -> None:
    """However small the helpings are: nobody is left waiting, and room in the queue comes back."""
    one = session(1_000, QueueRule(max_bytes=3_000, burst=burst), window)
    payloads = [index.to_bytes(2, "big") + bytes(size) for index, size in enumerate(sizes)]
    for payload in payloads:
        assert one.deliver(Message("t", payload), 1)
    out: list[bytes] = []
    one.resume(out)
    seen: list[bytes] = []
    while True:
        wire = b"".join(out)
        out.clear()
        packets = list(split(wire))
        if not packets:
            break
        found = [published(packet) for packet in packets]
        assert sum(len(one.payload) for one in found[:-1]) < burst or len(found) <= window
        for publication in found:
            seen.append(publication.payload)
            one.acknowledged(publication.id)
    assert seen == payloads
    assert one.queue is None and not one.inflight
    assert one.deliver(Message("t", bytes(3_000)), 1), "the bytes of what was sent still count"


def split(wire: bytes) -> list[bytes]:
    found = []
    while wire:
        size = 2 + wire[1]
        found.append(wire[:size])
        wire = wire[size:]
    return found


@pytest.mark.parametrize("oldest", [False, True])
def test_a_message_larger_than_the_whole_queue_is_dropped(oldest: bool) -> None:
    one = session(10, QueueRule(max_bytes=10, drop_oldest=oldest))
    assert one.deliver(Message("t", bytes(10)), 1)
    assert not one.deliver(Message("t", bytes(11)), 1)
    assert waiting(one) == ([] if oldest else [bytes(10)])


def test_sending_again_is_bounded_by_bytes_from_the_oldest_on() -> None:
    one = session(10, QueueRule(), window=10)
    out: list[bytes] = []
    one.resume(out)
    for number in range(5):
        one.deliver(Message("t", bytes((number,)) * 40), 1 + number % 2)
    for allowance, count in ((1, 1), (40, 1), (41, 2), (10_000, 5), (None, 5)):
        out.clear()
        one.send_again(allowance)
        found = [published(packet) for packet in split(b"".join(out))]
        assert [packet.payload[0] for packet in found] == list(range(count))
        assert all(packet.dup for packet in found)
