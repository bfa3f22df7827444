"""What a change means for the connectors: handed to the bus once it is committed, with its number in the log."""

from __future__ import annotations

import logging

from aldis.bridge.accounts.records import Logged
from aldis.broker.ports import Bus

logger = logging.getLogger(__name__)


class Announcer:
    """The accounts side's end of the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.unconfirmed = 0
        """How often not every connector has confirmed in time."""

    def announce(self, *logged: Logged) -> None:
        for one in logged:
            self._bus.announce(one.announcement, one.number)

    async def settled(self) -> None:
        """Returns when every connector has taken what was announced, so that nothing arrives after a revocation or a
        block is confirmed; or when the bus has given up waiting. The change stands in any case: a connector that could
        not be told ends what it must end when it next reads the log."""
        if not await self._bus.settled():
            self.unconfirmed += 1
            logger.warning("not every connector has confirmed an announcement; it will find it in the log")
