"""SUBSCRIBE and UNSUBSCRIBE: which filters are granted, and what a new subscription begins with."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aldis.broker.core.codec import SUBSCRIPTION_REFUSED
from aldis.broker.core.packets import Subscribe, Unsubscribe
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from aldis.broker.core.session import Session
from aldis.broker.core.topics import TopicError, check_filter, overlaps
from aldis.broker.ports import TooManyDevices
from aldis.broker.router import Subscriber

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.broker.node import Node

logger = logging.getLogger(__name__)

Granted = list[tuple[str, int]]

_RETAINED_AT_ONCE = 500
"""Retained messages sent before others have their turn: a few milliseconds."""

_JUDGED_AT_ONCE = 500
"""Filters judged before others have their turn."""

_POLL = 0.02

_LEVEL = frozenset("/+#")
"""What no level of a topic can have in it."""


async def subscribe(node: Node, connection: Connection, session: Session, packet: Subscribe) -> None:
    """Judges filter by filter. The SUBACK leaves when every granted one is in force and an inbox is attached; what is
    retained, receipts and backlog follow it."""
    granted: Granted = []
    codes: list[int] = []
    for number, (filter, qos) in enumerate(packet.filters, 1):
        if number % _JUDGED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if await _permitted(node, connection, session, filter, len(granted)):
            granted.append((filter, qos))
            codes.append(qos)
        else:
            codes.append(SUBSCRIPTION_REFUSED)
    if connection.closed is not None:
        return
    subscriber = node.sessions.of(session)
    known = set(session.subscriptions)
    for filter, qos in granted:
        node.router.subscribe(subscriber, filter, qos)
    if granted and not await _attach(node, connection, session, subscriber, granted):
        codes, granted = [SUBSCRIPTION_REFUSED] * len(codes), []
    await _read_retained(node, session, subscriber, granted)
    connection.receipt_topics.clear()
    connection.suback(packet.packet_id, codes)
    for filter, qos in granted:
        if not await send_retained(node, subscriber, filter, qos):
            return
        node.decisions.subscribed(connection, filter, qos)
    if granted and node.inboxes is not None:
        # a resumed session has been told its receipts at the resume
        await node.inboxes.start(connection, [filter for filter, _ in granted if filter not in known])


async def _permitted(node: Node, connection: Connection, session: Session, filter: str, granted: int) -> bool:
    limits = node.limits
    try:
        check_filter(filter, limits.max_topic_levels)
    except TopicError as error:
        if filter.count("/") >= limits.max_topic_levels:
            return False
        raise ProtocolViolation(CloseReason.MALFORMED, str(error)) from None  # [MQTT-4.7.1-2], [MQTT-4.7.3-1]
    if filter not in session.subscriptions and len(session.subscriptions) + granted >= limits.max_subscriptions:
        return False
    if len(filter) > limits.max_filter_length or filter.count("+") + filter.count("#") > limits.max_filter_wildcards:
        return False
    return await node.decisions.subscription(connection, filter)


async def _attach(
    node: Node, connection: Connection, session: Session, subscriber: Subscriber, granted: Granted
) -> bool:
    """Attaches the inbox if a filter takes from it. False: the user has too many devices, the subscriptions are
    undone."""
    if node.inboxes is None or not node.inboxes.concerns(session):
        return True
    try:
        await node.inboxes.attach(connection)
    except TooManyDevices as error:
        logger.warning("subscription refused: %s", error, extra={"user": session.user, "device": session.device})
        for filter, _ in granted:
            node.router.unsubscribe(subscriber, filter)
        return False
    return True


async def _read_retained(node: Node, session: Session, subscriber: Subscriber, granted: Granted) -> None:
    """Before the SUBACK, but not for long: what the store keeps below `devices/{user}/`, if a filter reaches there. If
    it takes longer, the subscription gets it later."""
    keeper, user = node.retained_keeper, session.user
    if keeper is None or not user or not _LEVEL.isdisjoint(user):
        return
    filters = [(filter, qos) for filter, qos in granted if overlaps(filter, f"devices/{user}/#")]
    if filters and not await keeper.ready(user):
        for filter, qos in filters:
            keeper.later(user, subscriber, filter, qos)


async def send_retained(
    node: Node, subscriber: Subscriber, filter: str, qos: int, among: frozenset[str] | None = None
) -> bool:
    """What is retained where the filter matches, and `among` these topics; as fast as the client takes it, and so that
    others have their turn: there may be very much. False: the connection has ended meanwhile."""
    allowance = node.limits.max_write_buffer
    for number, (topic, message) in enumerate(node.router.retained.match(filter), 1):
        if (among is None or topic in among) and await node.decisions.may_receive(subscriber, topic):
            node.router.send_retained(subscriber, message, qos)
            allowance -= len(message.payload) + len(topic)
        if allowance <= 0 or number % _RETAINED_AT_ONCE == 0:
            allowance = node.limits.max_write_buffer
            if not await taken(subscriber):
                return False
    return True


async def taken(subscriber: Subscriber) -> bool:
    """Returns when the client has taken what was written so far; false if its connection has ended."""
    connection = subscriber.connection
    if connection is not None:
        connection.flush()
    await asyncio.sleep(0)
    while connection is not None and connection.congested and connection.closed is None:  # noqa: ASYNC110 - rare
        await asyncio.sleep(_POLL)
    return connection is not None and connection.closed is None


def unsubscribe(node: Node, connection: Connection, session: Session, packet: Unsubscribe) -> None:
    """Ends the subscriptions named; a filter that was not subscribed is no error [MQTT-3.10.4-5]."""
    subscriber = node.sessions.of(session)
    for filter in packet.filters:
        if node.router.unsubscribe(subscriber, filter):
            node.decisions.unsubscribed(connection, filter)
    connection.receipt_topics.clear()
    if node.inboxes is not None:
        node.inboxes.unsubscribed(connection)
