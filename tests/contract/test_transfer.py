"""What every transfer promises (`aldis.broker.cluster_ports.Transfer`), on all back ends."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
import pytest

from aldis.bridge.frames import ALL, Beat, Draft, Seal
from aldis.broker.cluster_ports import (
    Announced,
    AnyParcel,
    Attached,
    Detached,
    Inlined,
    Passed,
    SessionHanded,
    TakenOver,
    WakeUp,
)
from aldis.broker.core.session_state import SessionState
from aldis.broker.ports import AccessRevoked, RelationChanged
from tests.contract.transfers import HEARTBEAT, KEY, PEER_TIMEOUT, SILENCE, Nodes, eventually

ONE_OF_EACH: list[AnyParcel] = [
    WakeUp("bob", 7, (Inlined(6, 60, 1, "ann", "", b"{}"), Inlined(7, 70, 3, "cy", "phone", b'{"body":"\xc3\xa9"}'))),
    WakeUp("bob", 9),
    Passed("devices/bob/lamp", b"\x00\xff", 1, True),
    Passed("inbox/bob/typing/ann", b"{}"),
    Attached(("bob", "cy")),
    Detached(("bob",)),
    TakenOver("bob", "phone", 1 << 50, False),
    SessionHanded("bob", "phone", 3, False),
    SessionHanded("bob", "phone", 3, True, 2, False, SessionState(65_535, (("devices/#", 2),))),
    Announced(RelationChanged("ann", "bob"), 4),
    Announced(AccessRevoked("bob", session="s")),
]


def numbered(*numbers: int) -> list[AnyParcel]:
    return [WakeUp("bob", number) for number in numbers]


async def test_what_one_tick_sends_arrives_as_it_was_in_one_frame(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    for parcel in ONE_OF_EACH:
        ann.send("bob", parcel)
    await eventually(lambda: bool(at_bob.frames))
    assert at_bob.frames == [("ann", ONE_OF_EACH)]


async def test_every_other_node_is_told_and_only_the_named_one_is_sent_to(linked: Nodes) -> None:
    ann, at_ann, _, at_bob = await linked.pair()
    cy, at_cy = await linked.open("cy")
    await eventually(lambda: "cy" in ann.peers and "ann" in cy.peers)
    ann.tell(Attached(("all",)))
    ann.send("cy", Attached(("cy",)))
    ann.send("ann", Attached(("self",)))
    await eventually(lambda: len(at_cy.parcels("ann")) == 2 and bool(at_bob.parcels("ann")))
    await asyncio.sleep(2 * HEARTBEAT)
    assert at_bob.parcels("ann") == [Attached(("all",))]
    assert at_cy.parcels("ann") == [Attached(("all",)), Attached(("cy",))]
    assert at_ann.frames == []


async def test_what_is_sent_and_what_is_told_keep_their_order(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    expected = numbered(*range(600))
    for number, parcel in enumerate(expected):
        if number % 3:
            ann.send("bob", parcel)
        else:
            ann.tell(parcel)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: len(at_bob.parcels("ann")) == 600)
    assert at_bob.parcels("ann") == expected
    assert at_bob.count("missed", "ann") == 0


async def test_it_says_that_it_missed_what_came_before_it_listened(linked: Nodes) -> None:
    _, at_ann = await linked.open("ann")
    await asyncio.sleep(3 * HEARTBEAT)
    assert at_ann.events == [("missed", None)]


async def test_a_clean_link_misses_nothing(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    for number in range(200):
        ann.send("bob", WakeUp("bob", number))
        bob.tell(WakeUp("ann", number))
        await asyncio.sleep(0.001)
    cy, at_cy = await linked.open("cy")
    await eventually(lambda: {"ann", "bob"} <= set(cy.peers))
    ann.send("cy", WakeUp("cy", 1))
    await eventually(lambda: len(at_cy.parcels("ann")) == 1)
    await asyncio.sleep(3 * HEARTBEAT)
    for recorder in (at_ann, at_bob, at_cy):
        assert [event for event in recorder.events if event[0] == "missed"] == [("missed", None)]
    assert ann.figures.holes == bob.figures.holes == cy.figures.holes == 0
    assert not any(ann.figures.refused.values())


async def test_a_node_joins_before_its_first_parcel_and_is_gone_with_its_good_bye(linked: Nodes) -> None:
    _, at_ann, bob, _ = await linked.pair(peer_timeout=60.0)
    bob.tell(Attached(("b",)))
    await bob.close()
    await eventually(lambda: at_ann.count("gone", "bob") == 1, 2.0)
    assert at_ann.events == [("missed", None), ("joined", "bob"), ("parcel", "bob", Attached(("b",))), ("gone", "bob")]


@pytest.mark.alone
async def test_a_silent_node_is_gone_and_joins_again(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    heard = ann.peers["bob"]
    await eventually(lambda: ann.peers["bob"] > heard)
    linked.net.cut("bob")
    await asyncio.sleep(0.6 * PEER_TIMEOUT)
    assert at_ann.count("gone", "bob") == 0
    took = await eventually(lambda: at_ann.count("gone", "bob") == 1)
    assert took < PEER_TIMEOUT and "bob" not in ann.peers
    bob.tell(Attached(("lost",)))
    await asyncio.sleep(SILENCE + 3 * HEARTBEAT)
    linked.net.mend()
    await eventually(lambda: at_ann.count("joined", "bob") == 2 and at_ann.count("missed", "bob") == 1)
    assert at_bob.count("missed", None) == 2
    assert at_bob.count("gone", "ann") == 0, "who is deaf himself calls nobody gone"
    assert at_ann.parcels("bob") == []


async def test_another_process_of_a_node_joins(linked: Nodes) -> None:
    ann, at_ann, bob, _ = await linked.pair()
    linked.net.cut("bob")
    await asyncio.sleep(0.01)
    linked.net.mend()
    again, _ = await linked.open("bob")
    await eventually(lambda: at_ann.count("joined", "bob") == 2)
    again.tell(Attached(("younger",)))
    await eventually(lambda: at_ann.parcels("bob") == [Attached(("younger",))])
    bob.tell(Attached(("older",)))
    await eventually(lambda: ann.figures.refused["process"] > 0)
    assert at_ann.parcels("bob") == [Attached(("younger",))]


async def test_two_processes_of_one_name_are_an_error_in_the_log(
    linked: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    _, at_first, _, _ = await linked.pair()
    with caplog.at_level(logging.ERROR):
        second, at_second = await linked.open("ann")
        second.tell(Attached(("x",)))
        await eventually(lambda: second.figures.refused["name"] > 4)
    said = [record for record in caplog.records if "calls itself ann" in record.getMessage()]
    assert 1 <= len(said) <= 2, "once by each of the two"
    assert at_first.frames == at_second.frames == []


async def test_what_is_dropped_for_want_of_room_is_missed(linked: Nodes) -> None:
    ann, _, bob, at_bob = await linked.pair(max_waiting_bytes=4_000)
    cy, at_cy = await linked.open("cy")
    await eventually(lambda: "ann" in cy.peers and "cy" in bob.peers)
    for number in range(100):
        ann.send("bob", Passed(f"devices/{number}", bytes(100)))
    assert ann.figures.dropped > 50
    await eventually(lambda: at_bob.count("missed", "ann") >= 1, 10 * HEARTBEAT)
    arrived = 100 - ann.figures.dropped
    await eventually(lambda: len(at_bob.parcels("ann")) == arrived)
    assert at_bob.parcels("ann") == [Passed(f"devices/{number}", bytes(100)) for number in range(arrived)]
    ann.send("bob", Attached(("x",)))
    await eventually(lambda: len(at_bob.parcels("ann")) == arrived + 1)
    await asyncio.sleep(3 * HEARTBEAT)
    assert at_bob.count("missed", "ann") == 1
    assert at_cy.count("missed", "ann") == 0


async def test_more_than_a_frame_goes_into_several(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair(max_frame_size=4_096)
    sent: list[AnyParcel] = [Passed(f"devices/{number}", bytes(500)) for number in range(40)]
    for parcel in sent:
        ann.send("bob", parcel)
    await eventually(lambda: len(at_bob.parcels("ann")) == 40)
    assert at_bob.parcels("ann") == sent
    assert [len(parcels) for _, parcels in at_bob.frames] == [7] * 5 + [5]
    assert at_bob.count("missed", "ann") == 0


async def test_a_wake_up_that_is_too_large_loses_its_items_and_anything_else_is_missed(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair(max_frame_size=4_096)
    ann.send("bob", WakeUp("bob", 3, (Inlined(3, 30, 1, "ann", "", bytes(5_000)),)))
    ann.send("bob", Passed("devices/x", bytes(5_000)))
    ann.send("bob", WakeUp("bob", 4))
    await eventually(lambda: len(at_bob.parcels("ann")) == 2)
    assert at_bob.parcels("ann") == [WakeUp("bob", 3), WakeUp("bob", 4)]
    await eventually(lambda: at_bob.count("missed", "ann") == 1)
    assert (ann.figures.emptied, ann.figures.dropped) == (1, 1)


async def test_a_parcel_that_cannot_be_encoded_raises_nothing(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    ann.send("bob", Passed("devices/\ud800", b""))
    ann.send("bob", WakeUp("bob", 1 << 70))
    ann.send("bob", WakeUp("bob", 1))
    await eventually(lambda: at_bob.parcels("ann") == [WakeUp("bob", 1)])
    assert ann.figures.dropped == 2


async def test_a_cut_link_is_known_at_once_and_comes_back_by_itself(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    linked.net.cut()
    await eventually(lambda: not ann.connected and not bob.connected, HEARTBEAT)
    heard = ann.heard
    ann.send("bob", WakeUp("bob", 1))
    linked.net.mend()
    await eventually(lambda: ann.connected and bob.connected)
    assert ann.heard > heard
    assert at_ann.count("missed", None) == at_bob.count("missed", None) == 2
    ann.send("bob", WakeUp("bob", 2))
    await eventually(lambda: WakeUp("bob", 2) in at_bob.parcels("ann"))
    assert ann.figures.reconnects == 1


async def test_a_silent_link_is_known_after_the_silence_and_made_anew(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    linked.net.hold()
    held = asyncio.get_running_loop().time()
    await eventually(lambda: not ann.connected and not bob.connected, SILENCE + 3 * HEARTBEAT)
    assert ann.heard < held + HEARTBEAT
    await asyncio.sleep(SILENCE)
    assert not ann.connected
    linked.net.mend()
    await eventually(lambda: ann.connected and bob.connected)
    assert ann.heard > held + SILENCE
    assert at_ann.count("missed", None) >= 2 and at_bob.count("missed", None) >= 2
    assert at_ann.count("gone", "bob") == 0
    bob.tell(Attached(("after",)))
    await eventually(lambda: Attached(("after",)) in at_ann.parcels("bob"))


async def test_heard_is_when_the_heartbeat_was_sent(linked: Nodes) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    transfer = await linked.make("ann")
    assert not transfer.connected and transfer.heard == float("-inf") and not transfer.peers
    ann, _ = await linked.open("ann")
    assert before < ann.heard < loop.time()
    for _ in range(20):
        await asyncio.sleep(HEARTBEAT / 3)
        assert loop.time() - ann.heard < SILENCE and ann.connected


async def test_a_node_that_stood_still_is_not_connected_until_it_has_heard_itself_again(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    heard = ann.heard
    time.sleep(2 * SILENCE)
    stood = asyncio.get_running_loop().time()
    assert not ann.connected and not bob.connected and ann.heard == heard
    await eventually(lambda: ann.connected and bob.connected)
    assert ann.heard >= stood and ann.figures.reconnects == 0, "the link is as good as before"
    assert at_ann.count("gone", "bob") == at_bob.count("gone", "ann") == 0


async def test_a_receiver_that_fails_stops_nothing(linked: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    ann, _, _, at_bob = await linked.pair()
    at_bob.fails = True
    for number in range(3):
        ann.send("bob", WakeUp("bob", number))
        await eventually(lambda number=number: len(at_bob.parcels("ann")) == number + 1)  # type: ignore[misc]
    assert len([record for record in caplog.records if "receiver of parcels failed" in record.getMessage()]) == 1
    assert at_bob.count("missed", "ann") == 0


def frame(source: str, target: str, number: int, *, incarnation: int | None = None, age: float = 0.0) -> Draft:
    now = time.time_ns() // 1_000_000
    parcels = [msgspec.Raw(msgspec.msgpack.encode(WakeUp("forged", number)))]
    return Draft(source, incarnation or now, target, number, {}, now - round(age * 1_000), parcels, [])


async def test_only_fresh_frames_of_the_cluster_for_us_are_taken(linked: Nodes) -> None:
    ann, at_ann = await linked.open("ann", max_frame_age=5.0)
    seal, put = Seal(KEY), linked.net.put
    good = seal.closed(frame("eve", "ann", 1, incarnation=5))
    refused = {
        "digest": [Seal(b"another key").closed(frame("eve", "ann", 1)), good[:-1], good[:-1] + b"\x55", good[:10]],
        "version": [b"\x02" + good[1:]],
        "target": [seal.closed(frame("eve", "bob", 1))],
        "age": [seal.closed(frame("eve", ALL, 1, age=6.0)), seal.closed(frame("eve", ALL, 1, age=-6.0))],
        "malformed": [seal.closed(msgspec.structs.replace(frame("eve", "ann", 1), number="x"))],
    }
    for reason, frames in refused.items():
        for data in frames:
            put("ann", data)
        expected = len(frames)
        await eventually(lambda reason=reason, expected=expected: ann.figures.refused[reason] == expected)  # type: ignore[misc]
    assert at_ann.events == [("missed", None)]
    put("ann", good)
    await eventually(lambda: at_ann.parcels("eve") == [WakeUp("forged", 1)])
    put("ann", good)
    put("ann", seal.closed(frame("eve", "ann", 9, incarnation=4)))
    await eventually(lambda: ann.figures.refused["repeat"] == ann.figures.refused["process"] == 1)
    assert at_ann.parcels("eve") == [WakeUp("forged", 1)]


async def test_a_heartbeat_played_again_keeps_nobody_alive(linked: Nodes) -> None:
    ann, at_ann = await linked.open("ann")
    now = time.time_ns() // 1_000_000
    beat = Seal(KEY).closed(Draft("eve", now, ALL, 1, {}, now, [], [Beat(0.0)]))
    for _ in range(100):
        linked.net.put(ALL, beat)
        await asyncio.sleep(PEER_TIMEOUT / 30)
        if at_ann.count("gone", "eve"):
            break
    assert at_ann.events[1:] == [("joined", "eve"), ("gone", "eve")]
    assert "eve" not in ann.peers


async def test_closing_sends_what_waits_and_leaves_nothing_behind(linked: Nodes) -> None:
    _, _, _, at_bob = await linked.pair()
    before = asyncio.all_tasks()
    ann, _ = await linked.open("cy")
    await eventually(lambda: at_bob.count("joined", "cy") == 1)
    assert len(asyncio.all_tasks() - before) <= 4, "one of its own, three of the proxy"
    for number in range(1_000):
        ann.send("bob", WakeUp("bob", number))
    await ann.close()
    await ann.close()
    ann.send("bob", WakeUp("late", 1))
    ann.tell(WakeUp("late", 1))
    assert not ann.connected and not await ann.settled(0.01)
    await eventually(lambda: at_bob.count("gone", "cy") == 1)
    assert at_bob.parcels("cy") == numbered(*range(1_000))
    await eventually(lambda: not asyncio.all_tasks() - before)


async def test_closing_sends_what_waits_after_a_broken_link_too(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    linked.net.cut("ann")
    await eventually(lambda: not ann.connected)
    linked.net.mend()
    await eventually(lambda: ann.connected)
    for number in range(3_000):
        ann.send("bob", WakeUp("bob", number, (Inlined(number, number, 1, "ann", "", bytes(5_000)),)))
    await ann.close()
    await eventually(lambda: at_bob.count("gone", "ann") == 1)
    assert len(at_bob.parcels("ann")) == 3_000


async def test_a_transfer_that_was_never_opened_can_be_closed(linked: Nodes) -> None:
    transfer = await linked.make("ann")
    transfer.send("bob", WakeUp("bob", 1))
    transfer.tell(WakeUp("bob", 1))
    await transfer.close()


async def test_it_opens_without_anybody_there_and_sends_when_it_can(linked: Nodes) -> None:
    _, at_bob = await linked.open("bob")
    ann = await linked.make("ann")
    linked.net.cut("ann")
    await ann.open(type(at_bob)())
    ann.tell(Attached(("early",)))
    await asyncio.sleep(HEARTBEAT)
    assert not ann.connected
    linked.net.mend()
    await eventually(lambda: at_bob.parcels("ann") == [Attached(("early",))])
    await ann.close()


async def test_what_waits_longer_than_the_silence_is_dropped_and_missed(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    linked.net.cut("ann")
    await eventually(lambda: not ann.connected)
    ann.send("bob", WakeUp("bob", 1))
    await asyncio.sleep(SILENCE + 3 * HEARTBEAT)
    assert ann.figures.dropped == 1
    linked.net.mend()
    await eventually(lambda: at_bob.count("missed", "ann") == 1)
    assert at_bob.parcels("ann") == []
