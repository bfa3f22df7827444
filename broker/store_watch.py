"""A store that takes no commits: the node says so, and, if the operator wants it, sends everybody elsewhere after a
while."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aldis.broker.core.reasons import CloseReason

if TYPE_CHECKING:
    from aldis.broker.node import Node

logger = logging.getLogger(__name__)

STORE_UNAVAILABLE = "the store does not take commits"
"""As `/readyz` has it."""


class StoreWatch:
    """`shut` while the store has been down for longer than `timeouts.store_down_close`: nobody is let in, and who was
    there has been sent away. With 0 connections are kept, however long it takes: their clients keep what was not
    acknowledged, and nothing is lost either way."""

    def __init__(self, node: Node) -> None:
        self.shut = False
        self._node = node
        self._since: float | None = None
        node.on_tick.append(self._look)

    def refused(self, _: Exception) -> None:
        """The group commit could not commit."""
        if self._since is None:
            self._since = self._node.now
        self._node.not_ready_reasons.add(STORE_UNAVAILABLE)

    def recovered(self) -> None:
        """It can again."""
        self._since = None
        self.shut = False
        self._node.not_ready_reasons.discard(STORE_UNAVAILABLE)

    def _look(self, now: float) -> None:
        limit = self._node.timeouts.store_down_close
        if self._since is None or not limit or self.shut or now - self._since < limit:
            return
        self.shut = True
        connections = [one for one in self._node.connections if one.session is not None]
        logger.warning("the store is down for %g s: %d clients are sent away", limit, len(connections))
        for connection in connections:
            connection.end(CloseReason.STORE_DOWN)
