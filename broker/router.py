"""Plain MQTT: who subscribed to what, retained messages, and the route from a topic to sessions.

Inbox messages do not pass here: they go through the store and the feeds. What does: everything on the lab profile,
`devices/…`, typing, receipts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session
from aldis.broker.core.subscriptions import RetainedTree, SubscriptionTree

if TYPE_CHECKING:
    from aldis.broker.connection import Connection

Target = tuple["Subscriber", int]
Route = list[Target]

_MAX_ROUTES_CACHED = 20_000


class Subscriber:
    """A session in the subscription tree, with the connection it has at the moment."""

    __slots__ = ("connection", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connection: Connection | None = None


class Router:
    """Subscriptions, retained messages and delivery to the sessions of this node.

    `touch` is told every connection that was given something to write. A route is looked up once per topic and
    remembered until any subscription changes; the memory of routes is bounded. `on_retained`, where set, is told every
    message that is now retained, and with an empty payload every topic that no longer is.
    """

    def __init__(self, touch: Callable[[Connection], None], max_retained: int) -> None:
        self.subscriptions: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.retained: RetainedTree[Message] = RetainedTree()
        self.on_retained: Callable[[Message], None] | None = None
        self._touch = touch
        self._max_retained = max_retained
        self._routes: dict[str, Route] = {}
        self._routes_version = 0

    def publish(self, message: Message, denied: frozenset[Subscriber] | None = None) -> None:
        """Retains the message if it asks for it, and delivers it to everyone subscribed now but those `denied`."""
        if message.retain:
            self.retain(message)
            # subscribers of today get it as news, without the flag [MQTT-3.3.1-9]
            message = Message(message.topic, message.payload, message.qos)
        touch = self._touch
        message_qos = message.qos
        for subscriber, qos in self.route(message.topic):
            if denied is not None and subscriber in denied:
                continue
            connection = subscriber.connection
            if qos > message_qos:
                qos = message_qos
            if connection is None:
                if qos:
                    subscriber.session.deliver(message, qos)
            elif qos or not connection.congested:
                subscriber.session.deliver(message, qos)
                touch(connection)

    def route(self, topic: str) -> Route:
        """Everyone who gets what is published to `topic`, once each, with the highest QoS granted."""
        if self._routes_version != self.subscriptions.version:
            self._routes.clear()
            self._routes_version = self.subscriptions.version
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES_CACHED:
                self._routes.clear()
            route = self._routes[topic] = self.subscriptions.match(topic)
        return route

    def retain(self, message: Message) -> None:
        """Keeps the last message of a topic; an empty one forgets it [MQTT-3.3.1-10]. At the limit a new topic is not
        kept: what is there stays true."""
        if not message.payload:
            if self.retained.pop(message.topic) is None:
                return
        elif len(self.retained) < self._max_retained or self.retained.get(message.topic) is not None:
            self.retained.put(message.topic, Message(message.topic, message.payload, message.qos, retain=True))
        else:
            return
        if self.on_retained is not None:
            self.on_retained(message)

    def subscribe(self, subscriber: Subscriber, filter: str, qos: int) -> None:
        self.subscriptions.add(filter, subscriber, qos)
        subscriber.session.subscriptions[filter] = qos

    def unsubscribe(self, subscriber: Subscriber, filter: str) -> bool:
        """False if there was no such subscription."""
        if subscriber.session.subscriptions.pop(filter, None) is None:
            return False
        return self.subscriptions.remove(filter, subscriber)

    def send_retained(self, subscriber: Subscriber, message: Message, qos: int) -> None:
        """A retained message to a new subscription, with the RETAIN flag, at the lower of both QoS [MQTT-3.3.1-6]."""
        connection = subscriber.connection
        if connection is not None:
            subscriber.session.deliver(message, min(qos, message.qos))
            self._touch(connection)

    def forget(self, subscriber: Subscriber) -> None:
        """The session ends: its subscriptions go."""
        for filter in list(subscriber.session.subscriptions):
            self.unsubscribe(subscriber, filter)
