"""The writer of a node with a journal: order, answers, full shards, trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_entries import decode_entry
from aldis.bridge.journal_numbers import shard_of
from aldis.bridge.journal_writer import JournalWriter
from aldis.bridge.memory import MemoryStore
from aldis.bridge.memory_journal import JournalBoard, MemoryJournal
from aldis.broker.journal_ports import Answer, Appended, JournalUnavailable
from aldis.broker.ports import CursorMove, NewMessage
from tests.contract.journals import read
from tests.contract.stores import chat
from tests.unit.bridge.test_storer import soon

SHARDS = 4
RETRY = 0.02
HERE, THERE = (
    "bob",
    next(f"u{number}" for number in range(99) if shard_of(f"u{number}", SHARDS) != shard_of("bob", SHARDS)),
)


class FlakyJournal(MemoryJournal):
    """Fails the next appends; with `after` they have taken effect all the same."""

    def __init__(self, **bounds: int) -> None:
        board = JournalBoard(SHARDS, lambda: time.time_ns() // 1_000_000)
        super().__init__(board, JournalBounds(**{"shards": SHARDS, **bounds}))
        self.board = board
        self.failures = 0
        self.after = False
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, writer: str, number: int, messages: Sequence[Appended]) -> list[Answer | None]:
        await self.gate.wait()
        self.batches.append([int(decode_entry(one.data).content) for one in messages])
        if self.failures and not self.after:
            self.failures -= 1
            raise JournalUnavailable("cut off")
        answers = await super().append(writer, number, messages)
        if self.failures:
            self.failures -= 1
            raise JournalUnavailable("the answer was lost")
        return answers

    async def kept(self, user: str) -> list[int]:
        return [int(decode_entry(entry.data).content) for entry in await read(self, shard_of(user, SHARDS))]

    async def make_room(self, user: str) -> None:
        shard = shard_of(user, SHARDS)
        await self.stored({shard: (await read(self, shard))[-1]})


class Heard:
    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.answers: list[Answer] = []
        self.events: list[str] = []

    def on_accepted(self, messages: list[NewMessage], answers: list[Answer]) -> None:
        assert len(messages) == len(answers)
        self.accepted += [int(message.content) for message in messages]
        self.answers += answers


@asynccontextmanager
async def writing(journal: FlakyJournal, limit: int = 100) -> AsyncIterator[tuple[JournalWriter, Heard]]:
    heard = Heard()
    group = GroupCommit(MemoryStore(), on_committed=lambda batch, committed: None)
    group.start()
    writer = JournalWriter(
        journal,
        group,
        on_accepted=heard.on_accepted,
        on_unavailable=lambda error: heard.events.append(f"unavailable: {error}"),
        on_recovered=lambda: heard.events.append("recovered"),
        on_full=lambda full: heard.events.append("full" if full else "room"),
        on_measured=lambda seconds, messages: None,
    )
    writer.configure(retry=RETRY, limit=limit)
    writer.start()
    try:
        yield writer, heard
    finally:
        await writer.stop(1.0)
        await group.stop()


def note(number: int, to: str = HERE, **fields: object) -> NewMessage:
    return chat(to=to, content=b"%d" % number, tag=number, **fields)  # type: ignore[arg-type]


async def test_what_comes_while_one_append_runs_goes_into_the_next() -> None:
    journal = FlakyJournal()
    async with writing(journal) as (writer, heard):
        journal.gate.clear()
        writer.append(note(0))
        await asyncio.sleep(0.01)
        for number in range(1, 50):
            writer.append(note(number))
        assert heard.accepted == [] and writer.unaccepted == 50
        journal.gate.set()
        await writer.drained()
    assert journal.batches == [[0], list(range(1, 50))]
    assert heard.accepted == list(range(50)) == await journal.kept(HERE)
    assert writer.unaccepted == 0


async def test_others_may_know_of_a_message_from_its_append_to_its_answer() -> None:
    journal = FlakyJournal()
    async with writing(journal) as (writer, _):
        assert not writer.committing("alice", HERE)
        journal.gate.clear()
        writer.append(note(0))
        await asyncio.sleep(0.01)
        writer.append(note(1, THERE))
        assert writer.committing("alice", HERE)
        assert not writer.committing(HERE, "alice") and not writer.committing("alice", THERE)
        at_answer: list[bool] = []
        writer._on_accepted = lambda messages, answers: at_answer.append(writer.committing("alice", HERE))
        journal.failures = 1
        journal.gate.set()
        await asyncio.sleep(RETRY / 2)
        assert writer.committing("alice", HERE), "it may be there although the answer was an error"
        await writer.drained()
        assert at_answer == [False, False] and not writer.committing("alice", THERE)


async def test_batches_are_bounded() -> None:
    journal = FlakyJournal()
    async with writing(journal, limit=10) as (writer, heard):
        for number in range(25):
            writer.append(note(number))
        await writer.drained()
    assert [len(batch) for batch in journal.batches] == [10, 10, 5]
    assert heard.accepted == list(range(25))


@pytest.mark.parametrize("after", [False, True])
async def test_a_failed_append_is_repeated_and_nothing_is_there_twice(after: bool) -> None:
    """Whether it had taken effect or not; messages without an id, too."""
    journal = FlakyJournal()
    journal.failures, journal.after = 3, after
    async with writing(journal) as (writer, heard):
        writer.append(note(1))
        await asyncio.sleep(RETRY / 2)
        writer.append(note(2))
        assert heard.accepted == [] and not writer.accepting
        await writer.drained()
        assert writer.accepting
    assert heard.accepted == [1, 2] == await journal.kept(HERE)
    assert [text.split(":")[0] for text in heard.events] == ["unavailable", "recovered"]


async def test_a_full_shard_waits_in_order_and_the_others_go_on() -> None:
    journal = FlakyJournal(max_length=3)
    async with writing(journal) as (writer, heard):
        for number in range(6):
            writer.append(note(number))
        writer.append(note(100, THERE))
        await soon(lambda: 100 in heard.accepted)
        writer.append(note(6))
        await asyncio.sleep(3 * RETRY)
        writer.append(note(7))
        writer.append(note(101, THERE))
        await soon(lambda: 101 in heard.accepted)
        assert [one for one in heard.accepted if one < 100] == [0, 1, 2]
        assert heard.events == ["full"] and writer.unaccepted == 5
        await journal.make_room(HERE)
        await soon(lambda: 5 in heard.accepted)
        await journal.make_room(HERE)
        await writer.drained()
        assert heard.events == ["full", "room"]
    assert [one for one in heard.accepted if one < 100] == list(range(8))
    assert await journal.kept(HERE) == [6, 7]


async def test_a_full_shard_is_emptied_without_pauses_once_it_has_room() -> None:
    journal = FlakyJournal(max_length=50)
    async with writing(journal, limit=10) as (writer, heard):
        writer.configure(retry=0.4, limit=10)
        for number in range(100):
            writer.append(note(number))
        await soon(lambda: heard.events == ["full"])
        await journal.make_room(HERE)
        begun = time.monotonic()
        await writer.drained()
        assert time.monotonic() - begun < 1.6  # with a pause before each: two
    assert heard.accepted == list(range(100))


async def test_answers_belong_to_their_messages() -> None:
    journal = FlakyJournal()
    async with writing(journal) as (writer, heard):
        for number in range(3):
            writer.append(note(number, id='"same"'))
        await writer.drained()
    assert [answer.repeated for answer in heard.answers] == [False, True, True]
    assert len({answer.mid for answer in heard.answers}) == 1


async def test_cursors_go_to_the_group_commit() -> None:
    journal = FlakyJournal()
    journal.failures = 1_000_000
    async with writing(journal) as (writer, _):
        writer.append(note(1))
        writer.move(CursorMove("ann", "phone", 1, 1))
        async with asyncio.timeout(2):
            await writer.flush()  # does not wait for the journal


async def test_what_is_left_at_the_end_is_never_answered(caplog: pytest.LogCaptureFixture) -> None:
    journal = FlakyJournal()
    journal.failures = 1_000_000
    async with writing(journal) as (writer, heard):
        writer.append(note(1))
        await writer.stop(0.05)
        writer.append(note(2))
        assert (heard.accepted, writer.unaccepted) == ([], 1)
    assert "1 messages neither accepted" in caplog.text


async def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    journal = FlakyJournal()
    async with writing(journal) as (writer, _):
        writer._on_accepted = lambda messages, answers: 1 / 0  # type: ignore[assignment,return-value]
        writer.append(note(1))
        await writer.drained()
        writer.append(note(2))
        await writer.drained()
    assert await journal.kept(HERE) == [1, 2]
    assert "on_accepted failed" in caplog.text
