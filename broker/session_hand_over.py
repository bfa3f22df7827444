"""A persistent session follows its device from the node that had it to the node that has it now.

The old node ends the connection, if there still is one, and gives the session away; the new one puts it in place
before CONNACK, as if the device had only been away. No inbox hangs on this: they are in the store. A hand-over that
fails costs the subscriptions and plain messages under way, and CONNACK tells the device that its session is new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aldis.broker.cluster_ports import SessionHanded
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session_state import SessionState, export, restore

if TYPE_CHECKING:
    from aldis.broker.node import Node

logger = logging.getLogger(__name__)


def hand_over(node: Node, user: str, device: str) -> list[SessionState] | None:
    """Lets go of the device: its connection ends as taken over, its will goes out, its session is no longer here. What
    was kept of it, None if nothing is, because it was clean or not known."""
    key, sessions = (user, device), node.sessions
    subscriber = sessions.subscribers.get(key)
    if subscriber is not None and subscriber.connection is not None:
        subscriber.connection.end(CloseReason.TAKEN_OVER)
    subscriber = sessions.subscribers.get(key)  # a clean one has gone with its connection
    if subscriber is None:
        return None
    portions = export(subscriber.session)
    sessions.discard(key)
    return portions


def adopt(node: Node, user: str, device: str, portions: Sequence[SessionState]) -> bool:
    """Puts the session in place: the device's next CONNECT finds it present. One that waits here for the same device is
    older and makes room. False, and nothing has changed: the device is connected here, there is no room for a further
    session, or this one has more subscriptions than are allowed here."""
    key, sessions, limits = (user, device), node.sessions, node.limits
    here = sessions.subscribers.get(key)
    subscriptions = sum(len(portion.subscriptions) for portion in portions)
    if here is not None and here.connection is not None:
        return False
    if subscriptions > limits.max_subscriptions or (here is None and len(sessions.subscribers) >= limits.max_sessions):
        logger.warning(
            "a session was not taken over from another node: it exceeds a limit here",
            extra={"user": user, "device": device, "subscriptions": subscriptions},
        )
        return False
    if here is not None:
        sessions.discard(key)
    subscriber = sessions.make(key, clean=False)
    session = subscriber.session
    restore(session, portions)
    for filter, qos in list(session.subscriptions.items()):
        node.router.subscribe(subscriber, filter, qos)
    sessions.wait_for(key)
    if session.dropped:
        logger.warning(
            "messages of a session from another node were dropped: its queue is full",
            extra={"user": user, "device": device, "messages": session.dropped},
        )
    return True


def parcels(user: str, device: str, turn: int, portions: Sequence[SessionState] | None) -> list[SessionHanded]:
    """The answer to `TakenOver` of this turn, to be sent in this order."""
    if portions is None:
        return [SessionHanded(user, device, turn, known=False)]
    return [
        SessionHanded(user, device, turn, True, part, part == len(portions), state)
        for part, state in enumerate(portions, 1)
    ]


class Handing:
    """The parcels of one hand-over as they come in. `complete` once all are there; `void` if one was lost, doubled or
    out of turn: then nothing of it may be used. `portions` is None where the old node has no session."""

    def __init__(self) -> None:
        self.complete = False
        self.void = False
        self.portions: list[SessionState] | None = None

    def take(self, parcel: SessionHanded) -> None:
        expected = 1 if self.portions is None else len(self.portions) + 1
        if self.void or parcel.part != expected:
            self.complete, self.void, self.portions = False, True, None
            return
        if parcel.state is not None:
            self.portions = [*(self.portions or ()), parcel.state]
        self.complete = parcel.last
