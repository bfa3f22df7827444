"""Connections out of SQLAlchemy's pool, used by hand.

The pool is SQLAlchemy's because aiomysql's own loses wake-ups. The statements go straight to the driver: an engine's
way around each of them costs more than all else that happens to a message.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.mysql_server import BoundedConnection, MySqlServer
from aldis.bridge.mysql_trouble import TROUBLE, UNKNOWN_VARIABLE, code, is_ours, unavailable

logger = logging.getLogger(__name__)

IDLE = 1.0
"""Seconds after which a kept connection is asked whether it is still there: servers close idle ones, and restart."""

Rows = tuple[tuple[object, ...], ...]


class Links:
    """The pool. Every trouble on the way comes out as `StoreUnavailable`, every fault of ours as it is."""

    def __init__(self, server: MySqlServer, *, kept: int) -> None:
        self.server = server
        # nobody leaves a transaction open here: it is ended, or its connection is dropped
        self._engine = server.engine(size=server.pool_size + kept, reset=False, literals=True)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[BoundedConnection]:
        """A connection in autocommit mode for one statement or a few. After any error it is dropped."""
        try:
            connection, driver = await self.take()
            try:
                if not driver.get_autocommit():
                    await driver.autocommit(True)
                yield driver
            except BaseException:
                await drop(connection, driver)
                raise
            await asyncio.shield(connection.close())
        except TROUBLE as error:
            if is_ours(error):
                raise
            raise unavailable(error, self.server.name) from error

    async def take(self) -> tuple[AsyncConnection, BoundedConnection]:
        connection = await self._engine.connect()
        try:
            driver = (await connection.get_raw_connection()).driver_connection
        except BaseException:
            await asyncio.shield(connection.close())
            raise
        assert isinstance(driver, BoundedConnection)
        return connection, driver

    async def close(self) -> None:
        await self._engine.dispose()


async def drop(connection: AsyncConnection, driver: BoundedConnection) -> None:
    """The connection does not go back into the pool. What its transaction has done is rolled back by the server."""
    driver.close()
    await asyncio.shield(_forget(connection))


async def _forget(connection: AsyncConnection) -> None:
    await connection.invalidate()
    await connection.close()


async def _bound_pauses(driver: BoundedConnection, seconds: float) -> None:
    """A node that is frozen in the middle of a transaction holds locks that all others wait for: so the server ends a
    transaction that stands still. MySQL can only end whole sessions that stand still; a new one is made when it is
    needed."""
    whole = max(1, math.ceil(seconds))
    try:
        await driver.run(b"SET SESSION idle_transaction_timeout = %d" % whole)
    except TROUBLE as error:
        if code(error) != UNKNOWN_VARIABLE:
            raise
        await driver.run(b"SET SESSION wait_timeout = %d" % max(whole, 2))


class KeptLink:
    """One connection kept for transactions, one after the other, and opened again after trouble.

    `prepare(driver)` runs on every new one, and may refuse it. Outside of a transaction the server holds nothing of it.
    """

    def __init__(self, links: Links, prepare: Callable[[BoundedConnection], Awaitable[None]]) -> None:
        self._links = links
        self._prepare = prepare
        self._held: tuple[AsyncConnection, BoundedConnection] | None = None
        self._used = 0.0

    async def get(self) -> BoundedConnection:
        """A connection in which the next statement begins a transaction. Raises `StoreUnavailable`."""
        try:
            if self._held is not None and time.monotonic() - self._used > IDLE:
                await self._look_after()
            if self._held is None:
                await self._open()
            assert self._held is not None
            self._used = time.monotonic()
            return self._held[1]
        except TROUBLE as error:
            await self.drop()
            if is_ours(error):
                raise
            raise unavailable(error, self._links.server.name) from error
        except BaseException:
            await self.drop()
            raise

    async def _look_after(self) -> None:
        assert self._held is not None
        try:
            await self._held[1].ping()
        except TROUBLE as error:
            logger.info("the kept connection was gone and is opened again: %s", error)
            await self.drop()

    async def _open(self) -> None:
        self._held = await self._links.take()
        driver = self._held[1]
        # One statement, on both makes: MariaDB before 11.1 knows no variable `transaction_isolation`. At this level a
        # statement sees what others have committed up to now, and locks rows, not the gaps between them.
        await driver.run(b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        await _bound_pauses(driver, self._links.server.pause_timeout)
        await self._prepare(driver)
        await driver.autocommit(False)

    async def end(self) -> None:
        """Rolls back, if the connection is still good for it; else drops it."""
        if self._held is None:
            return
        try:
            await self._held[1].rollback()
            self._used = time.monotonic()
        except BaseException as error:
            await self.drop()
            if not isinstance(error, TROUBLE):
                raise

    async def drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            try:
                await drop(*held)
            except TROUBLE as error:
                logger.warning("dropping a database connection failed: %s", error)
