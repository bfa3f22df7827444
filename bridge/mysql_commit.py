"""The group commit on MySQL: one transaction of few statements (`mysql_batch`), and what becomes of it in trouble.

    mark the batch -> raise and read the heads -> messages -> items -> sequences -> moves -> receipts -> COMMIT

A batch that comes from the journal takes the rows of its shards after the mark, before the heads.
Messages that are known by their `seq` alone cost one statement more, after the heads: what is stored of their counters.
A repeat (1062) rolls back and begins again with what was there before; from then on the batch looks once more behind
the locks on the heads, where nobody else can store the same any more: else another node could win every time.
A deadlock rolls back and begins again; a lost connection before COMMIT was sent has changed nothing. If it is lost
after that, nobody knows: the same batch comes again, and its mark in `im_writer` tells whether it is there already.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from typing import NamedTuple

from aldis.bridge import mysql_shards
from aldis.bridge.given_mids import given_mids
from aldis.bridge.mysql_batch import FORGET_WRITER, FORGET_WRITERS, MARK, MARK_TAIL, MARKED
from aldis.bridge.mysql_link import KeptLink
from aldis.bridge.mysql_literals import blob, number, row
from aldis.bridge.mysql_numbers import Numbered
from aldis.bridge.mysql_repeats import look_for_repeats
from aldis.bridge.mysql_server import BoundedConnection
from aldis.bridge.mysql_trips import Trips
from aldis.bridge.mysql_trouble import TROUBLE, is_lock_wait, is_ours, is_repeat, may_run_again, unavailable
from aldis.bridge.mysql_write import Step
from aldis.broker.ports import Batch, Committed, MidTaken, ShardLost, StoreUnavailable

logger = logging.getLogger(__name__)

ATTEMPTS = 8
"""Of one batch, at deadlocks and repeats together; then the caller decides when to try again."""

LOCK_WAITS = 2
"""Attempts that may each wait for half of `answer_timeout`."""

WARY_BATCHES = 64
"""Batches that look for repeats first after one was seen: a look costs a tenth of a commit, a conflict all of it."""

FORGET_AFTER = 7 * 86_400_000
"""Milliseconds after which the mark of a writer that is gone is deleted. Only a batch that is still being repeated
needs it."""


class _Attempted(NamedTuple):
    """The batch of the last attempt that ended in doubt, and what it is worth if it is there."""

    batch: Batch
    committed: Committed


class Committer:
    """Commits one batch at a time over `link`. `server` is its name in errors; `packet` gives the longest statement in
    bytes and `step` the distance of consecutive message ids, as the server has them."""

    def __init__(self, link: KeptLink, server: str) -> None:
        self.packet = 1_048_576
        self.step = 1
        self._link = link
        self._server = server
        self._writer = blob(secrets.token_bytes(16))
        self._number = 0
        self._marked = False
        self._doubt: _Attempted | None = None
        self._wary = 0
        self._stamp = 0

    async def commit(self, batch: Batch) -> Committed:
        """Raises what `Store.commit` does. After a `StoreUnavailable` call it with the very same batch again to learn
        what became of it."""
        if not (batch.messages or batch.moves or batch.delivered or batch.reads or batch.shards):
            return Committed([], [], [])
        given_mids(batch.messages)
        if self._doubt is None or self._doubt.batch is not batch:
            self._doubt = None
            self._number += 1
        repeated = False
        for attempt in range(1, ATTEMPTS + 1):
            driver = await self._link.get()
            try:
                return await self._try(driver, batch, look_again=repeated)
            except StoreUnavailable:
                raise
            except (ShardLost, MidTaken):
                await self._link.end()  # at once: others may wait for what it has locked
                raise
            except TROUBLE as error:
                await self._link.end()
                if is_repeat(error) and attempt < ATTEMPTS:
                    self._wary = WARY_BATCHES
                    repeated = True
                elif may_run_again(error) and attempt < (LOCK_WAITS if is_lock_wait(error) else ATTEMPTS):
                    logger.info("a commit runs again", extra={"attempt": attempt, "reason": str(error)})
                    await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 so that two do not meet again
                elif is_ours(error):
                    raise
                else:
                    await self._link.drop()
                    raise unavailable(error, self._server) from error
            except BaseException:
                await self._link.drop()
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _try(self, driver: BoundedConnection, batch: Batch, *, look_again: bool) -> Committed:
        if self._doubt is not None:
            there = await driver.run(MARKED % self._writer)
            if there and there[0][0] == self._number:
                committed, self._doubt = self._doubt.committed, None
                await driver.rollback()
                logger.warning("the commit whose answer was lost had taken effect")
                return committed
        # asked outside of every lock; whoever commits the same key meanwhile makes this attempt fail, the first time
        known = await look_for_repeats(Trips(driver, self.packet), batch.messages) if self._wary else None
        now = time.time_ns() // 1_000_000
        self._stamp = max(now, self._stamp + 1)
        trips = Trips(driver, self.packet)
        trips.add(MARK + row(self._writer, number(self._number), number(now)) + MARK_TAIL)
        if batch.shards:
            mysql_shards.check(trips, batch.shards)
        step = Step(trips, batch, known, self._stamp, step=self.step, look_again=look_again)
        committed = await step.write()
        await self._finish(driver, batch, committed)
        self._note(step.numbered)
        return committed

    async def _finish(self, driver: BoundedConnection, batch: Batch, committed: Committed) -> None:
        """From the moment COMMIT is sent until its answer is here, nobody knows. An error is an answer, but of engines
        that spread a commit over several machines not always a certain one: it is looked up like silence."""
        self._doubt = _Attempted(batch, committed)
        await driver.commit()
        self._doubt = None
        self._marked = True

    def _note(self, numbered: Numbered) -> None:
        if numbered.repeats:
            self._wary = WARY_BATCHES
        elif self._wary:
            self._wary -= 1

    async def forget_writers(self, driver: BoundedConnection) -> None:
        """Deletes the marks of writers that have not been heard of for long."""
        await driver.run(FORGET_WRITERS % number(time.time_ns() // 1_000_000 - FORGET_AFTER))

    async def forget_myself(self, driver: BoundedConnection) -> None:
        """At an orderly end: nobody will ask any more."""
        if self._marked and self._doubt is None:
            self._marked = False
            await driver.run(FORGET_WRITER % self._writer)
