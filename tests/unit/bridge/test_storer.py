"""Storers over the twins: who stores what, what happens between commit and removal, and what cannot be stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import pytest

from aldis.bridge import storer as module
from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_entries import encode_entry
from aldis.bridge.journal_numbers import shard_of
from aldis.bridge.memory_journal import JournalBoard, MemoryJournal
from aldis.bridge.storer import Storer
from aldis.broker.journal_ports import Answer, Appended, Entry, Journal, JournalUnavailable
from aldis.broker.ports import Batch, Committed, NewMessage, Stored
from tests.contract.stores import chat
from tests.unit.bridge.flaky import FlakyStore

SHARDS = 4
LEASE = 0.3
BOUNDS = JournalBounds(shards=SHARDS, lease=round(LEASE * 1_000))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.02)


class Picky(FlakyStore):
    """Refuses what `hates` names, as a database refuses a value that does not fit."""

    hates: Callable[[NewMessage], bool] = staticmethod(lambda message: False)

    async def commit(self, batch: Batch) -> Committed:
        if any(self.hates(message) for message in batch.messages):
            self.attempts += 1
            raise ValueError("does not fit")
        return await super().commit(batch)


class Slow(MemoryJournal):
    """Its `stored` can be held back, or fail: where a process dies or freezes between COMMIT and removal."""

    removing = True

    async def stored(self, last: Mapping[int, Entry]) -> None:
        if not self.removing:
            raise JournalUnavailable("cut off")
        await super().stored(last)


class World:
    def __init__(self) -> None:
        self.board = JournalBoard(SHARDS, lambda: time.time_ns() // 1_000_000)
        self.store = Picky()
        self.journal = Slow(self.board, BOUNDS)
        self.told: list[tuple[Batch, Committed]] = []
        self.corrected: list[tuple[NewMessage, Stored]] = []
        self._number = 0

    def storer(self, journal: Journal | None = None, store: FlakyStore | None = None) -> Storer:
        storer = Storer(
            journal or self.journal,
            store or self.store,
            accepting=True,
            lease=LEASE,
            on_stored=lambda batch, committed: self.told.append((batch, committed)),
            on_corrected=lambda message, stored: self.corrected.append((message, stored)),
        )
        storer.configure(retry=0.01, limit=100)
        return storer

    async def accept(self, *messages: NewMessage) -> list[Answer | None]:
        self._number += 1
        appended = [
            Appended(
                shard_of(one.recipient, SHARDS),
                one.sender,
                one.device,
                one.recipient,
                one.created,
                encode_entry(one),
                one.id,
                one.seq,
            )
            for one in messages
        ]
        return await self.journal.append("writer", self._number, appended)

    async def inbox(self, user: str) -> list[str]:
        return [item.content.decode() for item in await self.store.items(user, after=0, limit=10_000)]

    @property
    def left(self) -> int:
        return sum(len(shard.entries) for shard in self.board.shards)

    @property
    def stored(self) -> list[str]:
        """Everything that was told as stored, repeats left out."""
        return [
            message.content.decode()
            for batch, committed in self.told
            for message, stored in zip(batch.messages, committed.stored, strict=True)
            if not stored.repeated
        ]


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def running(*storers: Storer) -> AsyncIterator[None]:
    for storer in storers:
        storer.start()
    try:
        yield
    finally:
        for storer in storers:
            await storer.stop(1.0)


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


def note(number: int, to: str = "bob", **fields: object) -> NewMessage:
    return chat(to=to, content=b"%d" % number, created=1_000 + number, **fields)  # type: ignore[arg-type]


@contextmanager
def dead(storer: Storer) -> Iterator[None]:
    """Its tasks end where they stand, and nobody is told."""
    for task in storer._tasks:
        task.cancel()
    yield


async def test_everything_is_stored_in_order_under_its_mid_and_removed(world: World) -> None:
    answers = await world.accept(*(note(number) for number in range(250)))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == [str(number) for number in range(250)]
    mids = [item.mid for item in await world.store.items("bob", after=0, limit=1_000)]
    assert mids == [answer.mid for answer in answers if answer is not None]
    assert world.stored == [str(number) for number in range(250)]
    assert all(batch.shards for batch, _ in world.told)


async def test_what_comes_later_is_stored_as_it_comes(world: World) -> None:
    async with running(world.storer()):
        for number in range(5):
            await world.accept(note(number), note(number, "cyd"))
            await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == await world.inbox("cyd") == ["0", "1", "2", "3", "4"]


async def test_who_dies_between_commit_and_removal_repeats_nothing(world: World) -> None:
    """Messages without an id, too: their mid says that they are there."""
    world.journal.removing = False
    await world.accept(note(1), note(2), note(3, id='"a"'))
    first = world.storer()
    first.start()
    await soon(lambda: len(world.stored) == 3)
    with dead(first):
        assert world.left == 3
        world.journal.removing = True
        await world.accept(note(4))
        second = world.storer()
        async with running(second):
            await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1", "2", "3", "4"]
    assert (second.figures["repeats"], second.figures["corrected"]) == (3, 0)


async def test_who_freezes_and_wakes_stores_nothing_out_of_order(world: World) -> None:
    """The frozen one has read its entries and stands before its commit; another takes over and goes on."""
    await world.accept(note(1), note(2))
    first = world.storer()
    world.store.gate.clear()
    first.start()
    await world.store.attempted(1)
    first._tasks[0].cancel()  # no lease is renewed any more
    await asyncio.sleep(LEASE * 1.5)
    other = Picky.__new__(Picky)
    other.__dict__ = dict(world.store.__dict__)  # the same database, over a connection that does not stand still
    other.gate = asyncio.Event()
    other.gate.set()
    second = world.storer(MemoryJournal(world.board, BOUNDS), other)
    async with running(second):
        await soon(lambda: world.left == 0)
        await world.accept(note(3))
        await soon(lambda: world.left == 0)
        world.store.gate.set()
        await soon(lambda: first.figures["lost"] > 0)
    await first.stop(1.0)
    assert await world.inbox("bob") == ["1", "2", "3"]
    assert first.figures["stored"] == 0


async def test_two_share_the_shards_and_one_takes_all_when_the_other_goes(world: World) -> None:
    first, second = world.storer(), world.storer()
    async with running(first):
        await soon(lambda: first.shards == SHARDS)
        second.start()
        await soon(lambda: (first.shards, second.shards) == (SHARDS // 2, SHARDS // 2))
        await world.accept(*(note(number, f"user{number}") for number in range(20)))
        await soon(lambda: world.left == 0)
        assert first.figures["stored"] + second.figures["stored"] == 20
        await second.stop(1.0)
        await soon(lambda: first.shards == SHARDS)


async def test_a_dead_one_is_replaced_after_its_lease(world: World) -> None:
    first, second = world.storer(), world.storer()
    first.start()
    await soon(lambda: first.shards == SHARDS)
    with dead(first):
        begun = time.monotonic()
        async with running(second):
            await soon(lambda: second.shards == SHARDS)
    assert time.monotonic() - begun > LEASE / 2


async def test_the_store_is_away_for_a_while(world: World) -> None:
    world.store.break_down()
    storer = world.storer()
    async with running(storer):
        await world.accept(note(1), note(2))
        await world.store.attempted(3)
        assert world.left == 2 and not world.told
        await world.accept(note(3))
        world.store.repair()
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1", "2", "3"]
    assert storer.figures["poisoned"] == 0


async def test_the_journal_is_away_for_a_while(world: World) -> None:
    async with running(world.storer()):
        await world.accept(note(1))
        await soon(lambda: world.left == 0)
        world.board.cut = True
        await asyncio.sleep(0.1)
        world.board.cut = False
        await world.accept(note(2))
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1", "2"]


async def test_what_could_not_be_removed_is_removed_later(world: World) -> None:
    world.journal.removing = False
    storer = world.storer()
    async with running(storer):
        await world.accept(note(1))
        await soon(lambda: world.stored == ["1"])
        assert world.left == 1
        world.journal.removing = True
        await soon(lambda: world.left == 0)
    assert storer.figures["removed_late"] == 1 and world.stored == ["1"]


async def test_an_older_repeat_is_dropped_and_its_sender_told_the_first_mid(world: World) -> None:
    """Its id was forgotten by the journal: the store remembers for ever."""
    await world.store.commit(Batch([note(1, id='"a"', mid=42)]))
    (answer,) = await world.accept(note(2, id='"a"'))
    assert answer is not None and answer.mid != 42
    async with running(world.storer()):
        await soon(lambda: world.left == 0 and len(world.corrected) == 1)
    ((message, stored),) = world.corrected
    assert (message.sender, message.device, message.id, stored.mid, stored.created) == (
        "alice",
        "phone",
        '"a"',
        42,
        1_001,
    )
    assert await world.inbox("bob") == ["1"]
    again = await world.journal.find("alice", "phone", '"a"')
    assert again is not None and again.mid == 42


async def test_a_mid_that_is_taken_gives_way(world: World) -> None:
    """The journal has lost its memory, and the clock went back: what it gave is another message's."""
    (answer,) = await world.accept(note(1))
    assert answer is not None
    await world.store.commit(Batch([note(7, "cyd", sender="eve", mid=answer.mid)]))
    await world.accept(note(2))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1", "2"] and await world.inbox("cyd") == ["7"]
    ((message, stored),) = world.corrected
    assert message.content == b"1" and stored.mid not in (0, answer.mid)


# Poison


async def test_what_is_no_entry_is_set_aside_and_stops_nobody(world: World) -> None:
    await world.accept(note(1))
    shard = shard_of("bob", SHARDS)
    await world.journal.append("broken", 1, [Appended(shard, "alice", "phone", "bob", 1, b"\xffrubbish")])
    await world.accept(note(2))
    storer = world.storer()
    async with running(storer):
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1", "2"]
    (poison,) = await world.journal.poisoned(limit=10)
    assert (poison.shard, poison.data, "not an entry" in poison.reason) == (shard, b"\xffrubbish", True)
    assert storer.figures["poisoned"] == 1


@pytest.mark.parametrize("bad", [{0}, {49}, {99}, {10, 11, 12}, set(range(20, 40, 3))])
async def test_only_what_the_store_refuses_is_set_aside(world: World, bad: set[int]) -> None:
    world.store.hates = lambda message: int(message.content) in bad
    await world.accept(*(note(number) for number in range(100)))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == [str(number) for number in range(100) if number not in bad]
    poison = await world.journal.poisoned(limit=100)
    assert len(poison) == len(bad) and {one.reason for one in poison} == {"ValueError: does not fit"}


async def test_a_refusal_that_passes_is_no_poison(world: World) -> None:
    world.store.errors = [ValueError("a bad moment")] * 2
    await world.accept(note(1))
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["1"] and await world.journal.poison_length() == 0


async def test_what_was_set_aside_is_put_back(world: World) -> None:
    world.store.hates = lambda message: message.content == b"1"
    (first, _) = await world.accept(note(1), note(2))
    assert first is not None
    async with running(world.storer()):
        await soon(lambda: world.left == 0)
        world.store.hates = lambda message: False
        (poison,) = await world.journal.poisoned(limit=1)
        assert await world.journal.put_back(poison.number)
        await soon(lambda: world.left == 0)
    assert await world.inbox("bob") == ["2", "1"]
    assert (await world.store.items("bob", after=1, limit=1))[0].mid == first.mid
    assert world.corrected == []


async def test_without_room_for_poison_the_shard_stands_still_and_the_others_go_on(world: World) -> None:
    world.journal = Slow(world.board, JournalBounds(shards=SHARDS, lease=BOUNDS.lease, max_poison=0))
    world.store.hates = lambda message: message.content == b"1"
    there, elsewhere = "bob", next(f"u{i}" for i in range(99) if shard_of(f"u{i}", SHARDS) != shard_of("bob", SHARDS))
    await world.accept(note(1, there))
    async with running(world.storer()):
        await asyncio.sleep(0.2)
        await world.accept(note(2, elsewhere))
        await soon(lambda: world.stored == ["2"])
        assert world.left == 1
        world.store.hates = lambda message: False
        await soon(lambda: world.left == 0)
