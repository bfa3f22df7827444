"""Writers of one SQLite file take turns."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from aldis.bridge.sqlite import SqliteStore
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.ports import Batch
from tests.contract.stores import chat, new_database


async def test_first_come_first_served() -> None:
    turn = WriteTurn()
    served: list[str] = []

    async def write(name: str, times: int) -> None:
        for _ in range(times):
            async with turn:
                served.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(write("messages", 5), write("accounts", 3))
    assert served == ["messages", "accounts"] * 3 + ["messages"] * 2
    assert not turn.taken


async def test_a_failed_or_cancelled_writer_gives_its_turn_back() -> None:
    turn = WriteTurn()
    with pytest.raises(ValueError, match="x"):
        async with turn:
            raise ValueError("x")
    async with turn:
        waiting = asyncio.ensure_future(turn.__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
    async with asyncio.timeout(1):
        async with turn:
            assert turn.taken


async def test_a_commit_waits_for_its_turn(tmp_path: Path) -> None:
    turn = WriteTurn()
    store = SqliteStore(new_database(tmp_path), turn=turn)
    await store.open()
    async with turn:
        writes = [
            asyncio.ensure_future(store.commit(Batch([chat()]))),
            asyncio.ensure_future(store.claim("bob", "phone", now=1, limit=9)),
            asyncio.ensure_future(store.forget_device("bob", "tablet")),
        ]
        await asyncio.sleep(0.05)
        assert not any(write.done() for write in writes)
        assert await store.head("bob") == 0
    await asyncio.gather(*writes)
    await store.close()


async def test_neither_side_starves_under_full_load(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    store = SqliteStore(path, busy_timeout=5.0)
    await store.open()
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 5.0})
    loop = asyncio.get_running_loop()
    end = loop.time() + 1.0
    commits = 0
    waits: list[float] = []

    async def message_path() -> None:
        nonlocal commits
        while loop.time() < end:
            await store.commit(Batch([chat() for _ in range(200)]))
            commits += 1

    async def accounts() -> None:
        while loop.time() < end:
            began = loop.time()
            async with store.turn, engine.begin() as connection:
                await connection.execute(
                    text("INSERT INTO im_user (user_id, password_hash, created) VALUES (:name, '', 0)"),
                    {"name": f"user{len(waits)}"},
                )
            waits.append(loop.time() - began)

    await asyncio.gather(message_path(), accounts())
    await engine.dispose()
    await store.close()
    assert max(waits) < 2.0, "nobody came near the busy timeout"
    assert min(commits, len(waits)) * 3 > max(commits, len(waits)), (commits, len(waits))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM im_user").fetchone() == (len(waits),)
