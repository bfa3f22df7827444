"""Storers over the twins: several shards in one commit, and what becomes of the others when something is wrong with
one."""

from __future__ import annotations

import asyncio

import pytest

from aldis.bridge import storer as module
from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_numbers import shard_of
from aldis.bridge.memory_journal import MemoryJournal
from aldis.broker.journal_ports import Appended
from aldis.broker.ports import Batch, Committed
from tests.unit.bridge.test_storer import BOUNDS, SHARDS, Picky, Slow, World, note, running, soon


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.02)


@pytest.fixture
def world() -> World:
    return World()


def user_of(shard: int) -> str:
    """Somebody whose messages go there."""
    return next(f"u{number}" for number in range(999) if shard_of(f"u{number}", SHARDS) == shard)


USERS = [user_of(shard) for shard in range(SHARDS)]


async def test_all_shards_are_stored_by_one_commit_in_the_order_of_acceptance(world: World) -> None:
    await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(40)))
    await world.accept(*(note(number, USERS[number % 2]) for number in range(40, 60)))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    ((batch, _),) = world.told
    assert [shard for shard, _ in batch.shards] == list(range(SHARDS))
    assert [message.mid for message in batch.messages] == sorted(message.mid for message in batch.messages)
    assert [await world.inbox(user) for user in USERS[2:]] == [
        [str(number) for number in range(shard, 40, SHARDS)] for shard in (2, 3)
    ]


async def test_a_shard_that_is_lost_takes_nothing_of_the_others_along(world: World) -> None:
    """Its lease is ours still, when another has claimed it already."""
    storer = world.storer()
    async with running(storer):
        await soon(lambda: storer.shards == SHARDS)
        await world.store.claim_shard(1)
        await world.store.claim_shard(3)
        await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(8)))
        await soon(lambda: storer.figures["lost"] == 2)
        # the lease says that they are ours: so we claim them, and store what is in them
        await soon(lambda: world.left == 0)
    assert [await world.inbox(user) for user in USERS] == [[str(shard), str(shard + 4)] for shard in range(SHARDS)]
    assert [shard for shard, _ in world.told[0][0].shards] == [0, 2]
    assert storer.figures["repeats"] == 0


async def test_a_refused_message_of_one_shard_sets_aside_itself_alone(world: World) -> None:
    world.store.hates = lambda message: int(message.content) in (5, 6, 13)
    await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(40)))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    for shard, user in enumerate(USERS):
        assert await world.inbox(user) == [str(n) for n in range(shard, 40, SHARDS) if n not in (5, 6, 13)]
    assert await world.journal.poison_length() == 3


async def test_however_much_is_unreadable_at_once(world: World) -> None:
    broken = [Appended(number % SHARDS, "a", "p", "b", 1, b"\xff%d" % number) for number in range(2_000)]
    await world.journal.append("broken", 1, broken)
    await world.accept(note(1))
    storer = world.storer()
    storer.configure(retry=0.01, limit=5_000)
    async with running(storer):
        await soon(lambda: world.left == 0)
    assert storer.figures["poisoned"] == 2_000 and await world.inbox("bob") == ["1"]


async def test_nothing_overtakes_in_a_shard_that_stands_still(world: World) -> None:
    """However long the commits of the others take meanwhile."""
    world.journal = Slow(world.board, JournalBounds(shards=SHARDS, lease=BOUNDS.lease, max_poison=0))
    world.store.hates = lambda message: message.content == b"8"
    await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(40)))

    class Ponderous(Picky):
        async def commit(self, batch: Batch) -> Committed:
            await asyncio.sleep(0.03)  # longer than `retry`
            return await super().commit(batch)

    world.store.__class__ = Ponderous
    async with running(world.storer()):
        await soon(lambda: len(world.stored) == 32)
        assert await world.inbox(USERS[0]) == ["0", "4"]
        world.store.hates = lambda message: False
        await soon(lambda: world.left == 0)
    assert await world.inbox(USERS[0]) == [str(number) for number in range(0, 40, SHARDS)]


async def test_who_does_not_reach_the_store_leaves_its_shards_to_who_does(world: World) -> None:
    cut = Picky.__new__(Picky)
    cut.__dict__ = dict(world.store.__dict__)  # the same database, out of reach
    first, second = world.storer(store=cut), world.storer(MemoryJournal(world.board, BOUNDS))
    async with running(first, second):
        await soon(lambda: (first.shards, second.shards) == (SHARDS // 2, SHARDS // 2))
        cut.break_down()
        await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(40)))
        await soon(lambda: world.left == 0)
        assert (first.shards, second.shards) == (0, SHARDS)
        assert second.others == 1, "it still accepts"
        cut.repair()
        await soon(lambda: (first.shards, second.shards) == (SHARDS // 2, SHARDS // 2))
        await world.accept(*(note(number, USERS[number % SHARDS]) for number in range(40, 60)))
        await soon(lambda: world.left == 0)
    assert [await world.inbox(user) for user in USERS] == [
        [str(number) for number in range(shard, 60, SHARDS)] for shard in range(SHARDS)
    ]
    assert first.figures["stored"] + second.figures["stored"] == 60


async def test_an_attempt_in_doubt_is_repeated_with_the_very_same_batch(world: World) -> None:
    """Only so the store can tell what became of it, whatever becomes of the leases meanwhile."""
    attempted: list[Batch] = []

    class Noting(Picky):
        async def commit(self, batch: Batch) -> Committed:
            attempted.append(batch)
            return await super().commit(batch)

    world.store.__class__ = Noting
    world.store.break_down()
    storer = world.storer()
    async with running(storer):
        await world.accept(*(note(number, user) for number, user in enumerate(USERS)))
        await soon(lambda: storer.shards == 0 and len(attempted) > 50)
        world.store.repair()
        await soon(lambda: world.left == 0)
    before = attempted[: next(at for at, batch in enumerate(attempted) if batch is world.told[0][0])]
    assert len(before) == 0 and attempted.count(attempted[0]) > 50


async def test_a_surplus_is_given_up_although_there_is_always_something_to_store(world: World) -> None:
    first, second = world.storer(), world.storer(MemoryJournal(world.board, BOUNDS))
    async with running(first):
        await soon(lambda: first.shards == SHARDS)
        ending = asyncio.Event()

        async def talk() -> None:
            while not ending.is_set():
                await world.accept(*(note(1, user) for user in USERS))
                await asyncio.sleep(0)

        talking = asyncio.create_task(talk())
        second.start()
        try:
            await soon(lambda: (first.shards, second.shards) == (SHARDS // 2, SHARDS // 2))
        finally:
            ending.set()
            await talking
            await second.stop(1.0)
