"""The durable store on MySQL or MariaDB.

commit                  one kept connection, one transaction after the other        mysql_commit, mysql_write
claim, release          another one; gathered, many in one transaction              mysql_devices
forget_device, retain   the same one, in between                                    mysql_devices, mysql_retained
items, head, find, …    connections of the pool, in autocommit                      mysql_reads
claim_shard             the same, one after the other                               mysql_shards
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from aldis.bridge import mysql_devices, mysql_reads, mysql_retained, mysql_shards
from aldis.bridge.device_requests import DeviceRequests, Leaving, Taking
from aldis.bridge.mysql_commit import LOCK_WAITS, Committer
from aldis.bridge.mysql_link import KeptLink, Links
from aldis.bridge.mysql_literals import GROWTH
from aldis.bridge.mysql_server import BoundedConnection, MySqlServer
from aldis.bridge.mysql_settings import check_revision, check_server, draw_odd_ids
from aldis.bridge.mysql_trouble import TROUBLE, is_lock_wait, is_ours, may_run_again, unavailable
from aldis.bridge.retained import retained_rows
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

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 5
"""Of a change that meets a deadlock."""


class MySqlStore:
    """Keeps `aldis.broker.ports.Store` in the database of `server`, which `aldis.bridge.mysql_migrate` has prepared.
    Several stores, on as many nodes, may use one database at the same time.

    `largest` is the content of the largest message in bytes: a server that would not take it is refused, because such a
    message would stand in the way of all others. `flush_every_second` accepts a server that writes its log at a commit,
    but asks the disk for it once a second only: a crash of the database is survived, a power cut costs a second.

    After a `StoreUnavailable` of `commit` call it again with the very same batch object: whether the batch had taken
    effect or not, it is stored once.
    """

    def __init__(self, server: MySqlServer, *, largest: int = 65_536, flush_every_second: bool = False) -> None:
        self._server = server
        self._largest = largest
        self._flush_every_second = flush_every_second
        self._opened: _Opened | None = None

    async def open(self) -> None:
        """Raises `StoreUnavailable`: not reachable, not durable, not migrated to this version."""
        if self._opened is not None:
            return
        opened = _Opened(self._server, self._largest, flush_every_second=self._flush_every_second)
        try:
            await opened.begin()
        except BaseException:
            await opened.end(begun=False)
            raise
        self._opened = opened

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.requests.settle()
            await opened.end()

    def _now(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("the store is not open")
        return self._opened

    async def commit(self, batch: Batch) -> Committed:
        return await self._now().committer.commit(batch)

    async def claim_shard(self, shard: int) -> int:
        opened = self._now()
        async with opened.claiming_shards:
            return await opened.ask(mysql_shards.claim, shard)

    async def highest_mid(self) -> int:
        return await self._now().ask(mysql_reads.highest_mid)

    async def claim(self, user: str, device: str, *, now: int, limit: int) -> Claim:
        return await self._now().requests.claim(Taking(user, device, now, limit))

    async def release(self, user: str, device: str, *, epoch: int, last_seen: int) -> None:
        await self._now().requests.release(Leaving(user, device, epoch, last_seen))

    async def forget_device(self, user: str, device: str) -> bool:
        return await self._now().change(mysql_devices.forget, user, device)

    async def items(self, user: str, *, after: int, limit: int) -> list[Item]:
        return await self._now().ask(mysql_reads.items, user, after, limit)

    async def head(self, user: str) -> int:
        return await self._now().ask(mysql_reads.head, user)

    async def receipts_for(self, peer: str, *, limit: int) -> list[ReceiptState]:
        return await self._now().ask(mysql_reads.receipts_for, peer, limit)

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        return await self._now().ask(mysql_reads.last_seq, user, device, recipient)

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        return await self._now().ask(mysql_reads.find, user, device, id)

    async def devices(self, user: str) -> list[Device]:
        return await self._now().ask(mysql_reads.devices, user)

    async def positions(self, users: Sequence[str]) -> dict[str, Position]:
        return await self._now().ask(mysql_reads.positions, users)

    async def receipt_changes(self, peers: Sequence[str], *, since: int) -> list[ReceiptState]:
        return await self._now().ask(mysql_reads.receipt_changes, peers, since)

    async def last_seen(self, users: Sequence[str]) -> dict[str, int]:
        return await self._now().ask(mysql_reads.last_seen, users)

    async def retain(self, messages: Sequence[RetainedMessage]) -> None:
        opened = self._now()
        kept, removed = retained_rows(messages)
        # two transactions: in one, two nodes that each keep what the other removes would wait in a circle
        if kept:
            await opened.change(mysql_retained.keep, kept, packet=opened.committer.packet)
        if removed:
            await opened.change(mysql_retained.remove, removed)

    async def retained(self, prefix: str, *, limit: int) -> list[RetainedMessage]:
        return await self._now().ask(mysql_retained.retained, prefix, limit)


class _Opened:
    """What an open store holds."""

    def __init__(self, server: MySqlServer, largest: int, *, flush_every_second: bool) -> None:
        self._server = server
        self._largest = largest
        self._flush_every_second = flush_every_second
        self._links = Links(server, kept=2)
        self._writing = KeptLink(self._links, self._prepare)
        self._turning = KeptLink(self._links, self._prepare)
        self._changing = asyncio.Lock()
        # a claim may wait for a frozen node's commit: many at once would keep those who read from the pool
        self.claiming_shards = asyncio.Lock()
        self.committer = Committer(self._writing, server.name)
        self.requests = DeviceRequests(self._turn_over)

    async def begin(self) -> None:
        await self._writing.get()
        await self.ask(self.committer.forget_writers)

    async def end(self, *, begun: bool = True) -> None:
        """Without `begun` the database knows nothing of us yet."""
        try:
            if begun:
                await self.ask(self.committer.forget_myself)
        except StoreUnavailable as error:
            logger.info("the database could not be told that we leave: %s", error)
        await self._writing.drop()
        async with self._changing:  # who waits for it has come before us
            await self._turning.drop()
        await self._links.close()

    async def _prepare(self, driver: BoundedConnection) -> None:
        found = await check_server(driver, flush_every_second=self._flush_every_second, largest=self._largest * GROWTH)
        self.committer.packet, self.committer.step = found.packet, await draw_odd_ids(driver, found)
        await check_revision(driver)

    async def ask(
        self, work: Callable[Concatenate[BoundedConnection, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Runs `work` on a connection of the pool, in autocommit."""
        async with self._links.lent() as driver:
            return await work(driver, *args, **kwargs)

    async def _turn_over(self, leaving: list[Leaving], taking: list[Taking]) -> list[Claim | TooManyDevices]:
        return await self.change(mysql_devices.turn_over, leaving, taking)

    async def change(
        self, work: Callable[Concatenate[BoundedConnection, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Runs `work` in a transaction on the kept connection for such changes, one after the other; again after a
        deadlock."""
        async with self._changing:
            for attempt in range(1, ATTEMPTS + 1):
                driver = await self._turning.get()
                try:
                    result = await work(driver, *args, **kwargs)
                    await driver.commit()
                except TROUBLE as error:
                    await self._turning.end()
                    if may_run_again(error) and attempt < (LOCK_WAITS if is_lock_wait(error) else ATTEMPTS):
                        logger.info("a change runs again", extra={"attempt": attempt, "reason": str(error)})
                        continue
                    if is_ours(error):
                        raise
                    await self._turning.drop()
                    raise unavailable(error, self._server.name) from error
                except BaseException:
                    await self._turning.drop()
                    raise
                return result
            raise AssertionError("the last attempt returns or raises")
