"""A node that does not accept into the journal any more, and finds one: it begins when that is empty (ADR-0013)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.memory import MemoryStore
from aldis.bridge.memory_journal import JournalBoard, MemoryJournal
from aldis.bridge.redis_journal import RedisJournal
from aldis.bridge.storer import Storer
from aldis.broker.compose_journal import JournalSide
from aldis.broker.compose_store import StartFailed
from aldis.broker.journal_ports import Appended

PATIENCE = 6.0


@asynccontextmanager
async def leaving(board: JournalBoard) -> AsyncIterator[JournalSide]:
    journal, store = MemoryJournal(board, JournalBounds(shards=2, lease=60_000)), MemoryStore()
    storer = Storer(
        journal,
        store,
        accepting=False,
        lease=60.0,
        on_stored=lambda batch, committed: None,
        on_corrected=lambda message, stored: None,
    )
    storer.configure(retry=0.1, limit=100)
    side = JournalSide(cast(RedisJournal, journal), storer, store, None, lambda: 0)
    side.start()
    try:
        yield side
    finally:
        await side.close(1.0)


def new_board() -> JournalBoard:
    return JournalBoard(2, lambda: time.time_ns() // 1_000_000)


async def test_an_empty_journal_holds_up_nobody() -> None:
    async with leaving(new_board()) as side:
        await side.emptied(PATIENCE)


async def test_a_journal_that_is_away_for_a_moment_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Not taken for empty: what is in it would be overtaken."""
    board = new_board()
    async with leaving(board) as side:
        await side.storer.renewed.wait()
        board.cut = True
        asyncio.get_running_loop().call_later(PATIENCE / 2, setattr, board, "cut", False)
        await side.emptied(PATIENCE)
    assert "it is not known" not in caplog.text


async def test_a_journal_that_stays_away_holds_up_nobody_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    board = new_board()
    board.cut = True
    async with leaving(board) as side, asyncio.timeout(4 * PATIENCE):
        await side.emptied(PATIENCE)
    assert "it is not known whether the journal is empty: the journal is cut off" in caplog.text


async def test_who_waits_for_nobody_waits_for_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with leaving(new_board()) as side:
        await side.emptied(0.0)
    assert "it is not known" not in caplog.text


async def test_what_cannot_be_stored_in_time_keeps_the_node_from_starting() -> None:
    board = new_board()
    async with leaving(board) as side:
        await board_has(board, side)
        with pytest.raises(StartFailed, match="1 messages are in the journal"):
            await side.emptied(PATIENCE)


async def board_has(board: JournalBoard, side: JournalSide) -> None:
    """One entry that nobody takes out: its shard is another storer's."""
    other = MemoryJournal(board, JournalBounds(shards=2, lease=60_000))
    await side.storer.renewed.wait()
    await side.storer.stop(1.0)
    await other.leases("other", accepting=False)
    await other.append("w", 1, [Appended(0, "a", "d", "b", 1, b"x")])
