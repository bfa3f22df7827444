"""What the loaded amqtt plugins decide and hear, asked at the node's own pace.

amqtt awaits only `authenticate` and `topic_filtering`; both are awaited here too, but a slow one holds up its own
connection only. Our plugins add plain calls, found by name: `handle_publish`, `allows_subscription`, `will_allowed`,
`admit`, `disconnected`, `last_heard`, `forget_user`. An event that no plugin listens to is not even built.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from amqtt.broker import BrokerContext, RetainedApplicationMessage
from amqtt.contexts import Action
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.plugins.manager import PluginManager

from aldis.broker.amqtt_events import Reframer, application_message, decode_packets
from aldis.broker.amqtt_session import ConnectorSession
from aldis.broker.connection import Connection
from aldis.broker.core.envelope import Reason
from aldis.broker.core.packets import Connect, Message
from aldis.broker.core.reasons import ConnectReturn
from aldis.broker.node import Node
from aldis.broker.pipeline import Publication
from aldis.broker.ports import StoreUnavailable
from aldis.broker.router import Subscriber

logger = logging.getLogger(__name__)

GRANT = "aldis.grant"
"""Key in a session's `attributes` under which authentication leaves its `Grant`."""


class HookError(Exception):
    """A plugin has a method that looks like an event handler, but there is no such event."""


class PluginDecisions:
    """The `Decisions` of a node, made by its plugins."""

    def __init__(self, node: Node, manager: PluginManager[BrokerContext]) -> None:
        self._node = node
        self._manager = manager
        self._users: Counter[str] = Counter()
        self._reframers: WeakKeyDictionary[Connection, Reframer] = WeakKeyDictionary()
        self._topic_plugins = list(manager._topic_plugins)
        self._events = manager._event_plugin_callbacks
        self._check_hooks(manager.plugins)
        self._admitting = _hooks(manager, "admit")
        self._forgetting = _hooks(manager, "forget_user")
        self._disconnecting = _hooks(manager, "disconnected")
        self._hearing = _hooks(manager, "last_heard")
        self._subscribing = _hooks(manager, "allows_subscription")
        self._willing = _hooks(manager, "will_allowed")
        node.stages = self._stages()
        if self._topic_plugins:
            node.publish_gate = self._decide_publish
        listened = [name for name in (*BrokerEvents, *MQTTEvents) if self._listened(name)]
        self._keeps_sessions = bool(self._topic_plugins or listened)
        if self._listened(BrokerEvents.RETAINED_MESSAGE):
            node.router.on_retained = self._announce_retained
        if self._listened(MQTTEvents.PACKET_RECEIVED):
            node.packets_received = self._packets_received
        if self._listened(MQTTEvents.PACKET_SENT):
            node.packets_sent = self._packets_sent

    @staticmethod
    def _check_hooks(plugins: list[Any]) -> None:
        """amqtt never calls a misspelt `on_…` method and says nothing; we refuse to start."""
        known = {f"on_{name}" for name in (*BrokerEvents, *MQTTEvents)}
        for plugin in plugins:
            for name in dir(plugin):
                if name.startswith(("on_broker_", "on_mqtt_")) and name not in known:
                    raise HookError(f"{type(plugin).__module__}.{type(plugin).__qualname__}: no such event: {name}")

    def _listened(self, event: str) -> bool:
        return bool(self._events.get(event))

    def _stages(self) -> list[Any]:
        stages = _hooks(self._manager, "handle_publish")
        if self._listened(BrokerEvents.MESSAGE_RECEIVED) and not self._topic_plugins:
            stages.insert(0, self._announce_received)
        if self._listened(BrokerEvents.MESSAGE_BROADCAST):
            stages.append(self._announce_broadcast)
        return stages

    # CONNECT

    async def admit(self, connection: Connection, packet: Connect, client_id: str) -> ConnectReturn:
        """Asks every authentication plugin, amqtt's way: all that have an opinion must agree, and one must have one."""
        session = _plugin_session(connection, packet, client_id)
        if session is None:
            return ConnectReturn.NOT_AUTHORISED
        connection.plugin_session = session
        try:
            verdicts = await self._manager.map_plugin_auth(session=session)
        except StoreUnavailable:
            raise
        except Exception:
            logger.exception("an authentication plugin failed; the client is refused")
            return ConnectReturn.SERVER_UNAVAILABLE
        opinions = [verdict for verdict in verdicts.values() if verdict is not None]
        session.password = None  # nobody needs it any more
        if not opinions or not all(opinions):
            return ConnectReturn.NOT_AUTHORISED
        connection.grant = session.attributes.get(GRANT)
        if connection.closed is None:
            user = session.username or ""
            self._users[user] += 1
            connection.counted = user
            for hook in self._admitting:
                await hook(user)
        return ConnectReturn.ACCEPTED

    def user_of(self, connection: Connection) -> str:
        return connection.plugin_session.username or ""

    def connected(self, connection: Connection) -> None:
        session = connection.plugin_session
        session.core = connection.session
        if self._listened(BrokerEvents.CLIENT_CONNECTED):
            self._fire(BrokerEvents.CLIENT_CONNECTED, client_id=session.client_id, client_session=session)
        if not self._keeps_sessions:
            connection.plugin_session = None

    def ended(self, connection: Connection) -> None:
        """A connection is over, accepted or not."""
        session = connection.session
        if session is not None:
            for hook in self._disconnecting:
                hook(session)
            for hook in self._hearing:
                hook(session.user, connection.heard)
            if self._listened(BrokerEvents.CLIENT_DISCONNECTED):
                plugin_session = connection.plugin_session
                self._fire(BrokerEvents.CLIENT_DISCONNECTED, client_id=session.device, client_session=plugin_session)
        user = connection.counted
        if user is None:
            return
        self._users[user] -= 1
        if self._users[user] <= 0:
            del self._users[user]
            for hook in self._forgetting:
                hook(user)
            if self._node.inboxes is not None:
                self._node.inboxes.forget_user(user)
            if self._node.retained_keeper is not None:
                self._node.retained_keeper.left(user)

    def present(self, user: str) -> bool:
        return user in self._users

    def will_allowed(self, user: str, topic: str) -> bool:
        return all(hook(user, topic) for hook in self._willing)

    # Topics

    async def subscription(self, connection: Connection, filter: str) -> bool:
        session = connection.session
        assert session is not None
        if not all(hook(session.user, filter) for hook in self._subscribing):
            return False
        return not self._topic_plugins or await self._permits_filter(connection.plugin_session, filter)

    async def _permits_filter(self, session: ConnectorSession, filter: str) -> bool:
        """A plugin is asked about what ends in `#` as one level and as two, too: amqtt's own access control list, which
        compares level by level, would take `user/#` for granted by `user/+`."""
        asked = [filter]
        if filter.endswith("#"):
            asked += [f"{filter[:-1]}+", f"{filter[:-1]}+/+"]
        for one in asked:
            if not await self._permits(session, one, Action.SUBSCRIBE):
                return False
        return True

    def judge_again(self) -> None:
        """The rules have changed: subscriptions that they would refuse now are ended."""
        node = self._node
        for subscriber in list(node.sessions.subscribers.values()):
            session = subscriber.session
            refused = [f for f in session.subscriptions if not all(hook(session.user, f) for hook in self._subscribing)]
            for filter in refused:
                node.router.unsubscribe(subscriber, filter)
                logger.warning(
                    "subscription ended by new rules", extra={"user": session.user, "device": session.device}
                )
            if refused and subscriber.connection is not None:
                subscriber.connection.receipt_topics.clear()
                if node.inboxes is not None:
                    node.inboxes.unsubscribed(subscriber.connection)

    async def may_receive(self, subscriber: Subscriber, topic: str) -> bool:
        """Whether this session may be sent what is published to `topic`."""
        if not self._topic_plugins:
            return True
        return await self._permits(self.plugin_session(subscriber), topic, Action.RECEIVE)

    async def denied(self, topic: str) -> frozenset[Subscriber] | None:
        """Who of those subscribed may not be sent this topic; None where no plugin can say so."""
        if not self._topic_plugins:
            return None
        return frozenset(
            [
                subscriber
                for subscriber, _ in self._node.router.route(topic)
                if not await self.may_receive(subscriber, topic)
            ]
        )

    async def _decide_publish(self, publication: Publication) -> None:
        """The gate for nodes with third-party topic plugins. One that raises ends the connection unacknowledged. A
        decision under way is finished even if the connection ends, as any publication is."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._node.spawn(self._decide(publication, outcome), "topic decision")
        await outcome

    async def _decide(self, publication: Publication, outcome: asyncio.Future[None]) -> None:
        try:
            if self._listened(BrokerEvents.MESSAGE_RECEIVED):
                self._announce_received(publication)  # also of what is then refused, as amqtt has it
            await self._pass_on(publication)
        except Exception as error:
            publication.abandon()
            if outcome.done():
                raise
            outcome.set_exception(error)
        else:
            if not outcome.done():
                outcome.set_result(None)

    async def _pass_on(self, publication: Publication) -> None:
        topic = publication.message.topic
        if await self._permits(publication.connection.plugin_session, topic, Action.PUBLISH):
            publication.denied = await self.denied(topic)
            publication.proceed()
        else:
            publication.reject(Reason.FORBIDDEN)

    async def _permits(self, session: ConnectorSession, topic: str, action: Action) -> bool:
        verdicts = await self._manager.map_plugin_topic(session=session, topic=topic, action=action)
        return all(verdicts.values())

    # Events

    def plugin_session(self, subscriber: Subscriber) -> ConnectorSession:
        """amqtt's view of a session, connected or not."""
        connection = subscriber.connection
        if connection is not None and connection.plugin_session is not None:
            kept: ConnectorSession = connection.plugin_session
            return kept
        session = ConnectorSession()
        session.core = subscriber.session
        session.client_id = subscriber.session.device
        session.username = subscriber.session.user or None
        session.clean_session = subscriber.session.clean
        return session

    def subscribed(self, connection: Connection, filter: str, qos: int) -> None:
        if self._listened(BrokerEvents.CLIENT_SUBSCRIBED) and connection.session is not None:
            self._fire(BrokerEvents.CLIENT_SUBSCRIBED, client_id=connection.session.device, topic=filter, qos=qos)

    def unsubscribed(self, connection: Connection, filter: str) -> None:
        if self._listened(BrokerEvents.CLIENT_UNSUBSCRIBED) and connection.session is not None:
            self._fire(BrokerEvents.CLIENT_UNSUBSCRIBED, client_id=connection.session.device, topic=filter)

    def _announce_received(self, publication: Publication) -> bool:
        message = application_message(publication.message)
        self._fire(BrokerEvents.MESSAGE_RECEIVED, client_id=publication.device, message=message)
        return True

    def _announce_broadcast(self, publication: Publication) -> bool:
        message = application_message(publication.message)
        self._fire(BrokerEvents.MESSAGE_BROADCAST, client_id=publication.device, message=message)
        return True

    def _announce_retained(self, message: Message) -> None:
        """Of a topic that is forgotten, too: with an empty payload, as amqtt has it."""
        retained = RetainedApplicationMessage(None, message.topic, message.payload, message.qos)
        self._fire(BrokerEvents.RETAINED_MESSAGE, client_id=None, retained_message=retained)

    def _packets_received(self, connection: Connection, data: bytes, count: int) -> None:
        """`count` packets were understood; what comes after them in `data` is incomplete, or malformed."""
        reframer = self._reframers.setdefault(connection, Reframer())
        data = reframer.feed(data)
        if count:
            self._node.spawn(self._fire_packets(MQTTEvents.PACKET_RECEIVED, connection, data, count), "packet event")

    def _packets_sent(self, connection: Connection, data: bytes) -> None:
        self._node.spawn(self._fire_packets(MQTTEvents.PACKET_SENT, connection, data), "packet event")

    async def _fire_packets(
        self, event: MQTTEvents, connection: Connection, data: bytes, count: int | None = None
    ) -> None:
        for packet in await decode_packets(data, count):
            await self._manager.fire_event(event, packet=packet, session=connection.plugin_session)

    def _fire(self, event: BrokerEvents, **arguments: Any) -> None:
        self._node.spawn(self._manager.fire_event(event, **arguments), f"event {event}")


def _hooks(manager: PluginManager[BrokerContext], name: str) -> list[Any]:
    return [getattr(plugin, name) for plugin in manager.plugins if hasattr(plugin, name)]


def _plugin_session(connection: Connection, packet: Connect, client_id: str) -> ConnectorSession | None:
    """What plugins see of a CONNECT; None if its password is no text, which no plugin of amqtt expects."""
    session = ConnectorSession()
    session.client_id = client_id
    session.clean_session = packet.clean
    session.keep_alive = packet.keep_alive
    session.username = packet.username
    host, _, port = connection.address.rpartition(":")
    session.remote_address = host
    session.remote_port = int(port) if port.isdigit() else None
    if connection.transport is not None:
        session.ssl_object = connection.transport.get_extra_info("ssl_object")
    if packet.password is not None:
        try:
            session.password = packet.password.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if packet.will is not None:
        session.will_flag = True
        session.will_topic, session.will_message = packet.will.topic, packet.will.payload
        session.will_qos, session.will_retain = packet.will.qos, packet.will.retain
    return session
