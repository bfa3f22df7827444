"""One case for each rule of frames, where the model of `test_frames_model` shows that they hold together."""

from __future__ import annotations

import pytest

from aldis.bridge.frames import ALL, Asked, Bye, Draft, Frame, Seal, TransferFigures
from aldis.bridge.frames_in import Inbound, Taken
from aldis.bridge.frames_out import MAX_TARGETS, SMALLEST_FRAME, Outbound
from aldis.broker.cluster_ports import Inlined, Passed, WakeUp

SEAL = Seal(b"key")
NOW = 1_700_000_000_000


def outbound(*, source: str = "a", incarnation: int = 1, size: int = 4_096, waiting: int = 1 << 20) -> Outbound:
    return Outbound(source, incarnation, SEAL, TransferFigures(), max_frame_size=size, max_waiting_bytes=waiting)


def inbound(node: str = "b", *, incarnation: int = 1, max_age: int = 30_000) -> Inbound:
    return Inbound(node, incarnation, SEAL, TransferFigures(), max_age=max_age)


def sent(out: Outbound, target: str = "b", number: int = 1) -> bytes:
    out.add(target, WakeUp("u", number))
    frame = out.next(NOW)
    assert frame is not None
    return frame[1]


def take(receiver: Inbound, data: bytes, *, now: int = NOW, moment: float = 0.0) -> Taken:
    taken = receiver.take(data, now, moment)
    assert isinstance(taken, Taken)
    return taken


def opened(data: bytes) -> Frame:
    frame = SEAL.opened(data)
    assert isinstance(frame, Frame)
    return frame


def test_a_key_is_needed_and_may_be_long() -> None:
    with pytest.raises(ValueError, match="key"):
        Seal(b"")
    draft = Draft("a", 1, "b", 1, {}, NOW, [], [])
    keys = [b"k" * 63, b"k" * 64, b"k" * 65, b"k" * 65 + b"x"]
    for key in keys:
        data = Seal(key).closed(draft)
        assert [isinstance(Seal(other).opened(data), Frame) for other in keys] == [other == key for other in keys]


def test_every_byte_of_a_frame_is_sealed() -> None:
    data = sent(outbound())
    for place in range(len(data)):
        for changed in (data[:place], data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :]):
            assert SEAL.opened(changed) in ("digest", "version")


@pytest.mark.parametrize("target", ["b", ALL])
def test_a_lost_frame_is_missed_with_the_next_one_whatever_its_target(target: str) -> None:
    for following in ("b", ALL):
        out, receiver = outbound(), inbound()
        assert not take(receiver, sent(out)).missed
        sent(out, target)
        assert take(receiver, sent(out, following)).missed
        assert not take(receiver, sent(out)).missed


def test_a_lost_last_frame_is_missed_with_the_heartbeat() -> None:
    out, receiver = outbound(), inbound()
    take(receiver, sent(out))
    sent(out)
    taken = take(receiver, out.beat(1.5, NOW))
    assert taken.missed and taken.parcels == []


def test_the_first_frame_says_where_both_streams_stand() -> None:
    for first in ("b", ALL):
        out, receiver = outbound(), inbound()
        for target in ("b", ALL, "b", "c"):
            sent(out, target)
        taken = take(receiver, sent(out, first))
        assert (taken.joined, taken.missed) == (True, False)
        assert not take(receiver, sent(out, "b")).missed
        assert not take(receiver, sent(out, ALL)).missed


def test_what_was_overtaken_is_refused() -> None:
    out, receiver = outbound(), inbound()
    take(receiver, sent(out))
    late, to_all = sent(out), sent(out, ALL)
    assert take(receiver, to_all).missed
    assert receiver.take(late, NOW, 0.0) == "repeat"


def test_time_is_taken_within_the_age_and_not_beyond() -> None:
    data = sent(outbound())
    for now, expected in ((NOW + 30_000, True), (NOW - 30_000, True), (NOW + 30_001, False), (NOW - 30_001, False)):
        assert isinstance(inbound().take(data, now, 0.0), Taken) is expected


def test_a_younger_process_begins_at_one_and_an_older_one_is_refused() -> None:
    old, young, receiver = outbound(incarnation=1), outbound(incarnation=2), inbound()
    take(receiver, sent(old))
    lost = sent(young)
    taken = take(receiver, sent(young))
    assert taken.joined and taken.missed
    assert receiver.take(lost, NOW, 0.0) == "repeat"
    assert receiver.take(sent(old), NOW, 0.0) == "process"


def test_our_own_frames_come_back_once() -> None:
    out, receiver = outbound(source="b"), inbound()
    beat = out.beat(1.5, NOW)
    taken = take(receiver, beat)
    assert taken.own and receiver.alive == {}
    assert receiver.take(beat, NOW, 0.0) == "repeat"
    assert receiver.take(outbound(source="b", incarnation=2).beat(1.0, NOW), NOW, 0.0) == "name"


def test_who_is_silent_is_gone_and_forgotten_when_nothing_of_it_could_be_taken_again() -> None:
    out, receiver = outbound(), inbound(max_age=30_000)
    take(receiver, sent(out), moment=100.0)
    assert receiver.silent(105.0, 0.0, 5.0) == [] and receiver.alive == {"a": 100.0}
    assert receiver.silent(105.1, 101.0, 5.0) == []
    assert receiver.silent(106.1, 101.0, 5.0) == ["a"] and receiver.alive == {}
    assert receiver.silent(160.0, 0.0, 5.0) == []
    older = outbound(incarnation=0)
    assert receiver.take(sent(older), NOW, 160.0) == "process"
    assert receiver.silent(160.1, 0.0, 5.0) == []
    assert take(receiver, sent(older), moment=160.2).joined


def test_who_was_gone_joins_again_and_what_it_said_meanwhile_is_missed() -> None:
    out, receiver = outbound(), inbound()
    take(receiver, sent(out))
    assert receiver.leave("a") and not receiver.leave("a") and not receiver.leave("nobody")
    sent(out)
    taken = take(receiver, sent(out))
    assert taken.joined and taken.missed and "a" in receiver.alive


def test_it_is_whole_after_the_newest_hole_in_what_was_told() -> None:
    out, receiver = outbound(), inbound()
    sent(out, ALL)
    take(receiver, sent(out, ALL), moment=1.0)
    assert receiver.whole_from("a", 1.0, 5.0) == 2
    sent(out)
    take(receiver, sent(out), moment=2.0)
    assert receiver.whole_from("a", 2.0, 5.0) == 2, "what was sent to us alone was not told"
    sent(out, ALL)
    take(receiver, sent(out), moment=3.0)
    assert receiver.whole_from("a", 3.0, 5.0) == 4
    sent(out, ALL)
    take(receiver, sent(out, ALL), moment=4.0)
    assert receiver.whole_from("a", 9.0, 5.0) == 5
    assert receiver.whole_from("a", 9.1, 5.0) == 0


def test_no_frame_is_larger_than_allowed() -> None:
    for size in (SMALLEST_FRAME, 5_000):
        for target in ("b", ALL, "n" * 64):
            out = outbound(source="m" * 64, incarnation=NOW, size=size)
            for name in range(20):
                sent(out, f"{name:x>20}")
            for number in range(300):
                out.add(target, WakeUp("u", number, (Inlined(number, number, 1, "p", "", bytes(number)),)))
                out.note(target, Asked(1 << 40))
            total = 0
            while (frame := out.next(NOW)) is not None:
                assert len(frame[1]) <= size
                total += len(opened(frame[1]).parcels)
            assert total == 300
            assert out.waiting_bytes == 0


def test_too_small_a_frame_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="1024"):
        outbound(size=SMALLEST_FRAME - 1)


def test_what_waits_is_bounded_in_bytes_notes_included() -> None:
    out = outbound(waiting=1_000)
    for _ in range(1_000):
        out.add("b", Passed("t", bytes(50)))
        out.note("c", Asked(1))
    assert 900 < out.waiting_bytes <= 1_000
    out.drop_waiting()
    assert out.waiting_bytes == 0 and not out and out.next(NOW) is None


def test_a_node_that_is_forgotten_and_comes_back_finds_its_numbers_higher() -> None:
    out, receiver = outbound(), inbound()
    for number in range(5):
        take(receiver, sent(out, "b", number))
    for number in range(MAX_TARGETS):
        sent(out, f"node-{number}")
    assert "b" not in opened(out.beat(0.0, NOW)).stands
    assert len(opened(out.beat(0.0, NOW)).stands) == MAX_TARGETS
    assert take(receiver, sent(out, "b", 9)).parcels == [WakeUp("u", 9)]


def test_a_good_bye_goes_ahead_and_has_a_number() -> None:
    out, receiver = outbound(), inbound()
    take(receiver, sent(out))
    out.add("b", WakeUp("u", 1))
    taken = take(receiver, out.at_once(Bye(), NOW))
    assert taken.notes == [Bye()] and not taken.missed
