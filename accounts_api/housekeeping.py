"""The work behind the calls: fills the history, lets go of what is old, sends broadcasts. One process at a time does
each for all (`Chores`), in small steps with pauses, wherever the REST API runs: nodes are kept free of it, because
their event loop carries messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

from aldis.accounts_api.broadcasting import Broadcasting
from aldis.bridge.accounts import Accounts
from aldis.broker.ports import StoreUnavailable
from aldis.config.history import History as HistorySettings

logger = logging.getLogger(__name__)

DAY = 86_400_000
LEASE = 60_000
"""Milliseconds for which a process holds a chore without renewing it."""
INBOXES_AT_ONCE = 1_000
"""Inboxes looked at with one query, most of which have nothing new."""
BROADCAST_INTERVAL = 5.0
"""Seconds between two looks at whether another process has left a broadcast unfinished. Our own we begin at once."""
_AFTER_TROUBLE = 10.0


class Housekeeping:
    """`start`, then `stop`; once. What it cannot do because the database is away it does later."""

    def __init__(
        self, accounts: Accounts, broadcasting: Broadcasting, settings: HistorySettings, now: Callable[[], int]
    ) -> None:
        self._accounts = accounts
        self._broadcasting = broadcasting
        self._settings = settings
        self._now = now
        self._holder = secrets.token_hex(8)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        self._tasks = [
            loop.create_task(work, name=name)
            for name, work in (
                ("history", self._regularly("history", self.fill, settings.fill_interval)),
                ("retention", self._regularly("retention", self.let_go, settings.retention_interval)),
                ("broadcasts", self._when_asked("broadcasts", self.broadcast)),
            )
        ]

    async def stop(self) -> None:
        """Leaves off between two steps; each is one transaction."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _regularly(self, name: str, work: Work, interval: float) -> None:
        """A round of ours keeps the others from theirs for as long."""
        while True:
            done = await self._round(name, work, rest=int(interval * 900))
            await asyncio.sleep(interval if done else min(interval, _AFTER_TROUBLE))

    async def _when_asked(self, name: str, work: Work) -> None:
        asked = self._broadcasting.asked
        while True:
            try:
                # a look costs no write
                wanted = await self._broadcasting.waiting()
            except StoreUnavailable:
                wanted = False
            if wanted:
                await self._round(name, work, rest=0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BROADCAST_INTERVAL):
                    await asked.wait()
            asked.clear()

    async def _round(self, name: str, work: Work, *, rest: int) -> bool:
        """False if it could not be done now."""
        try:
            step = Step(self._accounts, name, self._holder, self._now, self._settings.pause)
            if await step.begin():
                await work(step)
                await step.end(rest)
            return True
        except StoreUnavailable as error:
            logger.info("%s goes on later: %s", name, error)
        except Exception:
            # what is wrong with one round must not end all others
            logger.exception("%s has failed; it is tried again", name)
        return False

    async def fill(self, step: Step) -> None:
        """One round over all inboxes, from where the last one was left."""
        filling, batch = self._accounts.filling, self._settings.batch
        after = step.place
        while True:
            inboxes = await filling.inboxes(after=after, limit=INBOXES_AT_ONCE)
            behind = [inbox for inbox in inboxes if inbox.behind > 0]
            while behind:
                done = await filling.fill(behind, limit=batch)
                if not await step.next(after):
                    return
                if done < batch:
                    break
                users = [inbox.user for inbox in behind]
                behind = [inbox for inbox in await filling.those_of(users) if inbox.behind > 0]
            if len(inboxes) < INBOXES_AT_ONCE:
                return
            after = inboxes[-1].user
            if not await step.next(after):
                return

    async def let_go(self, step: Step) -> None:
        """One round: idle devices, old messages, ids, answers to repeated requests."""
        settings = self._settings
        if settings.idle_device_days:
            await self._expire_devices(step, settings.idle_device_days * DAY)
        if settings.keep_days:
            await self._remove_messages(step, settings.keep_days * DAY)
            await self._forget_ids(step, (settings.keep_days + settings.keep_ids_days) * DAY)
        while await self._accounts.repeats.clean(now=self._now(), limit=settings.batch) == settings.batch:
            if not await step.next(""):
                return

    async def _expire_devices(self, step: Step, idle: int) -> None:
        after, retention = "", self._accounts.retention
        while True:
            after, _ = await retention.expire_devices(
                after=after, seen_before=self._now() - idle, limit=self._settings.batch
            )
            if not after or not await step.next(""):
                return

    async def _remove_messages(self, step: Step, age: int) -> None:
        after, retention, batch = "", self._accounts.retention, self._settings.batch
        removed = 0
        while True:
            inboxes, after = await retention.inboxes(after=after, limit=INBOXES_AT_ONCE)
            for inbox in inboxes:
                while done := await retention.remove(inbox, created_before=self._now() - age, limit=batch):
                    removed += done
                    if not await step.next(""):
                        return
                    if done < batch:
                        break
            if not after:
                break
            if not await step.next(""):
                return
        if removed:
            logger.info("old messages removed", extra={"items": removed})

    async def _forget_ids(self, step: Step, age: int) -> None:
        mid = 0
        while True:
            mid, _ = await self._accounts.retention.forget_ids(
                after=mid, created_before=self._now() - age, limit=self._settings.batch
            )
            if not mid or not await step.next(""):
                return

    async def broadcast(self, step: Step) -> None:
        """Sends until no broadcast is unfinished."""
        while await self._broadcasting.send_some():
            if not await step.next(""):
                return


class Step:
    """One round of a chore: holds the lease, rests between two transactions, and says where it stands."""

    def __init__(self, accounts: Accounts, name: str, holder: str, now: Callable[[], int], pause: float) -> None:
        self._chores = accounts.chores
        self._name = name
        self._holder = holder
        self._now = now
        self._pause = pause
        self._renew = 0
        self.place = ""

    async def begin(self) -> bool:
        """False if somebody else is at it."""
        now = self._now()
        place = await self._chores.take(self._name, self._holder, now=now, until=now + LEASE)
        self._renew = now + LEASE // 2
        self.place = place or ""
        return place is not None

    async def next(self, place: str) -> bool:
        """Between two steps. False: another process has taken over."""
        await asyncio.sleep(self._pause)
        now = self._now()
        if now < self._renew:
            return True
        if await self._chores.take(self._name, self._holder, now=now, until=now + LEASE) is None:
            return False
        self._renew = now + LEASE // 2
        await self._chores.leave(self._name, self._holder, place=place, until=now + LEASE)
        return True

    async def end(self, rest: int) -> None:
        """The round is through; the next one begins at the beginning, here, or elsewhere after `rest` milliseconds."""
        await self._chores.leave(self._name, self._holder, place="", until=self._now() + rest if rest else 0)


Work = Callable[[Step], Awaitable[None]]
