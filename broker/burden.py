"""How much the node has taken from clients and not yet answered: bytes of publishes that wait for a commit, or for a
number before theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

_RELIEF = 0.8
"""Share of the limit at which reading goes on: below it by enough that it does not stop again at the next packet."""


class Burden:
    """Beyond `limit` bytes it is `full`, and who has such a publish is not read from. `relieved` is called when that is
    over. Who changes `bytes` calls `exceeded` if they are above the limit, `eased` if the burden was full: two calls
    per publish saved."""

    __slots__ = ("_relieved", "bytes", "full", "limit")

    def __init__(self, limit: int, relieved: Callable[[], None]) -> None:
        self.bytes = 0
        self.full = False
        self.limit = limit
        self._relieved = relieved

    def exceeded(self) -> None:
        if not self.full:
            self.full = True
            logger.warning("too many bytes wait for the store or for order: reading from their senders stops")

    def eased(self) -> None:
        if self.bytes <= self.limit * _RELIEF:
            self.full = False
            logger.info("fewer bytes wait for the store: reading goes on")
            self._relieved()
