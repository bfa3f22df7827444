"""One way to read and one way to write the accounts' tables, whatever the database.

Writes are serialised three times over on SQLite: by the process's write turn (fair, shared with the message writer),
by `BEGIN IMMEDIATE` (between processes), and by the busy timeout that waits for it. Without `BEGIN IMMEDIATE` two
transactions read the same old value and one of the writes is lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Insert, Table, event, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from aldis.bridge.schema import im_user
from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DEADLOCKS = frozenset({1205, 1213})
"""MySQL: lock wait timeout, deadlock. The transaction was rolled back and may be tried again."""
_ATTEMPTS = 5
READS, WRITES = "reads", "writes"
_SQLITE_CONNECTIONS = 8
"""Open at once, each with a thread, and kept. No more for a moment: to open one costs more than to wait for one, and
SQLite keeps the descriptor of a closed one for as long as another is open on the same file."""
_OUR_FAULT = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
"""What no waiting heals: it comes out as it is."""


def open_engine(url: str, *, busy_timeout: float) -> AsyncEngine:
    """An engine for the accounts' tables in a SQLite file; `busy_timeout` in seconds is how long to wait for another
    process's lock, or for a free connection of our own. (On MySQL the engine is `MySqlServer.engine`.)"""
    # At DEBUG these log parameters and rows: password hashes, wrapped keys. hide_parameters does it for errors.
    for name in ("aiosqlite", "sqlalchemy.engine"):
        logging.getLogger(name).setLevel(logging.WARNING)
    engine = create_async_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout},
        pool_timeout=busy_timeout,
        pool_size=_SQLITE_CONNECTIONS,
        max_overflow=0,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # In WAL mode only FULL makes a commit durable before it returns.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


class DatabaseState(NamedTuple):
    """`failures` so far of READS and WRITES, and which of them fail now (`away`); connections in use and at most."""

    failures: dict[str, int]
    away: frozenset[str]
    in_use: int
    allowed: int


class Database:
    """Connections to the accounts' tables. Every failure of the database itself comes out as `StoreUnavailable`.

    `write_turn` is entered around each write transaction: the process's `WriteTurn` on SQLite, a `nullcontext` where
    the database lets many write at once. It is never entered twice in one another.
    """

    def __init__(self, engine: AsyncEngine, write_turn: AbstractAsyncContextManager[Any]) -> None:
        self._engine = engine
        self._write_turn = write_turn
        self._failures = {READS: 0, WRITES: 0}
        self._away_since: dict[str, float] = {}
        """READS, WRITES -> since when they fail (monotonic): a locked database can be read."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; each statement sees its own moment."""
        try:
            async with self._engine.connect() as connection:
                yield connection
                self._answered(READS)
        except _OUR_FAULT:
            raise
        except (DBAPIError, PoolTimeout) as error:
            raise self._unavailable(READS, error) from error

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Runs `work` in one transaction, durable on return. A deadlock rolls back and runs `work` again, so it must
        keep its effects inside the transaction. An exception of `work` rolls back and comes through."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._write_turn, self._engine.connect() as connection:
                    if self._engine.dialect.name == "sqlite":
                        await connection.exec_driver_sql("BEGIN IMMEDIATE")
                    result = await work(connection)
                    await connection.commit()
                    self._answered(WRITES)
                    return result
            except _OUR_FAULT:
                raise
            except (DBAPIError, PoolTimeout) as error:
                if not _is_deadlock(error) or attempt == _ATTEMPTS - 1:
                    raise self._unavailable(WRITES, error) from error
                logger.info("deadlock, the transaction runs again", extra={"attempt": attempt + 1})
                await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def ready(self) -> None:
        """Really asks the database for a row of our own. Raises `StoreUnavailable`, also if there is no such table."""
        try:
            async with self.read() as connection:
                await connection.execute(select(im_user.c.user_id).limit(1))
        except ProgrammingError as error:
            raise self._unavailable(READS, error) from error

    def state(self) -> DatabaseState:
        """As of now; asks nobody."""
        pool = self._engine.pool
        in_use, allowed = (pool.checkedout(), pool.size()) if isinstance(pool, QueuePool) else (0, 0)
        return DatabaseState(dict(self._failures), frozenset(self._away_since), in_use, allowed)

    async def close(self) -> None:
        await self._engine.dispose()

    def _unavailable(self, what: str, error: Exception) -> StoreUnavailable:
        """Once per outage in the log: every request asks, and nodes ask every second."""
        self._failures[what] += 1
        if what not in self._away_since:
            self._away_since[what] = time.monotonic()
            reason = getattr(error, "orig", None) or type(error).__name__
            logger.warning("the accounts' database does not answer %s: %s", what, reason)
        return StoreUnavailable("the accounts' database does not answer")

    def _answered(self, what: str) -> None:
        if self._away_since and (since := self._away_since.pop(what, None)) is not None:
            logger.warning("the accounts' database answers %s again, after %.1f s", what, time.monotonic() - since)

    def insert_or_keep(self, table: Table) -> Insert:
        """An INSERT that leaves an existing row as it is. On MySQL it also locks that row for this transaction."""
        if self._engine.dialect.name == "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        first = next(iter(table.primary_key.columns))
        return mysql.insert(table).on_duplicate_key_update({first.name: first})


def is_duplicate(error: IntegrityError) -> bool:
    """Whether a unique key, and not some other constraint, refused the row."""
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[:1] == (1062,) or "UNIQUE constraint" in str(error.orig)


def _is_deadlock(error: Exception) -> bool:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    return bool(error.orig.args) and error.orig.args[0] in _DEADLOCKS
