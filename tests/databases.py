"""Migrated MySQL databases for tests: one for each purpose, emptied before it is given out again."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pymysql

from aldis.bridge import mysql_migrate
from aldis.bridge.mysql_server import MySqlServer
from aldis.bridge.schema import metadata
from tests.mariadb import MariaDb, shared_server


def migrated(server: MariaDb, name: str) -> MySqlServer:
    """A new database with our tables."""
    server.ask(f"CREATE DATABASE {name}")
    reached = MySqlServer(server.url(name))
    with ThreadPoolExecutor(1) as pool:  # the caller may stand in an event loop
        pool.submit(asyncio.run, mysql_migrate.upgrade(reached)).result()
    return reached


@cache
def _shared(name: str) -> MySqlServer:
    return migrated(shared_server(), name)


def empty_database(name: str = "aldis_contract") -> MySqlServer:
    """The database of that name on the shared server, without a row; message ids begin at 1 again."""
    _shared(name)
    tables = [table.name for table in reversed(metadata.sorted_tables)]
    statements = [*(f"DELETE FROM {table}" for table in tables), "ALTER TABLE im_message AUTO_INCREMENT = 1"]
    try:
        shared_server().run_all(statements, name)
    except pymysql.err.ProgrammingError:  # a test has dropped a table
        shared_server().ask(f"DROP DATABASE {name}")
        migrated(shared_server(), name)
    return _shared(name)


_numbers = itertools.count(1)


def new_name(prefix: str = "aldis_test") -> str:
    """A name that no database has yet. The test user may do everything in databases called `aldis…`."""
    return f"{prefix}_{next(_numbers)}"


def shared_database(name: str) -> MySqlServer:
    """The same database with whatever is in it."""
    return _shared(name)
