"""SQLite in trouble: every kind of it becomes `StoreUnavailable`, changes nothing, and passes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import Batch, CursorMove, StoreUnavailable
from tests.contract.stores import chat, commit, new_database


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(new_database(tmp_path), busy_timeout=0.1)
    await store.open()
    yield store
    await store.close()


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def say(process: subprocess.Popen[str], word: str) -> str:
    """Sends the child a line and returns its answer."""
    assert process.stdin and process.stdout
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate("", timeout=10)
    assert process.returncode == 0


# --- locked

LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    connection.execute(line)
    print("done", flush=True)
"""


async def test_another_process_holds_the_write_lock(store: SqliteStore, tmp_path: Path) -> None:
    await commit(store, chat('"a"'))
    other = child(LOCKER, tmp_path / "aldis.db")
    assert say(other, "BEGIN EXCLUSIVE") == "done"
    for call in (
        lambda: store.commit(Batch([chat('"b"')])),
        lambda: store.claim("bob", "phone", now=1, limit=5),
        lambda: store.release("bob", "phone", epoch=1, last_seen=1),
        lambda: store.forget_device("bob", "phone"),
    ):
        with pytest.raises(StoreUnavailable, match="locked"):
            await call()
    assert [item.n for item in await store.items("bob", after=0, limit=9)] == [1], "readers go on"
    assert say(other, "COMMIT") == "done"
    (stored,) = (await commit(store, chat('"b"'))).stored
    assert (stored.n, stored.repeated) == (2, False)
    assert (await store.claim("bob", "phone", now=1, limit=5)).created
    finish(other)


async def test_all_waiting_claims_hear_of_the_trouble(store: SqliteStore, tmp_path: Path) -> None:
    other = child(LOCKER, tmp_path / "aldis.db")
    say(other, "BEGIN EXCLUSIVE")
    calls = [store.claim("bob", f"d{i}", now=1, limit=50) for i in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    say(other, "COMMIT")
    assert await store.devices("bob") == []
    finish(other)


# --- full


async def test_the_database_is_full(store: SqliteStore) -> None:
    await commit(store, chat('"a"'))
    pages = await store._writer.call(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await store._writer.call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 5}").fetchone())
    big = [chat(f'"{i}"', content=b'{"body":"' + b"x" * 60_000 + b'"}') for i in range(20)]
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="full"):
            await commit(store, *big)
    assert await store.head("bob") == 1
    assert await store.find("alice", "phone", '"0"') is None
    assert (await commit(store, chat('"small"'))).stored[0].n == 2
    await store._writer.call(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert [stored.n for stored in (await commit(store, *big)).stored] == list(range(3, 23))


DISK_FULL = """
import asyncio, resource, sys
from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import StoreUnavailable
from tests.contract.stores import chat, commit

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await commit(store, chat('"a"'))
    big = [chat(f'"{i}"', content=b'{"body":"' + b"x" * 60_000 + b'"}') for i in range(20)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    for _ in range(3):
        try:
            await commit(store, *big)
            print("committed", end=" ")
        except StoreUnavailable as error:
            print("refused", end=" ")
    print(await store.head("bob"), end=" ")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print([stored.n for stored in (await commit(store, *big)).stored] == list(range(2, 22)), end=" ")
    print([item.n for item in await store.items("bob", after=0, limit=99)] == list(range(1, 22)), flush=True)
    await store.close()

asyncio.run(main())
"""


def test_the_operating_system_refuses_to_write(tmp_path: Path) -> None:
    """The write-ahead log may not grow: a real failing write(2), an I/O error in SQLite's words."""
    process = child(DISK_FULL, new_database(tmp_path))
    output, _ = process.communicate(timeout=30)
    assert output.split() == ["refused", "refused", "refused", "1", "True", "True"]


# --- broken connections


async def test_a_read_only_connection_is_replaced(store: SqliteStore) -> None:
    await commit(store, chat())
    await store._writer.call(lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreUnavailable, match="readonly"):
        await commit(store, chat())
    assert (await commit(store, chat())).stored[0].n == 2


async def test_a_statement_that_fails_halfway_leaves_no_transaction_open(store: SqliteStore) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO im_inbox VALUES ('bob', 99)")
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await store._writer.call(fail)
    assert (await commit(store, chat())).stored[0].n == 1


async def test_an_error_of_ours_is_not_called_unavailable(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store._writer.call(lambda connection: connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store._reader.call(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert (await commit(store, chat())).stored[0].n == 1


async def test_a_batch_that_cannot_be_stored_changes_nothing(store: SqliteStore) -> None:
    await commit(store, chat())
    bad = chat(to=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        await commit(store, chat('"a"'), bad, moves=[CursorMove("bob", "phone", 1, 1)])
    assert await store.head("bob") == 1
    (stored,) = (await commit(store, chat('"a"'))).stored
    assert (stored.n, stored.repeated) == (2, False)


async def test_a_cancelled_commit_does_not_harm_the_next(store: SqliteStore) -> None:
    commits = [asyncio.ensure_future(commit(store, chat(f'"{i}"'))) for i in range(10)]
    await asyncio.sleep(0.001)
    for running in commits[::2]:
        running.cancel()
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert not any(isinstance(result, Exception) for result in results)
    await commit(store, *[chat(f'"{i}"') for i in range(10)])
    assert [item.n for item in await store.items("bob", after=0, limit=99)] == list(range(1, 11))


async def test_content_that_nothing_should_have_written_can_still_be_read(store: SqliteStore) -> None:
    contents = [b"\xff\xfe not UTF-8", b"nul \x00 inside", b"", b"{}"]
    await commit(store, *[chat(content=content) for content in contents])
    assert [item.content for item in await store.items("bob", after=0, limit=9)] == contents


async def test_a_page_longer_than_sqlite_allows_comes_in_parts(store: SqliteStore) -> None:
    await commit(store, *[chat(content=b"x" * 10_000) for _ in range(20)])
    await store._reader.call(lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 35_000))
    seen: list[int] = []
    while page := await store.items("bob", after=len(seen), limit=20):
        seen += [item.n for item in page]
    assert seen == list(range(1, 21))


# --- opening and closing


async def test_a_second_server_on_the_same_file_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    second = SqliteStore(tmp_path / "aldis.db")
    with pytest.raises(StoreUnavailable, match=rf"another server \(process {os.getpid()}\).*aldis\.db"):
        await second.open()
    await second.close()
    assert (await commit(store, chat())).stored[0].n == 1


OWNER = """
import asyncio, sys
from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import StoreUnavailable

async def main():
    store = SqliteStore(sys.argv[1])
    try:
        await store.open()
        print("open", flush=True)
    except StoreUnavailable as error:
        print(error, flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


async def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    owner = child(OWNER, path)
    assert owner.stdout and owner.stdout.readline().strip() == "open"
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=f"process {owner.pid}"):
        await store.open()
    owner.kill()
    owner.communicate()
    await store.open()
    assert (await commit(store, chat())).stored[0].n == 1
    await store.close()


async def test_the_lock_is_free_after_close(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    for _ in range(3):
        store = SqliteStore(path)
        await store.open()
        await store.close()


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "aldis.db")
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await store.open()
    assert not (tmp_path / "aldis.db").exists()
    with pytest.raises(StoreUnavailable, match="cannot create"):
        await SqliteStore(tmp_path / "missing" / "aldis.db").open()


async def test_something_else_than_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aldis.db"
    path.write_bytes(b"this is not a database at all\n" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await SqliteStore(path).open()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DROP TABLE alembic_version", "no tables yet: run `aldis migrate`"),
        ("DELETE FROM alembic_version", "at revision None"),
        ("UPDATE alembic_version SET version_num = '9999'", "at revision 9999, this program needs"),
    ],
)
async def test_a_database_of_another_version_is_refused(tmp_path: Path, statement: str, reason: str) -> None:
    path = new_database(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=reason):
        await store.open()
    shutil.copyfile(new_database(tmp_path, "good.db"), path)
    await store.open()
    await store.close()


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SqliteStore(new_database(tmp_path))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await commit(store, chat())
        with pytest.raises(StoreUnavailable):
            await store.claim("bob", "phone", now=1, limit=1)
        with pytest.raises(StoreUnavailable):
            await store.head("bob")
        await store.open()
        await store.close()


async def test_close_waits_for_the_running_commit(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    store = SqliteStore(path)
    await store.open()
    committed, _ = await asyncio.gather(commit(store, *[chat() for _ in range(2_000)]), store.close())
    assert len(committed.stored) == 2_000
    again = SqliteStore(path)
    await again.open()
    assert await again.head("bob") == 2_000
    await again.close()


# --- durability


async def test_the_writer_waits_for_the_disk(store: SqliteStore) -> None:
    """What a test can see of it: that the settings which make SQLite call fsync at every commit are in force."""

    def durability(connection: sqlite3.Connection) -> tuple[str, int, int]:
        return tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "fullfsync")
        )

    assert await store._writer.call(durability) == ("wal", 2, 1)


async def test_mids_are_not_used_again_after_rows_are_deleted(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    store = SqliteStore(path)
    await store.open()
    last = (await commit(store, chat(), chat())).stored[-1]
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM im_message")
        connection.execute("DELETE FROM im_offline")
    await store.open()
    (stored,) = (await commit(store, chat())).stored
    assert (stored.mid > last.mid, stored.n) == (True, 3)
    await store.close()


async def test_a_forgotten_memory_of_heads_is_read_again(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.bridge.sqlite_commit.MAX_HEADS", 3)
    users = [f"user{i}" for i in range(8)]
    for round_ in range(1, 4):
        stored = (await commit(store, *[chat(to=user, sync=True) for user in users])).stored
        assert [one.n for one in stored] == [round_] * 8
    assert await store.head("alice") == 24
