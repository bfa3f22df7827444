"""Announcements of the accounts side over all nodes: told at once, and found in the log by whoever did not hear."""

from __future__ import annotations

import logging
from collections import OrderedDict

from aldis.broker.cluster_ports import Announced, Transfer
from aldis.broker.ports import AccessRevoked, Announcement, Bus, BusHandler, Directory, RelationChanged

logger = logging.getLogger(__name__)

OVERLAP = 200
"""Numbers that are read once more: transactions get theirs in one order and become visible in another."""

AT_ONCE = 500
"""Announcements in one reading."""

_REMEMBERED = 10_000
"""Numbers that are known to have been handled; more than can become visible late."""


class ClusterBus:
    """Keeps `aldis.broker.ports.Bus` over all nodes. `local` hands announcements to the handlers of this process;
    `patience` is how long, in seconds, `settled` waits for the others."""

    def __init__(self, local: Bus, transfer: Transfer, directory: Directory, patience: float) -> None:
        self._local = local
        self._transfer = transfer
        self._directory = directory
        self._patience = patience
        self._handled: OrderedDict[int, None] = OrderedDict()
        self._newest: int | None = None

    def announce(self, announcement: Announcement, number: int = 0) -> None:
        """Tells this node and every other."""
        assert isinstance(announcement, RelationChanged | AccessRevoked)
        self._note(number)
        self._local.announce(announcement, number)
        self._transfer.tell(Announced(announcement, number))

    def subscribe(self, handler: BusHandler) -> None:
        self._local.subscribe(handler)

    async def settled(self) -> bool:
        """Also waits for every other node that is alive."""
        here = await self._local.settled()
        return await self._transfer.settled(self._patience) and here

    # From other nodes

    def heard(self, announced: Announced) -> None:
        """Another node has announced this."""
        if self._note(announced.number):
            self._local.announce(announced.announcement, announced.number)

    async def read_log(self) -> None:
        """Handles what is in the log and was not heard. The first time it only learns what is there: whoever connects
        later is judged by the tables as they are then. Raises `StoreUnavailable`."""
        first = self._newest is None
        newest = await self._directory.newest_announcement() if self._newest is None else self._newest
        after = max(0, newest - OVERLAP)
        while True:
            found = await self._directory.announcements(after, limit=AT_ONCE)
            for number, announcement in found:
                if self._note(number) and not first:
                    logger.info("an announcement was found in the log", extra={"number": number})
                    self._local.announce(announcement, number)
            if found:
                after = found[-1][0]
                newest = max(newest, after)
            if len(found) < AT_ONCE:
                break
        self._newest = newest

    def _note(self, number: int) -> bool:
        """Whether it is new; 0 always is."""
        if not number:
            return True
        if number in self._handled:
            return False
        self._handled[number] = None
        if len(self._handled) > _REMEMBERED:
            self._handled.popitem(last=False)
        return True
