"""The in-process bus: the twin of the one between nodes, and all that an embedded server needs."""

from __future__ import annotations

import asyncio
import logging

from aldis.broker.ports import Announcement, BusHandler

logger = logging.getLogger(__name__)


class LocalBus:
    """Keeps `aldis.broker.ports.Bus` inside one event loop.

    Handlers run in a later turn of the loop, in the order of `subscribe`, each announcement in the order of
    `announce`; so an announcement made inside a handler, or inside a request that then fails, disturbs nobody.
    Handlers must not block. One that raises is logged and does not keep the others from being called.
    """

    def __init__(self) -> None:
        self._handlers: list[BusHandler] = []

    def announce(self, announcement: Announcement, number: int = 0) -> None:
        """To be called in the event loop. Only those who have subscribed by now are told. Nothing comes to them twice,
        whatever its `number`."""
        if self._handlers:
            asyncio.get_running_loop().call_soon(_tell, tuple(self._handlers), announcement)

    def subscribe(self, handler: BusHandler) -> None:
        self._handlers.append(handler)

    async def settled(self) -> bool:
        """True after the next turn of the loop: what was announced before stands in front of us there."""
        await asyncio.sleep(0)
        return True


def _tell(handlers: tuple[BusHandler, ...], announcement: Announcement) -> None:
    for handler in handlers:
        try:
            handler(announcement)
        except Exception:
            logger.exception("a bus handler failed on %s", type(announcement).__name__)
