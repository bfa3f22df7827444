"""The durable store of an embedded server: one SQLite file in WAL mode.

    event loop --commit, claim, release, retain, …------> writer thread, its own connection (synchronous=FULL)
    event loop --items, head, receipts_for, …-----------> reader thread, its own connection (query_only)

Statements: `sqlite_batch`, `sqlite_devices`, `sqlite_reads`, `sqlite_retained`, `sqlite_shards`. Threads and trouble:
`sqlite_connection`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aldis.bridge import sqlite_batch, sqlite_commit, sqlite_devices, sqlite_reads, sqlite_retained, sqlite_shards
from aldis.bridge.device_requests import DeviceRequests, Leaving, Taking
from aldis.bridge.retained import retained_rows
from aldis.bridge.schema import REVISION
from aldis.bridge.sqlite_connection import OLDEST_SQLITE, ConnectionThread, DatabaseLock
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.ports import (
    Batch,
    Claim,
    Committed,
    Device,
    Item,
    Position,
    ReceiptState,
    RetainedMessage,
    Stored,
    StoreUnavailable,
    TooManyDevices,
)

CHECKPOINT_PAGES = 4_000
"""Pages (of 4 KiB) in the write-ahead log before they are moved into the database file. Four times SQLite's default:
a hot page is then copied once for about twelve full batches instead of once for three."""


class SqliteStore:
    """Keeps `aldis.broker.ports.Store` in the SQLite file at `path`, which `aldis.bridge.migrate` has made.

    It holds `<path>.lock` while it is open: a second server on the same file is refused at `open`. Other connections to
    the file may read and write the tables of the accounts side; inside this process they take `turn` around a write
    transaction. `busy_timeout` is in seconds: how long a call waits for another process's lock before it becomes
    `StoreUnavailable`. `cache_size` is in bytes, for each of the two connections.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        busy_timeout: float = 5.0,
        turn: WriteTurn | None = None,
        cache_size: int = 67_108_864,
    ) -> None:
        self._path = Path(path)
        self._cache_size = cache_size
        self._busy_timeout = busy_timeout
        self._turn = turn if turn is not None else WriteTurn()
        self._lock = DatabaseLock(self._path)
        self._writer: ConnectionThread | None = None
        self._reader: ConnectionThread | None = None
        self._committer = sqlite_commit.Committer()
        self._requests = DeviceRequests(self._turn_over)

    @property
    def turn(self) -> WriteTurn:
        return self._turn

    async def open(self) -> None:
        """Raises `StoreUnavailable`: no such file, not migrated to this version, used by another server, no WAL."""
        if self._writer is not None:
            return
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old, {oldest} is needed")
        self._lock.acquire()
        self._committer = sqlite_commit.Committer()
        self._writer = ConnectionThread(
            self._path,
            name="store-writer",
            busy_timeout=self._busy_timeout,
            prepare=partial(_prepare_writer, cache_size=self._cache_size),
        )
        self._reader = ConnectionThread(
            self._path,
            name="store-reader",
            busy_timeout=self._busy_timeout,
            prepare=partial(_prepare_reader, cache_size=self._cache_size),
        )
        try:
            await self._writer.call(_check_revision)
            await self._reader.call(_check_revision)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Waits for running calls; later ones raise `StoreUnavailable`."""
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()
        if writer is not None:
            await writer.close()
        self._lock.release()

    def _writing(self) -> ConnectionThread:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        return self._writer

    def _reading(self) -> ConnectionThread:
        if self._reader is None:
            raise StoreUnavailable("the store is not open")
        return self._reader

    async def commit(self, batch: Batch) -> Committed:
        writer = self._writing()
        async with self._turn:
            return await writer.call(self._committer.commit, batch)

    async def claim_shard(self, shard: int) -> int:
        writer = self._writing()
        async with self._turn:
            return await writer.call(sqlite_shards.claim, shard)

    async def highest_mid(self) -> int:
        return await self._reading().call(sqlite_reads.highest_mid)

    async def claim(self, user: str, device: str, *, now: int, limit: int) -> Claim:
        return await self._requests.claim(Taking(user, device, now, limit))

    async def release(self, user: str, device: str, *, epoch: int, last_seen: int) -> None:
        await self._requests.release(Leaving(user, device, epoch, last_seen))

    async def _turn_over(self, leaving: list[Leaving], taking: list[Taking]) -> list[Claim | TooManyDevices]:
        async with self._turn:
            return await self._writing().call(sqlite_devices.turn_over, leaving, taking)

    async def forget_device(self, user: str, device: str) -> bool:
        writer = self._writing()
        async with self._turn:
            return await writer.call(sqlite_devices.forget, user, device)

    async def items(self, user: str, *, after: int, limit: int) -> list[Item]:
        return await self._reading().call(sqlite_reads.items, user, after, limit)

    async def head(self, user: str) -> int:
        return await self._reading().call(sqlite_reads.head, user)

    async def receipts_for(self, peer: str, *, limit: int) -> list[ReceiptState]:
        return await self._reading().call(sqlite_reads.receipts_for, peer, limit)

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        return await self._reading().call(sqlite_reads.last_seq, user, device, recipient)

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        return await self._reading().call(sqlite_reads.find, user, device, id)

    async def devices(self, user: str) -> list[Device]:
        return await self._reading().call(sqlite_reads.devices, user)

    async def positions(self, users: Sequence[str]) -> dict[str, Position]:
        return await self._reading().call(sqlite_reads.positions, users)

    async def receipt_changes(self, peers: Sequence[str], *, since: int) -> list[ReceiptState]:
        return await self._reading().call(sqlite_reads.receipt_changes, peers, since)

    async def last_seen(self, users: Sequence[str]) -> dict[str, int]:
        return await self._reading().call(sqlite_reads.last_seen, users)

    async def retain(self, messages: Sequence[RetainedMessage]) -> None:
        writer = self._writing()
        kept, removed = retained_rows(messages)
        async with self._turn:
            await writer.call(sqlite_retained.retain, kept, removed)

    async def retained(self, prefix: str, *, limit: int) -> list[RetainedMessage]:
        return await self._reading().call(sqlite_retained.retained, prefix, limit)


def _prepare(connection: sqlite3.Connection, cache_size: int) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{cache_size // 1_024}")  # negative: KiB
    connection.execute("PRAGMA temp_store = MEMORY")


def _prepare_writer(connection: sqlite3.Connection, *, cache_size: int) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(f"this file system cannot hold a write-ahead log (journal mode stays {mode!r})")
    # Promise 1: a commit returns after its fsync. On macOS only F_FULLFSYNC reaches the disk; elsewhere it is ignored.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA secure_delete = OFF")
    _prepare(connection, cache_size)
    connection.executescript(sqlite_batch.SCHEMA)


def _prepare_reader(connection: sqlite3.Connection, *, cache_size: int) -> None:
    _prepare(connection, cache_size)
    connection.execute("PRAGMA query_only = ON")


def _check_revision(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        raise StoreUnavailable("the database has no tables yet: run `aldis migrate`")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    found = row[0] if row else None
    if found != REVISION:
        raise StoreUnavailable(
            f"the database is at revision {found}, this program needs {REVISION}: run `aldis migrate`"
        )
