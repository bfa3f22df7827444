"""The composition root's part for databases: which back end keeps messages and accounts, by the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aldis.bridge.not_yet import NotYet
from aldis.broker.ports import Store
from aldis.config.settings import Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from aldis.bridge.accounts import Accounts, Database
    from aldis.bridge.accounts.master_keys import MasterKeys
    from aldis.bridge.mysql_server import MySqlServer
    from aldis.bridge.write_turn import WriteTurn


logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_EVERY = 0.5
_SAY_EVERY = 10.0


class ClientTls(Protocol):
    """How to speak TLS to a server: the part that the settings of all of them have."""

    @property
    def ca_file(self) -> Path | None: ...
    @property
    def certfile(self) -> Path | None: ...
    @property
    def keyfile(self) -> Path | None: ...


class StartFailed(Exception):
    """The server cannot start with these settings on this machine; the text is for whoever tries."""


async def open_store(settings: Settings, turn: WriteTurn, *, migrating: bool) -> Store:
    """The store, open, on a database that is up to date: brought there if `migrating`, else by somebody else. Waits for
    both. Raises `StartFailed`, `StoreUnavailable`."""
    if migrating:
        await migrate_when_there(settings)
    store = _make_store(settings, turn)
    await _when_there(store.open, settings.store.wait_at_start)
    return store


async def migrate_when_there(settings: Settings) -> str:
    """`migrate_database`, as soon as there is a database server. Raises `StartFailed`."""
    return await _when_there(lambda: asyncio.to_thread(migrate_database, settings), settings.store.wait_at_start)


async def _when_there(work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Tries again until it works, fails for good, or the time is over; then as `StartFailed`."""
    loop = asyncio.get_running_loop()
    begun, said = loop.time(), float("-inf")
    while True:
        try:
            return await work()
        except NotYet as error:
            now = loop.time()
            if now >= begun + seconds:
                raise StartFailed(f"{error} (waited {seconds:g} s)" if seconds else str(error)) from error
            if now >= said + _SAY_EVERY:
                said = now
                logger.warning("waiting for the database: %s", error)
        await asyncio.sleep(min(_LOOK_EVERY, max(0.0, begun + seconds - now)))


def _make_store(settings: Settings, turn: WriteTurn) -> Store:
    store: Store
    if settings.store.backend == "memory":
        from aldis.bridge.memory import MemoryStore

        store = MemoryStore()
    elif settings.store.backend == "mysql":
        from aldis.bridge.mysql import MySqlStore

        store = MySqlStore(
            mysql_server(settings),
            # the envelope puts its own few fields around what a client sends
            largest=settings.limits.max_packet_size,
            flush_every_second=settings.store.flush_every_second,
        )
    else:
        from aldis.bridge.sqlite import SqliteStore

        path = settings.data / settings.store.file
        store = SqliteStore(
            path, busy_timeout=settings.store.busy_timeout, turn=turn, cache_size=settings.store.cache_size
        )
    return store


def open_accounts(settings: Settings, master_key: MasterKeys, turn: WriteTurn) -> Accounts:
    from aldis.bridge.accounts import Accounts

    return Accounts(
        open_database(settings, turn),
        master_key=master_key,
        max_friends=settings.accounts.max_friends,
        max_requests=settings.accounts.max_friend_requests,
    )


def open_database(settings: Settings, turn: AbstractAsyncContextManager[Any]) -> Database:
    """The accounts' tables; `turn` is the write turn of this process on SQLite. Raises `StartFailed`."""
    from aldis.bridge.accounts import Database, open_engine

    if settings.store.backend == "mysql":
        return Database(mysql_server(settings).engine(), nullcontext())
    return Database(open_engine(_sqlite_url(settings), busy_timeout=settings.store.busy_timeout), turn)


def migrate_database(settings: Settings) -> str:
    """Brings the database to the tables of this program and returns their revision. Blocks. Raises `StartFailed`,
    `NotYet`."""
    from aldis.bridge import migrate

    try:
        if settings.store.backend == "mysql":
            from aldis.bridge import mysql_migrate

            asyncio.run(mysql_migrate.upgrade(mysql_server(settings)))
        else:
            migrate.upgrade(_sqlite_url(settings))
    except migrate.MigrationNotYet as error:
        raise NotYet(str(error)) from error
    except migrate.MigrationRefused as error:
        raise StartFailed(str(error)) from error
    return migrate.expected_revision()


def secret_in(file: Path | None) -> str | None:
    """The first line of a file with a password or a key. Raises `OSError`, `UnicodeDecodeError`."""
    return None if file is None else file.read_text("utf-8").partition("\n")[0]


def shown_to_server(
    password_file: Path | None, tls: ClientTls | None, names: str
) -> tuple[str | None, SSLContext | None]:
    """The password and the TLS for a server that this program is a client of. Raises `StartFailed`, with the `names` of
    the settings, for a file that cannot be read or is no certificate."""
    from aldis.bridge.client_tls import tls_context

    try:
        context = None if tls is None else tls_context(tls.ca_file, tls.certfile, tls.keyfile)
        return secret_in(password_file), context
    except (OSError, UnicodeDecodeError) as error:
        raise StartFailed(f"cannot use {names}: {error}") from error


def mysql_server(settings: Settings) -> MySqlServer:
    """Where the MySQL database is. Raises `StartFailed` for a file that cannot be read or is no certificate."""
    from aldis.bridge.mysql_server import MySqlServer

    store = settings.store
    assert store.url is not None
    password, tls = shown_to_server(store.password_file, store.tls, "store.password_file or store.tls")
    return MySqlServer(
        store.url.get_secret_value(),
        password=password,
        connect_timeout=store.connect_timeout,
        answer_timeout=store.answer_timeout,
        pause_timeout=store.pause_timeout,
        pool_size=store.pool_size,
        tls=tls,
    )


def _sqlite_url(settings: Settings) -> str:
    return f"sqlite+aiosqlite:///{(settings.data / settings.store.file).absolute()}"
