"""A SQLite connection in a thread of its own, opened again after trouble, and the lock on the data folder."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

OLDEST_SQLITE = (3, 38, 0)
"""The first release with the JSON functions always built in; UPDATE … FROM came with 3.33."""

_OUR_FAULT = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)
"""Primary result codes that repeating cannot heal: they are raised as they are."""

_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
"""Primary result codes after which the connection is as good as before; after any other it is opened anew."""


class ConnectionThread:
    """One connection and the only thread that touches it.

    `call(work, …)` runs `work(connection, …)` there, one after the other. Whatever it raises, no transaction is left
    open. Trouble of the database, the disk or a lock becomes `StoreUnavailable`; the next call finds a connection that
    works as soon as the trouble is over. `prepare(connection)` runs after every opening.
    """

    def __init__(self, path: Path, *, name: str, busy_timeout: float, prepare: Callable[[sqlite3.Connection], None]):
        self._path = path
        self._busy_timeout = busy_timeout
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, work: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: self._run(work, *args, **kwargs)
        )

    async def close(self) -> None:
        """Waits for the running call, then closes the connection and ends the thread."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._executor, self._drop)
            self._executor.shutdown(wait=False)

    def _run(self, work: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection, *args, **kwargs)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
            self._restore(keep=code in _PASSING or code in _OUR_FAULT)
            if code in _OUR_FAULT:
                raise
            raise StoreUnavailable(f"{self._path.name}: {error} ({error.sqlite_errorname})") from error
        except BaseException:
            self._restore(keep=True)
            raise

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a missing database is trouble to be told, not a new empty one.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,  # we say BEGIN ourselves
            cached_statements=64,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _restore(self, *, keep: bool) -> None:
        if self._connection is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
        except sqlite3.Error as error:
            logger.warning("rolling back failed, the connection is opened anew: %s", error)
            keep = False
        if not keep:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                logger.warning("closing the database connection failed: %s", error)


class DatabaseLock:
    """`<database>.lock`, held while this process owns the database, freed by the kernel if it dies.

    Two servers on one data folder would hand out the same numbers; SQLite's own locks do not keep them apart.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises `StoreUnavailable` naming the owner's process id if another store holds it."""
        if self._file is not None:
            return
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot create {self._path}: {error.strerror}") from error
        try:
            # flock belongs to this opening of the file: a second store in the same process is refused as well.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise StoreUnavailable(
                f"another server (process {owner}) is using {self._path.with_suffix('')}: "
                "stop it, or give this one another data folder"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """The file stays: deleting it would let two later servers lock two different files of the same name."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
