"""Which devices this node holds, as the user status knows them; and what follows from a device's coming and going.

    CONNECT             Holdings.arrive      one call of the user status for all that come in one tick
    connection ends     Holdings.left        away (a persistent session waits) or gone
    session ends        Holdings.gone

The user status is asked for a bounded time. While it cannot be had, devices are served all the same: the store's epochs
decide who owns what. They are registered as soon as it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from aldis.broker.cluster_ports import Arrival, Holding, StatusUnavailable, UserStatus

logger = logging.getLogger(__name__)

AT_ONCE = 500
"""Devices in one call of the user status."""


class Held(NamedTuple):
    """A holding of this node, and whether its device is connected."""

    holding: Holding
    present: bool


class Lost(NamedTuple):
    """A device that this node held and another one has taken since."""

    holding: Holding
    by: Holding


PresenceHook = Callable[[str, bool], None]


class Holdings:
    """`on_presence` hooks are told when a user's first device has come (true) and when its last one has left (false),
    by the node where that happened; also where it only may be so, because the user status is away. `on_users` hooks are
    told when a device of a user comes to this node (true, each time: what was said before may have been forgotten or
    taken back), and when the node ceases to hold anything of the user (false); `on_doubt`, when something that was told
    of who is there may have been lost, here or elsewhere."""

    def __init__(self, status: UserStatus, now_us: Callable[[], int], *, patience: float) -> None:
        self.status = status
        self.on_presence: list[PresenceHook] = []
        self.on_users: list[Callable[[str, bool], None]] = []
        self.on_doubt: list[Callable[[], None]] = []
        self._now_us = now_us
        self._patience = patience
        self._held: dict[str, dict[str, Held]] = {}
        self._coming: list[tuple[str, str, asyncio.Future[Arrival | None]]] = []
        self._leaving: list[tuple[Holding, bool]] = []
        self._untold: dict[tuple[str, str], tuple[Holding, bool]] = {}  # leaving, of which the status may not know
        self._working: asyncio.Task[None] | None = None
        self._stopping = False
        self.unregistered = False

    # What is held

    def holds(self, user: str) -> bool:
        return user in self._held

    def holding(self, user: str, device: str) -> Holding | None:
        """What this node holds of the device, connected or away."""
        held = self._held.get(user, {}).get(device)
        return None if held is None else held.holding

    def users(self) -> list[str]:
        return list(self._held)

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def _take(self, holding: Holding, *, present: bool) -> None:
        self._held.setdefault(holding.user, {})[holding.device] = Held(holding, present)
        for hook in self.on_users:
            hook(holding.user, True)

    def _drop(self, holding: Holding) -> bool:
        """False: it is not, or no longer, what this node holds."""
        devices = self._held.get(holding.user, {})
        held = devices.get(holding.device)
        if held is None or held.holding is not holding:
            return False
        del devices[holding.device]
        if not devices:
            del self._held[holding.user]
            for hook in self.on_users:
                hook(holding.user, False)
        return True

    # Coming

    async def arrive(self, user: str, device: str) -> Arrival:
        """The device has been admitted here. Returns within a bounded time: without the user status, nobody is known to
        have held it before."""
        future: asyncio.Future[Arrival | None] = asyncio.get_running_loop().create_future()
        self._coming.append((user, device, future))
        self._work()
        try:
            async with asyncio.timeout(self._patience):
                arrival = await asyncio.shield(future)
        except TimeoutError:
            arrival = None
            future.add_done_callback(self._too_late)
        if arrival is None:
            self.unregistered = True  # and whether it is the first, nobody can say: told rather once too often
            arrival = Arrival(Holding(user, device, self.status.node, self._now_us()), None, first=True)
        self._take(arrival.holding, present=True)
        if arrival.first:
            self._present(user, there=True)
        return arrival

    def _too_late(self, future: asyncio.Future[Arrival | None]) -> None:
        """The answer to somebody who could not wait for it: that device is registered once more, under the turn that
        was made up for it. If it is gone by now, the user status has to hear that of the turn that it knows."""
        arrival = None if future.cancelled() else future.result()
        if arrival is None or self.holding(arrival.holding.user, arrival.holding.device) is not None:
            self.unregistered = True
        elif not self._stopping:
            self._leaving.append((arrival.holding, False))
            self._work()

    # Leaving

    def left(self, holding: Holding, *, away: bool) -> None:
        """The connection has ended under this holding; `away`: its persistent session waits here."""
        held = self._held.get(holding.user, {}).get(holding.device)
        if held is None or held.holding is not holding:
            return  # the device is back already, or is another node's
        if away:
            self._held[holding.user][holding.device] = Held(holding, False)
        else:
            self._drop(holding)
        if not self._stopping:
            self._leaving.append((holding, away))
            self._work()

    def leave_behind(self) -> None:
        """This node stops. It says no more of who leaves: when it has given up its lease, another one is told whom it
        left behind, and has the time to see who comes back elsewhere."""
        self._stopping = True

    def gone(self, user: str, device: str) -> None:
        """A session that was waiting for its device is no more."""
        holding = self.holding(user, device)
        if holding is not None:
            self.left(holding, away=False)

    def lost(self, user: str, device: str) -> None:
        """Another node holds the device now; the user status knows."""
        holding = self.holding(user, device)
        if holding is not None:
            self._drop(holding)

    # One worker: the order of what is said of one device is kept

    def _work(self) -> None:
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._run(), name="user status")

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # those who come in this tick share one call
            while self._leaving or self._coming:
                await self._tell_leaving()
                await self._tell_coming()
        finally:
            self._working = None

    async def _tell_leaving(self) -> None:
        leaving, self._leaving = self._leaving[:AT_ONCE], self._leaving[AT_ONCE:]
        for tell, told in (
            (self.status.away, [holding for holding, away in leaving if away]),
            (self.status.offline, [holding for holding, away in leaving if not away]),
        ):
            if not told:
                continue
            try:
                last = await tell(told)
            except StatusUnavailable:
                self.unregistered = True
                self._untold |= {(one.user, one.device): (one, tell == self.status.away) for one in told}
                continue
            for holding, was_last in zip(told, last, strict=True):
                # told once before, in vain or not: then the answer says too little, and who tells it looks itself
                unsure = self._untold.pop((holding.user, holding.device), None) is not None
                if was_last or unsure:
                    self._present(holding.user, there=False)

    async def _tell_coming(self) -> None:
        coming, self._coming = self._coming[:AT_ONCE], self._coming[AT_ONCE:]
        if not coming:
            return
        arrivals: Sequence[Arrival | None]
        try:
            arrivals = await self.status.online([(user, device) for user, device, _ in coming])
        except StatusUnavailable:
            arrivals = [None] * len(coming)
        except BaseException:
            arrivals = [None] * len(coming)
            raise
        finally:
            for (_, _, future), arrival in zip(coming, arrivals, strict=True):
                if not future.done():
                    future.set_result(arrival)

    def _present(self, user: str, *, there: bool) -> None:
        for hook in self.on_presence:
            hook(user, there)

    def doubt(self) -> None:
        """Something that others said, or that we said to others, may have been lost."""
        for hook in self.on_doubt:
            hook()

    # Saying it all again

    async def restore(self) -> list[Lost]:
        """Registers everything that is held once more. Returns what another node has taken meanwhile. Raises
        `StatusUnavailable`; then `unregistered` stays true."""
        self.unregistered = False
        lost: list[Lost] = []
        everything = iter([held for devices in self._held.values() for held in devices.values()])
        try:
            while portion := list(islice(everything, AT_ONCE)):
                mine = [held for held in portion if self._is_held(held)]
                answers = await self.status.restore([h.holding for h in mine], [h.present for h in mine])
                lost += [Lost(h.holding, by) for h, by in zip(mine, answers, strict=True) if by is not None]
        except StatusUnavailable:
            self.unregistered = True
            raise
        if self._untold:
            self._leaving += self._untold.values()
            self._work()
        self.doubt()
        return lost

    def _is_held(self, held: Held) -> bool:
        return self._held.get(held.holding.user, {}).get(held.holding.device) is held

    def __iter__(self) -> Iterator[Held]:
        return (held for devices in self._held.values() for held in devices.values())

    async def close(self) -> None:
        """Tells what is still to be told, for a bounded time."""
        working = self._working
        if working is not None:
            await asyncio.wait([working], timeout=self._patience)
            working.cancel()
