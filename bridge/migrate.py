"""Brings a database to the tables that this program needs. For `aldis migrate` and the start of `aldis up`.

Import it only where it is used: Alembic and SQLAlchemy take most of a second to load. Alembic is configured here, so an
installed wheel needs no ini file. A new migration is written with

    alembic.command.revision(migrate.configuration(), message, autogenerate=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another server's migration of the same SQLite file."""

SCRIPTS = Path(__file__).parent / "migrations"

_BLOCKING_DRIVERS = {
    "sqlite+aiosqlite": "sqlite",
    "mysql+aiomysql": "mysql+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
}
"""Alembic works without an event loop: the URL of the running server names an asyncio driver, this is its twin."""


class MigrationRefused(Exception):
    """The database must not, or could not, be migrated; the text says which revision it has and what to do."""


def expected_revision() -> str:
    """The newest revision among the migration scripts."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def current_revision(url: str) -> str | None:
    """The revision of the database, None if it has no tables of ours yet."""
    with _connect(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(url: str) -> None:
    """Creates or changes the tables as needed; does nothing to a database that is up to date. Blocks.

    On SQLite all migrations together are one transaction, and a missing file and its folders are made. Raises
    `MigrationRefused` if the database is newer than this program, locked or not reachable.
    """
    database = make_url(url).database
    if url.startswith("sqlite") and database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with _connect(url) as connection:
            _refuse_newer(connection)
            config = configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)
    except DBAPIError as error:
        raise MigrationRefused(f"cannot migrate the database: {error.orig}") from error


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _refuse_newer(connection: Connection) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise MigrationRefused(
                f"the database is at revision {revision}, which this program (revision {REVISION}) does not know: "
                "it was made by a newer version, use that one"
            )


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    target = make_url(url)
    target = target.set(drivername=_BLOCKING_DRIVERS.get(target.drivername, target.drivername))
    sqlite = target.get_backend_name() == "sqlite"
    engine = create_engine(target, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT} if sqlite else {})
    if sqlite:
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
