"""Brings a SQLite database to the tables that this program needs. For `aldis migrate` and the start of `aldis up`.
On MySQL `mysql_migrate` runs the same scripts.

Import it only where it is used: Alembic and SQLAlchemy take most of a second to load. Alembic is configured here, so an
installed wheel needs no ini file. A new migration is written with

    alembic.command.revision(migrate.configuration(), message, autogenerate=True)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from aldis.bridge.schema import REVISION
from aldis.bridge.sqlite_connection import DatabaseLock
from aldis.broker.ports import StoreUnavailable

LOCK_TIMEOUT = 10.0
"""Seconds to wait for others on the same database: a lock, another migration, a server that is being stopped."""

SCRIPTS = Path(__file__).parent / "migrations"

_BLOCKING_DRIVERS = {"sqlite+aiosqlite": "sqlite"}
"""Alembic works without an event loop: the URL of the running server names an asyncio driver, this is its twin."""


class MigrationRefused(Exception):
    """The database must not, or could not, be migrated; the text says which revision it has and what to do."""


class MigrationNotYet(MigrationRefused):
    """Time may heal it: the database server is not there yet, or another process is migrating."""


def expected_revision() -> str:
    """The newest revision among the migration scripts."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def current_revision(url: str) -> str | None:
    """The revision of the database, None if it has no tables of ours yet."""
    with _connect(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(url: str) -> None:
    """Creates or changes the tables as needed; does nothing to a database that is up to date. Blocks.

    On SQLite all migrations together are one transaction, a missing file and its folders are made, and a server that
    uses the file is given `LOCK_TIMEOUT` to go away. Raises `MigrationRefused` if it does not, or if the database is
    newer than this program, locked or not reachable.
    """
    try:
        with _alone(url) if _is_behind(url) else nullcontext(), _connect(url) as connection:
            config = configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)
    except DBAPIError as error:
        raise MigrationRefused(f"cannot migrate the database: {error.orig}") from error


def known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _is_behind(url: str) -> bool:
    target = make_url(url)
    if target.database:
        Path(target.database).parent.mkdir(parents=True, exist_ok=True)
    found = current_revision(url)
    if found is not None and found not in known_revisions():
        raise MigrationRefused(
            f"the database is at revision {found}, which this program (revision {REVISION}) does not know: "
            "it was made by a newer version, use that one"
        )
    return found != REVISION


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """No server may run on the tables while they change."""
    target = make_url(url)
    if not target.database:
        yield
        return
    lock = DatabaseLock(Path(target.database))
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            lock.acquire()
            break
        except StoreUnavailable as error:
            if time.monotonic() >= deadline:
                raise MigrationRefused(str(error)) from error
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    target = make_url(url)
    target = target.set(drivername=_BLOCKING_DRIVERS.get(target.drivername, target.drivername))
    engine = create_engine(target, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT})
    event.listen(engine, "connect", _no_implicit_transactions)
    event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


# The sqlite3 module does not begin a transaction before CREATE TABLE: without these two, a migration that is killed
# halfway would leave half of its tables. BEGIN IMMEDIATE also lets two servers that start at once migrate in turn.
def _no_implicit_transactions(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
