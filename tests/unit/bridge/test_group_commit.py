"""The group commit over a store that works, that is slow, and that breaks down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aldis.bridge.group_commit import GroupCommit
from aldis.broker.ports import Batch, Committed, CursorMove, Delivered, Read, StoreUnavailable
from tests.contract.stores import chat
from tests.unit.bridge.flaky import FlakyStore

RETRY = 0.01


class Heard:
    """Everything a writer has told."""

    def __init__(self) -> None:
        self.committed: list[tuple[Batch, Committed]] = []
        self.events: list[str] = []

    def on_committed(self, batch: Batch, committed: Committed) -> None:
        self.committed.append((batch, committed))

    def on_unavailable(self, error: Exception) -> None:
        self.events.append(f"unavailable: {error}")

    def on_recovered(self) -> None:
        self.events.append("recovered")

    @property
    def numbers(self) -> list[int]:
        return [stored.n for _, committed in self.committed for stored in committed.stored]

    @property
    def tags(self) -> list[object]:
        return [message.tag for batch, _ in self.committed for message in batch.messages]


@asynccontextmanager
async def writing(store: FlakyStore, heard: Heard, limit: int = 1_000) -> AsyncIterator[GroupCommit]:
    writer = GroupCommit(
        store,
        on_committed=heard.on_committed,
        on_unavailable=heard.on_unavailable,
        on_recovered=heard.on_recovered,
        retry=RETRY,
        limit=limit,
    )
    writer.start()
    try:
        yield writer
    finally:
        store.repair()
        store.gate.set()
        await writer.stop(timeout=1.0)


async def test_what_comes_in_one_turn_of_the_loop_is_one_batch() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        for i in range(50):
            writer.append(chat(tag=i))
        assert writer.pending == 50
        await writer.flush()
        assert writer.pending == 0
    assert [len(batch.messages) for batch in store.batches] == [50]
    assert heard.tags == list(range(50))
    assert heard.numbers == list(range(1, 51))


async def test_what_comes_during_a_commit_is_the_next_batch() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        store.gate.clear()
        writer.append(chat(tag=0))
        await store.attempted(1)
        for i in range(1, 40):
            writer.append(chat(tag=i))
            await asyncio.sleep(0)
        assert (store.attempts, writer.pending, heard.committed) == (1, 40, [])
        store.gate.set()
        await writer.flush()
    assert [len(batch.messages) for batch in store.batches] == [1, 39]
    assert heard.tags == list(range(40))


async def test_a_batch_holds_at_most_the_limit() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard, limit=10) as writer:
        for i in range(35):
            writer.append(chat(tag=i))
        await writer.flush()
    assert [len(batch.messages) for batch in store.batches] == [10, 10, 10, 5]
    assert heard.tags == list(range(35))


async def test_a_batch_holds_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.bridge.group_commit.BATCH_BYTES", 100)
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        for i, size in enumerate([60, 40, 1, 99, 500, 1, 100]):
            writer.append(chat(content=b"x" * size, tag=i))
        await writer.flush()
    assert [[len(message.content) for message in batch.messages] for batch in store.batches] == [
        [60, 40],
        [1, 99],
        [500],
        [1],
        [100],
    ]
    assert heard.tags == list(range(7))


async def test_no_task_and_no_future_per_message() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        await asyncio.sleep(0)
        before = len(asyncio.all_tasks())
        for _ in range(1_000):
            writer.append(chat())
            writer.move(CursorMove("bob", "phone", 1, 1))
        assert len(asyncio.all_tasks()) == before


async def test_of_cumulative_records_only_the_furthest_is_committed() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        for cursor in (1, 5, 3):
            writer.move(CursorMove("bob", "phone", 7, cursor))
            writer.delivered(Delivered("bob", "alice", cursor))
            writer.read(Read("bob", "alice", cursor))
        writer.delivered(Delivered("bob", "carol", 2))
        await writer.flush()
    (batch,) = store.batches
    assert batch.moves == [CursorMove("bob", "phone", 7, 5)]
    assert batch.delivered == [Delivered("bob", "alice", 5), Delivered("bob", "carol", 2)]
    assert batch.reads == [Read("bob", "alice", 5)]


@pytest.mark.parametrize("newer_first", [True, False])
async def test_a_late_move_of_an_old_owner_does_not_hide_the_new_owners(newer_first: bool) -> None:
    store, heard = FlakyStore(), Heard()
    old = (await store.claim("bob", "phone", now=5, limit=9)).epoch
    new = (await store.claim("bob", "phone", now=6, limit=9)).epoch
    async with writing(store, heard) as writer:
        for _ in range(9):
            writer.append(chat())
        moves = [CursorMove("bob", "phone", old, 9), CursorMove("bob", "phone", new, 2)]
        for move in reversed(moves) if newer_first else moves:
            writer.move(move)
        await writer.flush()
    assert (await store.devices("bob"))[0].cursor == 2
    assert heard.committed[0][1].fenced == [moves[0]]


async def test_moves_and_receipts_alone_are_committed() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        for hand_over in (
            lambda: writer.move(CursorMove("bob", "phone", 1, 1)),
            lambda: writer.delivered(Delivered("bob", "alice", 1)),
            lambda: writer.read(Read("bob", "alice", 1)),
        ):
            before = len(heard.committed)
            hand_over()
            await writer.flush()
            assert len(heard.committed) == before + 1


# --- the store breaks down


async def test_nothing_is_lost_doubled_or_reordered_over_a_breakdown() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard, limit=7) as writer:
        for i in range(300):
            if i in (50, 150):
                store.break_down()
            if i in (120, 200):
                store.repair()
            writer.append(chat(f'"{i}"', tag=i))
            if i % 3 == 0:
                await asyncio.sleep(RETRY / 5)
        await writer.flush()
    assert heard.tags == list(range(300))
    assert heard.numbers == list(range(1, 301))
    assert [stored.repeated for _, committed in heard.committed for stored in committed.stored] == [False] * 300
    assert [item.n for item in await store.items("bob", after=0, limit=999)] == list(range(1, 301))
    assert heard.events == ["unavailable: disk full", "recovered"] * 2


async def test_a_commit_whose_answer_was_lost_is_not_doubled() -> None:
    store, heard = FlakyStore([StoreUnavailable("gone")] * 2, after=True), Heard()
    async with writing(store, heard) as writer:
        for i in range(5):
            writer.append(chat(f'"{i}"', tag=i))
        await writer.flush()
    assert store.attempts == 3
    assert heard.numbers == [1, 2, 3, 4, 5]
    assert await store.head("bob") == 5


async def test_the_same_batch_is_tried_again_and_nothing_overtakes_it() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        store.break_down()
        writer.append(chat(tag="first"))
        await store.attempted(3)
        assert (writer.available, writer.pending) == (False, 1)
        writer.append(chat(tag="second"))
        store.repair()
        await writer.flush()
        assert writer.available
    assert [[message.tag for message in batch.messages] for batch in store.batches] == [["first"], ["second"]]


async def test_one_line_when_trouble_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    store, heard = FlakyStore([StoreUnavailable("disk full")] * 4), Heard()
    with caplog.at_level(logging.DEBUG, logger="aldis.bridge"):
        async with writing(store, heard) as writer:
            writer.append(chat(content=b'{"body":"secret"}'))
            await writer.flush()
    assert store.attempts == 5
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "disk full" in caplog.records[0].getMessage()
    assert "secret" not in caplog.text


async def test_a_bug_in_the_store_loses_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store, heard = FlakyStore([ValueError("a bug"), KeyError("another")]), Heard()
    async with writing(store, heard) as writer:
        for i in range(3):
            writer.append(chat(tag=i))
        await writer.flush()
    assert heard.tags == [0, 1, 2]
    assert heard.events == ["unavailable: a bug", "recovered"]
    bugs = [record for record in caplog.records if record.exc_info]
    assert len(bugs) == 2
    assert all("3 messages" in record.getMessage() for record in bugs)


@pytest.mark.parametrize("hook", ["on_committed", "on_unavailable", "on_recovered"])
async def test_a_failing_hook_does_not_kill_the_writer(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    store, heard = FlakyStore([StoreUnavailable("x")]), Heard()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug in the hook")

    hooks = {name: getattr(heard, name) for name in ("on_committed", "on_unavailable", "on_recovered")}
    writer = GroupCommit(store, retry=RETRY, **{**hooks, hook: fail})
    writer.start()
    for _ in range(3):
        writer.append(chat())
        await writer.flush()
    await writer.stop()
    assert await store.head("bob") == 3
    assert f"{hook} failed" in caplog.text


# --- flush and stop


async def test_flush_waits_only_for_what_was_there() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard, limit=2) as writer:
        await writer.flush()
        for i in range(5):
            writer.append(chat(tag=i))
        flushed = asyncio.ensure_future(writer.flush())
        for i in range(5, 400):
            writer.append(chat(tag=i))
            await asyncio.sleep(0)
            if flushed.done():
                break
        await flushed
        assert heard.tags[:5] == [0, 1, 2, 3, 4]
        assert writer.pending > 0


async def test_flush_waits_for_the_running_commit() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        store.gate.clear()
        writer.append(chat())
        await store.attempted(1)
        flushed = asyncio.ensure_future(writer.flush())
        await asyncio.sleep(RETRY)
        assert not flushed.done()
        store.gate.set()
        await flushed
        assert heard.numbers == [1]


async def test_a_cancelled_flush_harms_nobody() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        store.gate.clear()
        writer.append(chat())
        flushes = [asyncio.ensure_future(writer.flush()) for _ in range(2)]
        await asyncio.sleep(0)
        flushes[0].cancel()
        store.gate.set()
        await flushes[1]
        writer.append(chat())
        await writer.flush()
    assert heard.numbers == [1, 2]


async def test_stop_commits_what_is_there() -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard, limit=3) as writer:
        for i in range(10):
            writer.append(chat(tag=i))
        await writer.stop()
        assert (heard.tags, writer.pending) == (list(range(10)), 0)
        writer.append(chat(tag="late"))
        writer.move(CursorMove("bob", "phone", 1, 1))
        await writer.flush()
    assert heard.tags == list(range(10))


async def test_stop_gives_up_in_time_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store, heard = FlakyStore(), Heard()
    async with writing(store, heard) as writer:
        store.break_down()
        for _ in range(4):
            writer.append(chat())
        flushed = asyncio.ensure_future(writer.flush())
        began = asyncio.get_running_loop().time()
        await writer.stop(timeout=0.1)
        assert asyncio.get_running_loop().time() - began < 1.0
        with pytest.raises(StoreUnavailable):
            await flushed
        with pytest.raises(StoreUnavailable):
            await writer.flush()
    assert heard.committed == []
    assert "4 messages neither committed" in caplog.text


async def test_stop_is_idempotent_and_works_without_start() -> None:
    writer = GroupCommit(FlakyStore(), on_committed=lambda *_: None)
    await writer.stop()
    await writer.stop()


async def test_what_was_handed_over_before_start_is_committed() -> None:
    store, heard = FlakyStore(), Heard()
    writer = GroupCommit(store, on_committed=heard.on_committed)
    writer.append(chat())
    writer.start()
    await writer.flush()
    await writer.stop()
    assert heard.numbers == [1]
