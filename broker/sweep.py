"""The sweep: what other nodes have told us, or should have, is looked up in the store.

    soon()        at once, after something may have been missed
    else          every `sweep` seconds while the link to the other nodes is up, every `sweep_unconnected` while not

Each round reads, in portions: heads and epochs of all users attached here (a higher head wakes their devices, a higher
epoch ends a connection), receipts about what they sent, announcements of the accounts side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aldis.broker.device import Device
from aldis.broker.inboxes import Inboxes
from aldis.broker.ownership import Ownership
from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

AT_ONCE = 500
"""Users in one reading: a few milliseconds of the database."""

MARGIN_MS = 30_000
"""How far back changed receipts are looked for: what clocks of nodes may differ, and what a commit may take."""


class Sweep:
    """One long-lived task. `connected` says whether the link is up; `read_log` reads announcements that were missed.
    Intervals are in seconds."""

    def __init__(
        self,
        inboxes: Inboxes,
        ownership: Ownership,
        *,
        connected: Callable[[], bool],
        read_log: Callable[[], Awaitable[None]],
        interval: float,
        interval_unconnected: float,
    ) -> None:
        self.rounds = 0
        self._store = inboxes.store
        self._inboxes = inboxes
        self._ownership = ownership
        self._connected = connected
        self._read_log = read_log
        self._now_ms = inboxes.now_ms
        self._interval = interval
        self._interval_unconnected = interval_unconnected
        self._due = asyncio.Event()
        self._receipts_since = self._now_ms()
        self._failing = False
        self._last = asyncio.get_running_loop().time()

    def soon(self) -> None:
        """Something that concerns anybody here may have been missed."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            self._due.clear()
            try:
                await self._round()
                if self._failing:
                    self._failing = False
                    logger.info("positions can be read again")
            except StoreUnavailable as error:
                if not self._failing:
                    self._failing = True
                    logger.warning("positions cannot be read: %s", error)
                await asyncio.sleep(self._interval_unconnected)
                self._due.set()
            except Exception:
                logger.exception("a sweep failed; the next one is due")
                await asyncio.sleep(self._interval_unconnected)

    async def _wait(self) -> None:
        """The link may go down while we wait for the long time: so it is looked at after each short one."""
        loop = asyncio.get_running_loop()
        while not self._due.is_set():
            try:
                async with asyncio.timeout(self._interval_unconnected):
                    await self._due.wait()
            except TimeoutError:
                if not self._connected() or loop.time() - self._last >= self._interval:
                    return

    async def _round(self) -> None:
        self._last = asyncio.get_running_loop().time()
        check = self._ownership.begin()
        began_ms = self._now_ms()
        await self._read_log()
        users = await self._positions()
        self._ownership.checked(check)
        self._inboxes.feeding.go_on()
        await self._changed_receipts(users)
        self._receipts_since = began_ms
        self.rounds += 1

    async def _positions(self) -> list[str]:
        devices: dict[str, list[Device]] = {}
        for device in self._inboxes.attached():
            devices.setdefault(device.session.user, []).append(device)
        users = list(devices)
        for portion in _portions(users):
            for user, position in (await self._store.positions(portion)).items():
                self._inboxes.positioned(user, position, devices[user])
        return users

    async def _changed_receipts(self, users: Sequence[str]) -> None:
        """Those of the time since the last whole round, and a margin. What was told before is not told again."""
        since = min(self._receipts_since, self._now_ms()) - MARGIN_MS
        for portion in _portions(users):
            self._inboxes.receipts.found(await self._store.receipt_changes(portion, since=since))


def _portions(users: Sequence[str]) -> Iterable[Sequence[str]]:
    return (users[at : at + AT_ONCE] for at in range(0, len(users), AT_ONCE))
