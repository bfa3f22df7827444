"""Plain MQTT: who subscribed to what, retained messages, and the route from a topic to sessions.

Inbox messages do not pass here: they go through the store and the feeds. What does: everything on the lab profile,
`devices/…`, typing, receipts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aldis.broker.core.packets import Message
from aldis.broker.core.retained import Retained
from aldis.broker.core.session import Session
from aldis.broker.core.subscriptions import SubscriptionTree

if TYPE_CHECKING:
    from aldis.broker.connection import Connection

Target = tuple["Subscriber", int]
Route = list[Target]

_MAX_ROUTES_CACHED = 20_000
_MAX_CACHED_TOPIC = 256
"""Characters of a topic whose route is remembered; so the memory of routes is bounded in bytes, too."""


class Keeper(Protocol):
    """Whoever keeps retained messages for longer than the memory of this node."""

    def admits(self, message: Message) -> bool:
        """Whether the message may be retained."""

    def changed(self, message: Message) -> None:
        """This is its topic's retained message now; or there is none, if it is empty."""


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
    message that is now retained, and with an empty payload every topic that no longer is; `on_not_retained` every
    message that did not fit, and `on_full` every connection for which a message was dropped because its queue is full.
    `keeper`, where set, has retained messages beyond this memory.
    """

    def __init__(
        self,
        touch: Callable[[Connection], None],
        max_retained: int,
        max_retained_bytes: int = 134_217_728,
        max_retained_size: int = 65_536,
    ) -> None:
        self.subscriptions: SubscriptionTree[Subscriber] = SubscriptionTree()
        self.retained = Retained(max_retained, max_retained_bytes, max_retained_size)
        self.on_retained: Callable[[Message], None] | None = None
        self.on_not_retained: Callable[[Message], None] | None = None
        self.on_full: Callable[[Connection], None] | None = None
        self.keeper: Keeper | None = None
        self._touch = touch
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
            if connection is None or connection.congested:
                # a client that does not read has its own queue, not the memory behind its socket
                if qos and not subscriber.session.enqueue(message, qos):
                    self._full(connection)
            elif subscriber.session.deliver(message, qos):
                touch(connection)
            else:
                self._full(connection)

    def _full(self, connection: Connection | None) -> None:
        if connection is not None and self.on_full is not None:
            self.on_full(connection)

    def route(self, topic: str) -> Route:
        """Everyone who gets what is published to `topic`, once each, with the highest QoS granted."""
        if self._routes_version != self.subscriptions.version:
            self._routes.clear()
            self._routes_version = self.subscriptions.version
        route = self._routes.get(topic)
        if route is None:
            route = self.subscriptions.match(topic)
            if len(topic) <= _MAX_CACHED_TOPIC:
                if len(self._routes) >= _MAX_ROUTES_CACHED:
                    self._routes.clear()
                self._routes[topic] = route
        return route

    def retain(self, message: Message) -> None:
        """Keeps the last message of a topic, if it fits; an empty one forgets it [MQTT-3.3.1-10]."""
        known = self.retained.get(message.topic) is not None
        keeper = self.keeper
        kept = (keeper is None or keeper.admits(message)) and self.retained.keep(message)
        if not kept:
            if self.on_not_retained is not None:
                self.on_not_retained(message)
            message = Message(message.topic, b"", message.qos, retain=True)
        if self.on_retained is not None and (known or message.payload):
            self.on_retained(message)
        if keeper is not None:
            keeper.changed(message)

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
