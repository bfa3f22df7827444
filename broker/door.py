"""Who may come in at all: decided when a connection is accepted and when its CONNECT has come, before anything is
spent on it.

An address is an IPv4 address or an IPv6 /64. Every table here is bounded by `max_addresses` or by the connections there
are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aldis.broker.core.occasional import Occasional
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.token_bucket import BucketTable, TokenBucket
from aldis.config.addresses import network_of

if TYPE_CHECKING:
    from aldis.broker.connection import Connection, Places
    from aldis.config.limits import Limits

logger = logging.getLogger(__name__)

TURNED_AWAY = frozenset(
    {
        CloseReason.TOO_MANY_CONNECTIONS,
        CloseReason.CONNECTING_TOO_FAST,
        CloseReason.TOO_MANY_FAILURES,
        CloseReason.SHORT_OF_MEMORY,
    }
)
"""Ends that a flood can cause at will: logged once per address and interval."""

_USER_ID = 64
"""Characters of a user name that are looked at: no user id is longer."""


class Door:
    """One per node. `shut` is set while the node takes nobody new, for lack of memory."""

    def __init__(self, limits: Limits) -> None:
        self.shut = False
        self._open: dict[str, int] = {}
        self._said = Occasional()
        self.configure(limits)

    def configure(self, limits: Limits) -> None:
        """These limits from now on. Who is inside stays inside; what was remembered of attempts begins anew."""
        self._limits = limits
        self._rates = BucketTable(
            limits.connection_burst_per_address, limits.connections_per_second_per_address, limits.max_addresses
        )
        self._listeners: dict[Places, TokenBucket] = {}
        self._failures = BucketTable(
            limits.failed_connect_burst_per_address,
            limits.failed_connects_per_minute_per_address / 60,
            limits.max_addresses,
        )
        self._failures_of = BucketTable(
            limits.failed_connect_burst_per_user, limits.failed_connects_per_minute_per_user / 60, limits.max_addresses
        )

    # Accepting

    def enter(self, connection: Connection, now: float) -> CloseReason | None:
        """Takes a place for the connection; or says why it gets none, and then has taken nothing of anybody else's:
        an address that is over its own limits uses up none of the listener's."""
        network = network_of(connection.address.rpartition(":")[0])
        limit = self._limits.max_connections_per_address
        there = self._open.get(network, 0)
        if self.shut:
            return CloseReason.SHORT_OF_MEMORY
        if limit and there >= limit:
            return CloseReason.TOO_MANY_CONNECTIONS
        if not self._rates.take(network, now):
            return CloseReason.CONNECTING_TOO_FAST
        listener = connection.listener
        if listener is not None:
            if not self._bucket(listener, now).take(now):
                return CloseReason.CONNECTING_TOO_FAST
            if not listener.acquire():
                return CloseReason.TOO_MANY_CONNECTIONS
        self._open[network] = there + 1
        connection.network = network
        return None

    def leave(self, connection: Connection) -> None:
        """Gives the place back, if the connection had one."""
        network = connection.network
        if network is None:
            return
        connection.network = None
        left = self._open[network] - 1
        if left:
            self._open[network] = left
        else:
            del self._open[network]
        if connection.listener is not None:
            connection.listener.release()

    def _bucket(self, listener: Places, now: float) -> TokenBucket:
        bucket = self._listeners.get(listener)
        if bucket is None:
            limits = self._limits
            bucket = TokenBucket(limits.connection_burst, limits.connections_per_second, now)
            self._listeners[listener] = bucket
        return bucket

    # CONNECT

    def barred(self, connection: Connection, user: str | None, now: float) -> bool:
        """Whether a CONNECT is not even looked at, because too many have failed: from this address, or for this user
        and this address has a part in it. An address without a failure is always heard, so that nobody can lock a user
        out from elsewhere."""
        network = connection.network or ""
        if self._failures.level(network, now) < 1.0:
            return True
        if self._failures.untouched(network, now):
            return False
        return self._failures_of.level((user or "")[:_USER_ID], now) < 1.0

    def failed(self, connection: Connection, user: str | None, now: float) -> None:
        """A CONNECT with wrong credentials."""
        self._failures.take(connection.network or "", now)
        self._failures_of.take((user or "")[:_USER_ID], now)

    # The log

    def say(self, connection: Connection, reason: CloseReason, now: float) -> None:
        """One line for the first of a flood, then one per address, reason and interval."""
        host = connection.address.rpartition(":")[0]
        times = self._said.note(f"{reason.name} {network_of(host)}", now)
        if times:
            logger.warning(
                "connection ended: %s",
                reason,
                extra={"address": connection.address, "times": times},
            )
