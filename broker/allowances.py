"""What each user may still publish on this node, and the connections that wait until it is more again."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aldis.broker.core.occasional import Occasional
from aldis.broker.core.token_bucket import Allowance

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.config.limits import Limits

logger = logging.getLogger(__name__)


class Allowances:
    """By user, over all connections of the user; a connection without a user name has one of its own.

    An allowance outlives the user's last connection until it is full again, else reconnecting would fill it at once. Of
    these at most `max_addresses` are kept.
    """

    def __init__(self, limits: Limits) -> None:
        self._set(limits)
        self._used: dict[str, Allowance] = {}
        self._resting: OrderedDict[str, Allowance] = OrderedDict()
        self._waiting: set[Connection] = set()
        self._said = Occasional()

    def _set(self, limits: Limits) -> None:
        self._limits = limits
        self._limited = bool(limits.publishes_per_second or limits.publish_bytes_per_second)

    def configure(self, limits: Limits, connections: Iterable[Connection], now: float) -> None:
        """Other limits from now on; everybody begins anew, with a full burst."""
        present = [(one, one.session.user) for one in connections if one.session is not None]
        waiting = list(self._waiting)
        for connection, user in present:
            self.close(connection, user, now)
        self._resting.clear()
        self._set(limits)
        for connection, user in present:
            self.open(connection, user, now)
        for connection in waiting:
            connection.throttle(False)

    def __len__(self) -> int:
        return len(self._used) + len(self._resting)

    def open(self, connection: Connection, user: str, now: float) -> None:
        """The connection publishes as this user from now on."""
        if not self._limited:
            return
        if not user:
            connection.allowance = self._new(now)
            return
        allowance = self._used.get(user)
        if allowance is None:
            rested = self._resting.pop(user, None)
            allowance = self._used[user] = self._new(now) if rested is None else rested
        allowance.connections += 1
        connection.allowance = allowance

    def close(self, connection: Connection, user: str, now: float) -> None:
        """The connection has ended."""
        self._waiting.discard(connection)
        allowance, connection.allowance = connection.allowance, None
        if allowance is None or not user:
            return
        allowance.connections -= 1
        if allowance.connections:
            return
        del self._used[user]
        if not allowance.full(now):
            self._resting[user] = allowance
            if len(self._resting) > self._limits.max_addresses:
                self._resting.popitem(last=False)

    def wait(self, connection: Connection, user: str, now: float) -> None:
        """The user has published too much: nothing more is read from this connection until the debt is paid."""
        if connection in self._waiting:
            return
        self._waiting.add(connection)
        connection.throttle(True)
        times = self._said.note(user or connection.address, now)
        if times:
            logger.warning("publishes too fast: read more slowly", extra={"user": user, "times": times})

    def turn(self, now: float) -> None:
        """With every tick of the node's clock: goes on with whoever has paid."""
        for connection in [one for one in self._waiting if one.allowance is None or one.allowance.paid(now)]:
            self._waiting.discard(connection)
            connection.throttle(False)
        for user in [user for user, allowance in self._resting.items() if allowance.full(now)]:
            del self._resting[user]

    def _new(self, now: float) -> Allowance:
        limits = self._limits
        return Allowance(
            limits.publish_burst,
            limits.publishes_per_second,
            limits.publish_bytes_burst,
            limits.publish_bytes_per_second,
            now,
        )
