"""The migrations on MySQL: the same scripts as on SQLite, one node at a time.

MySQL commits every DDL statement at once, so a migration that is killed halfway leaves what it has made. The first one
is told from a foreign database by its tables; what to do then is the operator's to decide.
"""

from __future__ import annotations

from dataclasses import replace

from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from aldis.bridge.migrate import LOCK_TIMEOUT, MigrationNotYet, MigrationRefused, configuration, known_revisions
from aldis.bridge.mysql_server import MySqlServer
from aldis.bridge.mysql_trouble import TROUBLE, unavailable
from aldis.bridge.not_yet import NotYet
from aldis.bridge.schema import REVISION

# The names of locks are the whole server's: one for each database. At most 64 characters.
LOCK = text("SELECT GET_LOCK(CONCAT('aldis.migrate.', MD5(DATABASE())), :seconds)")
UNLOCK = text("SELECT RELEASE_LOCK(CONCAT('aldis.migrate.', MD5(DATABASE())))")


async def upgrade(server: MySqlServer) -> None:
    """Creates or changes the tables as needed; does nothing to a database that is up to date. Of several nodes that
    start at once, one migrates and the others wait. The statements themselves may take as long as they need.

    Raises `MigrationNotYet`: not reachable, or migrated by another node for longer than `LOCK_TIMEOUT`;
    `MigrationRefused`: not ours to use, newer than this program, or left halfway by a migration that was killed.
    """
    engine = replace(server, answer_timeout=None).engine(pooled=False)
    try:
        async with engine.connect() as connection:
            if not await connection.scalar(LOCK, {"seconds": LOCK_TIMEOUT}):
                raise MigrationNotYet(f"{server.name}: another node has been migrating for {LOCK_TIMEOUT:g} s: wait")
            await connection.run_sync(_upgrade, server.name)
            await connection.scalar(UNLOCK)
    except (*TROUBLE, SQLAlchemyError) as error:
        trouble = unavailable(error, server.name)
        refused = MigrationNotYet if isinstance(trouble, NotYet) else MigrationRefused
        raise refused(f"cannot migrate the database: {trouble}") from error
    finally:
        await engine.dispose()


async def current_revision(server: MySqlServer) -> str | None:
    """The revision of the database, None if it has no tables of ours yet."""
    engine = server.engine(pooled=False)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_found)
    finally:
        await engine.dispose()


def _found(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, name: str) -> None:
    found = _found(connection)
    if found == REVISION:
        return
    if found is not None and found not in known_revisions():
        raise MigrationRefused(
            f"{name} is at revision {found}, which this program (revision {REVISION}) does not know: "
            "it was made by a newer version, use that one"
        )
    left = sorted(table for table in inspect(connection).get_table_names() if table.startswith("im_"))
    if found is None and left:
        raise MigrationRefused(
            f"{name} has the tables {', '.join(left)}, but no revision: a first migration was interrupted, or they are "
            "somebody else's. If they are empty, drop them and try again"
        )
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)
    connection.commit()
