"""`settled`: when what was told has been handled everywhere, on all back ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from aldis.broker.cluster_ports import Passed, WakeUp
from tests.contract.transfers import HEARTBEAT, PEER_TIMEOUT, Nodes, Recorder, eventually


async def test_everybody_has_handled_what_was_told(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    _, at_cy = await linked.open("cy")
    await eventually(lambda: "cy" in ann.peers)
    for number in range(3):
        ann.tell(WakeUp("x", number))
        assert await ann.settled(5.0)
        assert at_bob.parcels("ann")[-1] == at_cy.parcels("ann")[-1] == WakeUp("x", number)
    assert all(await asyncio.gather(*(ann.settled(5.0) for _ in range(20))))


@pytest.mark.alone
async def test_alone_one_is_soon_settled_after_everybody_could_have_been_heard(linked: Nodes) -> None:
    ann, _ = await linked.open("ann", heartbeat=0.2, silence=2.0)
    ann.tell(WakeUp("x", 1))
    began = time.monotonic()
    assert await ann.settled(5.0)
    assert 0.25 < time.monotonic() - began < 2.0
    assert await ann.settled(0.1)


async def test_who_is_not_heard_yet_is_waited_for(linked: Nodes) -> None:
    _, at_bob = await linked.open("bob")
    ann = await linked.make("ann")
    await ann.open(Recorder())
    ann.tell(WakeUp("x", 1))
    assert await ann.settled(5.0)
    assert at_bob.parcels("ann") == [WakeUp("x", 1)]
    await ann.close()


async def test_nothing_is_settled_before_there_is_a_link(linked: Nodes) -> None:
    ann = await linked.make("ann")
    linked.net.cut("ann")
    await ann.open(Recorder())
    assert not await ann.settled(0.2)
    await ann.close()


@pytest.mark.alone
async def test_nothing_is_settled_without_a_link(linked: Nodes) -> None:
    ann, _, _, _ = await linked.pair()
    linked.net.cut()
    ann.tell(WakeUp("x", 1))
    began = time.monotonic()
    assert not await ann.settled(0.3)
    assert 0.25 < time.monotonic() - began < 2.0


async def test_nothing_is_settled_while_somebody_does_not_answer(linked: Nodes) -> None:
    ann, _, _, _ = await linked.pair(peer_timeout=60.0)
    linked.net.cut("bob")
    ann.tell(WakeUp("x", 1))
    assert not await ann.settled(0.3)
    linked.net.mend()


async def test_who_dies_holds_nobody_up_for_longer_than_the_time_out(linked: Nodes) -> None:
    ann, at_ann, _, _ = await linked.pair()
    linked.net.cut("bob")
    ann.tell(WakeUp("x", 1))
    began = time.monotonic()
    assert await ann.settled(10.0)
    assert time.monotonic() - began < PEER_TIMEOUT + 10 * HEARTBEAT
    assert at_ann.count("gone", "bob") == 1


@pytest.mark.alone
async def test_who_begins_anew_holds_nobody_up(linked: Nodes) -> None:
    ann, at_ann, _, _ = await linked.pair(peer_timeout=60.0)
    linked.net.cut("bob")
    ann.tell(WakeUp("x", 1))
    asked = asyncio.ensure_future(ann.settled(8.0))
    await asyncio.sleep(2 * HEARTBEAT)
    assert not asked.done()
    linked.net.mend()
    await linked.open("bob", peer_timeout=60.0)
    await eventually(lambda: at_ann.count("joined", "bob") == 2)
    began = time.monotonic()
    assert await asked
    assert time.monotonic() - began < 1.0


async def test_who_missed_some_of_it_has_not_handled_it(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair(max_waiting_bytes=2_000, peer_timeout=60.0)
    assert await ann.settled(5.0)
    for number in range(100):
        ann.tell(Passed(f"devices/{number}", bytes(100)))
    await asyncio.sleep(0)
    assert not await ann.settled(5.0)
    assert at_bob.count("missed", "ann") == 1
    ann.tell(WakeUp("x", 2))
    assert await ann.settled(5.0), "what is told again is asked for by itself"
