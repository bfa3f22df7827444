"""What is true of a node at one moment, counted when somebody asks: sessions, windows, queues, backlog.

The hot path keeps no such figures up to date. Counting goes over every session, so it is done in slices, between which
the event loop serves everyone else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aldis.broker.core.feed import FeedState

if TYPE_CHECKING:
    from aldis.broker.node import Node

_SLICE = 5_000
"""Sessions counted at once: about 2 ms."""


@dataclass
class Census:
    """Figures of one moment; `backlog` are inbox items that attached devices have not been sent yet."""

    connections: Counter[str] = field(default_factory=Counter)
    """By listener."""
    sessions_connected: int = 0
    sessions_away: int = 0
    sessions_persistent: int = 0
    subscriptions: int = 0
    retained: int = 0
    inflight: int = 0
    queued: int = 0
    dropped: int = 0
    devices_attached: int = 0
    devices_catching_up: int = 0
    backlog: int = 0


async def take_census(node: Node) -> Census:
    """Counts; what changes meanwhile is counted as it was or as it is."""
    census = Census(
        connections=Counter(getattr(connection.listener, "name", "external") for connection in node.connections),
        subscriptions=len(node.router.subscriptions),
        retained=len(node.router.retained),
    )
    subscribers = list(node.sessions.subscribers.values())
    for begin in range(0, len(subscribers), _SLICE):
        if begin:
            await asyncio.sleep(0)
        for subscriber in subscribers[begin : begin + _SLICE]:
            session = subscriber.session
            if subscriber.connection is None:
                census.sessions_away += 1
            else:
                census.sessions_connected += 1
            census.sessions_persistent += not session.clean
            census.inflight += len(session.inflight)
            census.queued += len(session.queue or ())
            census.dropped += session.dropped
    if node.inboxes is not None:
        for device in node.inboxes.attached():
            feed = device.feed
            census.devices_attached += 1
            census.devices_catching_up += feed.state is FeedState.CATCHING_UP
            census.backlog += max(0, feed.head - feed.sent)
    return census
