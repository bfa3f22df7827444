"""The process dies, the log is torn: what was reported as committed is there, and nothing is there by half.

kill -9 leaves the page cache of the operating system alone, so this proves atomicity and recovery, not the fsync; that
the fsync is asked for is in `test_sqlite_trouble.py`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aldis.bridge.sqlite import SqliteStore
from tests.contract.stores import chat, commit, new_database

WRITER = """
import asyncio, json, sys
from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import Batch
from tests.contract.stores import chat

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    for number in range(1_000_000):
        batch = Batch([
            chat(f'"{sys.argv[2]}-{number}-{i}"', to=f"user{i % 7}", sync=i % 3 == 0, seq=number + 1) for i in range(50)
        ])
        committed = await store.commit(batch)
        print(json.dumps([[m.id, s.mid, s.n] for m, s in zip(batch.messages, committed.stored)]), flush=True)

asyncio.run(main())
"""


def run_and_kill(path: Path, life: int, after: int) -> dict[str, list[int]]:
    """Lets a writer report `after` batches, kills it, and returns {id: [mid, n]} of all that it reported."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(life)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert writer.stdout
    lines = [writer.stdout.readline() for _ in range(after)]
    writer.kill()
    lines += writer.stdout.read().splitlines()
    writer.wait()
    assert writer.returncode == -signal.SIGKILL
    whole = [line for line in lines if line.rstrip().endswith("]]")]  # the last one may be cut
    return {id: [mid, n] for line in whole for id, mid, n in json.loads(line)}


def check(path: Path) -> list[tuple[str, int, int]]:
    """The invariants of a database, whatever happened to it; returns (id, mid, n) of all its messages."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        messages = connection.execute("SELECT id, mid, n, recipient, sender, sync_n FROM im_message").fetchall()
        items = connection.execute("SELECT to_user_id, n, mid FROM im_offline ORDER BY to_user_id, n").fetchall()
        heads = dict(connection.execute("SELECT user_id, head FROM im_inbox").fetchall())
    inboxes: dict[str, list[int]] = {}
    for user, n, mid in items:
        inboxes.setdefault(user, []).append(mid)
        assert n == len(inboxes[user]), "n is gap-free"
    assert {user: len(mids) for user, mids in inboxes.items()} == heads
    assert all(mids == sorted(mids) for mids in inboxes.values()), "mid rises with n"
    expected = {(recipient, n, mid) for _, mid, n, recipient, _, _ in messages}
    expected |= {(sender, sync_n, mid) for _, mid, _, _, sender, sync_n in messages if sync_n is not None}
    assert expected == set(items), "every message has its items, every item its message"
    return [(id, mid, n) for id, mid, n, *_ in messages]


@pytest.mark.timeout(120)
def test_what_was_reported_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    reported: dict[str, list[int]] = {}
    for life, after in enumerate([1, 20, 60, 7]):
        reported |= run_and_kill(path, life, after)
        found = {id: [mid, n] for id, mid, n in check(path)}
        assert {id: found.get(id) for id in reported} == reported
        assert len(found) % 50 == 0, "whole batches only"
        assert len(found) - len(reported) <= 50 * (life + 1), "at most one unreported batch per life"


def test_a_torn_log_gives_back_whole_batches(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    sizes = [40, 1, 30, 25]

    async def write() -> list[int]:
        store = SqliteStore(path)
        await store.open()
        ends = []
        for size in sizes:
            await commit(store, *[chat(to=f"user{i % 5}", sync=True) for i in range(size)])
            ends.append(path.with_name("aldis.db-wal").stat().st_size)
        shutil.copyfile(path, tmp_path / "torn.db")
        shutil.copyfile(path.with_name("aldis.db-wal"), tmp_path / "torn.wal")
        await store.close()
        return ends

    ends = asyncio.run(write())
    log = (tmp_path / "torn.wal").read_bytes()
    assert ends == sorted(set(ends)) and ends[-1] == len(log)
    whole = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    cuts = {0, 1, 31, 32, 33, len(log)} | {end + around for end in ends for around in (-4_097, -1, 0, 1, 4_120)}
    cuts |= set(range(0, len(log), len(log) // 25))
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(log)):
        copy = tmp_path / f"cut{cut}.db"
        shutil.copyfile(tmp_path / "torn.db", copy)
        copy.with_name(f"cut{cut}.db-wal").write_bytes(log[:cut])
        expected = max(total for total, end in zip(whole, [0, *ends], strict=True) if end <= cut)
        assert len(check(copy)) == expected, cut
