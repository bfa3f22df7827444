"""How to reach a MySQL or MariaDB server: its address, TLS, and a connection that cannot hang.

aiomysql bounds nothing but the TCP connect: a server that stands still keeps a query waiting for ever. And asked for
TLS, it goes on in the clear if the server (or somebody in between) says that there is none. `BoundedConnection` puts
both right; every engine of this program, the accounts' and the migrations' too, is built on it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiomysql  # type: ignore[import-untyped]
from pymysql.constants import CLIENT, CR  # type: ignore[import-untyped]
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

T = TypeVar("T")

SQL_MODE = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Whatever the server's default is: a value that does not fit is an error, never cut."""

LITERALS_AS_BYTES = "SET SESSION character_set_client = binary, SESSION character_set_connection = binary"
"""What stands between quotes is bytes and no text, in a session of `mysql_literals`. To say so at each literal by an
introducer costs the server a tenth of a commit."""

TLS_MISSING = 2026
"""CR_SSL_CONNECTION_ERROR, as the C client numbers it."""


@dataclass(frozen=True)
class MySqlServer:
    """Where the database is. `url` is `mysql://user:password@host:port/database` (or `mariadb://`) and a secret, as is
    `password`, which wins over the one in the URL.

    `connect_timeout`, in seconds, is for the whole way to a session, log-in included; `answer_timeout` for the answer
    to one statement, None for no limit; `pause_timeout` is for what a transaction may stand still between two of its
    statements, before the server ends it. `pool_size` is the number of connections of one pool.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 5.0
    answer_timeout: float | None = 10.0
    pause_timeout: float = 3.0
    pool_size: int = 10
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """For logs and errors: without user and password."""
        address = self.address
        return f"{address.host or 'localhost'}:{address.port or 3306}/{address.database}"

    @property
    def address(self) -> URL:
        address = make_url(self.url).set(drivername="mysql+aiomysql")
        return address if self.password is None else address.set(password=self.password)

    def engine(
        self, *, pooled: bool = True, size: int | None = None, reset: bool = True, literals: bool = False
    ) -> AsyncEngine:
        """An engine with a pool of its own, of `size` connections. Each is looked after before it is handed out, so
        that a restart of the server is not met by one after the other; who waits for a free one waits for
        `answer_timeout` at most. Without `reset` whoever begins a transaction by hand must end it. Not `pooled`: every
        connection is new. `literals`: statements come with values of `mysql_literals` in them."""
        # At DEBUG these log parameters and rows: password hashes, wrapped keys. hide_parameters does it for errors.
        for name in ("aiomysql", "sqlalchemy.engine", "sqlalchemy.pool"):
            logging.getLogger(name).setLevel(logging.WARNING)
        common: dict[str, Any] = {
            "hide_parameters": True,
            "connect_args": {"charset": "utf8mb4", "program_name": "aldis", "async_creator_fn": self._connect},
        }
        if not pooled:
            return create_async_engine(self.address, **common, poolclass=NullPool)
        engine = create_async_engine(
            self.address,
            **common,
            pool_size=self.pool_size if size is None else size,
            max_overflow=0,
            pool_timeout=self.answer_timeout or 3_600.0,
            pool_pre_ping=True,
            pool_recycle=1_800,  # seconds; firewalls forget connections that live for hours
            pool_reset_on_return="rollback" if reset else None,
        )
        if literals:  # after SQLAlchemy's own SET NAMES
            event.listen(engine.sync_engine, "connect", _take_literals_as_bytes)
        return engine

    async def _connect(self, **arguments: Any) -> BoundedConnection:
        connection = BoundedConnection(
            **arguments, ssl=self.tls, connect_timeout=self.connect_timeout, answer_timeout=self.answer_timeout
        )
        await connection.establish(self._session())
        return connection

    def _session(self) -> list[str]:
        """What every session begins with."""
        statements = [f"SET SESSION sql_mode = '{SQL_MODE}'"]
        if self.answer_timeout is not None:
            # A wait for a row lock is answered before we give up; and if we vanish in mid-transaction, behind a link
            # that broke without a word, the server rolls back and lets go of the locks after this long.
            wait, idle = max(1, math.floor(self.answer_timeout / 2)), max(2, math.ceil(self.answer_timeout * 3))
            statements.append(f"SET SESSION innodb_lock_wait_timeout = {wait}, SESSION wait_timeout = {idle}")
        return statements


def _take_literals_as_bytes(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(LITERALS_AS_BYTES)
    cursor.close()


class BoundedConnection(aiomysql.Connection):  # type: ignore[misc]  # untyped
    """aiomysql's connection, with an end to every wait. After a time-out, and after a cancelled wait, it is closed:
    nobody knows which answer would come next. What is still buffered is not sent: a server that stands still takes
    nothing.
    """

    def __init__(self, *, answer_timeout: float | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._answer_timeout = answer_timeout

    async def establish(self, session: list[str]) -> None:
        """Connects, logs in and prepares the session."""
        try:
            await self._bounded(self._establish(session), self.connect_timeout)
        except RuntimeError as error:
            # aiomysql asks for the socket, which uvloop does not have any more if the server has closed it meanwhile
            raise aiomysql.OperationalError(CR.CR_SERVER_LOST, "the server closed the connection at once") from error

    async def _establish(self, session: list[str]) -> None:
        await self._connect()
        for statement in session:
            await self.query(statement)

    async def run(self, statement: bytes) -> tuple[tuple[Any, ...], ...]:
        """The rows of the answer, none for a statement that gives none; see `affected_rows` and `insert_id`."""
        await self.query(statement)
        return self._result.rows or ()

    async def run_all(self, statements: Sequence[bytes]) -> list[tuple[tuple[Any, ...], ...]]:
        """The rows of each, in one way to the server and back. Those after the first that fails are not run; its error
        is raised. `insert_id` is that of the last."""
        answers = [await self.run(b";".join(statements))]
        while self._result.has_next:
            await self._bounded(self.next_result(), self._answer_timeout)
            answers.append(self._result.rows or ())
        return answers

    async def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        affected: int = await self._bounded(super().query(sql, unbuffered), self._answer_timeout)
        return affected

    async def ping(self, reconnect: bool = False) -> None:
        # SQLAlchemy's pool never wants a reconnect: the session would be another one
        await self._bounded(super().ping(reconnect=False), self._answer_timeout)

    async def begin(self) -> None:
        await self._bounded(super().begin(), self._answer_timeout)

    async def commit(self) -> None:
        await self._bounded(super().commit(), self._answer_timeout)

    async def rollback(self) -> None:
        await self._bounded(super().rollback(), self._answer_timeout)

    async def autocommit(self, value: bool) -> None:
        await self._bounded(super().autocommit(value), self._answer_timeout)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        super().close()

    async def ensure_closed(self) -> None:
        """Says good-bye and waits for nothing."""
        if self._writer is not None:
            if not self._writer.transport.is_closing():
                self._writer.write(b"\x01\x00\x00\x00\x01")  # COM_QUIT
            super().close()

    def _write_bytes(self, data: bytes) -> None:
        # uvloop answers a write to what the server has closed with a RuntimeError, which nobody takes for trouble
        if self._writer.transport.is_closing():
            raise aiomysql.OperationalError(CR.CR_SERVER_GONE_ERROR, "the server has closed the connection")
        super()._write_bytes(data)

    async def _request_authentication(self) -> None:
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            raise aiomysql.OperationalError(TLS_MISSING, "TLS is required, and the server does not offer it")
        await super()._request_authentication()

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as error:
            self.close()
            raise aiomysql.OperationalError(CR.CR_SERVER_LOST, f"no answer within {seconds:g} seconds") from error
        except asyncio.CancelledError:
            self.close()
            raise
