"""What the connector knows of a journal: where the past is to be found, and what readiness says."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.memory import MemoryStore
from aldis.bridge.memory_journal import JournalBoard, MemoryJournal
from aldis.broker.acceptance import JOURNAL_FULL, JOURNAL_UNAVAILABLE, Acceptance
from aldis.broker.cluster_ports import AnyParcel, Told
from aldis.broker.journal_ports import Answer
from aldis.broker.ports import AccessRevoked, Batch, Stored, StoreUnavailable
from tests.contract.journals import Writing, message
from tests.contract.stores import chat


class Store(MemoryStore):
    away = False

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return await super().last_seq(user, device, recipient)

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        if self.away:
            raise StoreUnavailable("away")
        return await super().find(user, device, id)


class World:
    def __init__(self) -> None:
        self.board = JournalBoard(4, lambda: time.time_ns() // 1_000_000)
        self.journal = MemoryJournal(self.board, JournalBounds(shards=4))
        self.write = Writing(self.journal)
        self.store = Store()
        self.sent: list[tuple[str, AnyParcel]] = []
        self.receipts: list[tuple[str, bytes]] = []
        self.corrected: list[Told] = []
        connection = SimpleNamespace(receipt=lambda peer, payload: self.receipts.append((peer, payload)))
        self.node: Any = SimpleNamespace(
            not_ready_reasons=set(),
            on_corrected=[self.corrected.append],
            sessions=SimpleNamespace(subscribers={("ann", "phone"): SimpleNamespace(connection=connection)}),
            elsewhere=SimpleNamespace(send=lambda user, parcel: self.sent.append((user, parcel))),
            spawn=lambda work, name: asyncio.ensure_future(work),
        )
        self.answered: list[Any] = []
        """What the senders heard, and None for each time those were told who had to wait for it."""
        receipts = SimpleNamespace(answered=lambda: self.answered.append(None))
        inboxes: Any = SimpleNamespace(node=self.node, store=self.store, receipts=receipts)
        self.acceptance = Acceptance(inboxes, self.journal)

    async def last(self) -> int:
        return await self.acceptance.last_seq("ann", "phone", "bob")


@pytest.fixture
def world() -> World:
    return World()


async def test_a_counter_counts_what_is_stored_and_what_is_accepted(world: World) -> None:
    assert await world.last() == 0
    await world.store.commit(Batch([chat("1", sender="ann", seq=4)]))
    assert await world.last() == 4
    await world.write(message(1, seq=6))
    assert await world.last() == 6
    await world.store.commit(Batch([chat("2", sender="ann", seq=9)]))
    assert await world.last() == 9, "the journal may have lost what it knew"


async def test_while_the_database_is_away_the_journal_says_what_it_knows(world: World) -> None:
    world.store.away = True
    with pytest.raises(StoreUnavailable):
        await world.last()
    await world.write(message(1, seq=6))
    assert await world.last() == 6


async def test_while_the_journal_is_away_nobody_knows_a_counter(world: World) -> None:
    """What was accepted and is not stored would come again."""
    await world.store.commit(Batch([chat("1", sender="ann", seq=4)]))
    world.board.cut = True
    with pytest.raises(StoreUnavailable):
        await world.last()


async def test_an_id_is_found_in_the_journal_or_in_the_store(world: World) -> None:
    find = world.acceptance.find
    assert await find("ann", "phone", "1") is None
    await world.store.commit(Batch([chat("1", sender="ann", mid=40)]))
    stored = await find("ann", "phone", "1")
    assert stored is not None and stored.mid == 40
    await world.write(message(2, id="2"))
    world.store.away = True
    there = await find("ann", "phone", "2")
    assert there is not None and there.mid > 40
    with pytest.raises(StoreUnavailable):
        await find("ann", "phone", "1")
    world.board.cut = True
    with pytest.raises(StoreUnavailable):
        await find("ann", "phone", "2")


async def test_a_removed_device_counts_anew(world: World) -> None:
    await world.write(message(1, seq=6), message(2, seq=8, device="tablet"))
    world.acceptance.on_announcement(AccessRevoked("ann"))
    world.acceptance.on_announcement(AccessRevoked("ann", device="phone"))
    await asyncio.sleep(0.01)
    assert await world.last() == 0
    assert await world.journal.last_seq("ann", "tablet", "bob") == 8


async def test_a_correction_goes_to_the_device_wherever_it_is(world: World) -> None:
    sent = chat('"a"', sender="ann", to="bob", seq=3, mid=900)
    world.acceptance.corrected(sent, Stored(40, 1, 7, None, True))
    told = Told("ann", "phone", "bob", '"a"', 3, 40, 7)
    assert world.receipts == [("bob", b'{"type":"sent","id":"a","seq":3,"mid":40,"ts":7}')]
    assert world.sent == [("ann", told)] and world.corrected == [told]


def test_readiness_says_what_is_wrong(world: World) -> None:
    reasons = world.node.not_ready_reasons
    world.acceptance.refused(Exception())
    world.acceptance.full(True)
    assert reasons == {JOURNAL_UNAVAILABLE, JOURNAL_FULL}
    world.acceptance.recovered()
    world.acceptance.full(False)
    assert reasons == set()


def test_who_sent_is_answered_with_what_the_journal_gave_before_others_hear_of_it(world: World) -> None:
    messages = [
        chat(tag=SimpleNamespace(committed=lambda mid, ts, which=which: world.answered.append((which, mid, ts))))
        for which in range(2)
    ]
    world.acceptance.accepted(messages, [Answer(10, 1), Answer(12, 2, True)])
    assert world.answered == [(0, 10, 1), (1, 12, 2), None]
