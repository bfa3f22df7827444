"""The connector node: its sessions, its connections, its clock, and what connects them to router, plugins and inboxes.

Knows nothing of amqtt: the connector (`connector.py`) hands in what its plugins decide, as plain callables.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from aldis.broker.core.codec import SUBSCRIPTION_REFUSED, TopicCache, encode_connack
from aldis.broker.core.envelope import Reason
from aldis.broker.core.packets import Connect, Message, Subscribe, Unsubscribe, Will
from aldis.broker.core.reasons import CloseReason, ConnectReturn, ProtocolViolation
from aldis.broker.core.session import EPHEMERAL, Session
from aldis.broker.core.timers import GRAIN, DeadlineWheel
from aldis.broker.core.topics import TopicError, check_filter
from aldis.broker.pipeline import Publication, Stage
from aldis.broker.ports import AccessRevoked, Announcement, StoreUnavailable, TooManyDevices
from aldis.broker.router import Router, Subscriber

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.config.settings import Limits, Timeouts

logger = logging.getLogger(__name__)

SessionKey = tuple[str, str]
"""(user, device): two users with the same client identifier never meet."""

_EXPECTED_ENDS = frozenset({CloseReason.CLIENT_DISCONNECTED, CloseReason.TAKEN_OVER, CloseReason.SERVER_SHUTDOWN})


class Decisions(Protocol):
    """What the plugins decide and hear. `admit` authenticates a CONNECT, after which `user_of` says who it is; nothing of
    the named session has been touched by then."""

    async def admit(self, connection: Connection, packet: Connect, client_id: str) -> ConnectReturn: ...
    def user_of(self, connection: Connection) -> str: ...
    def will_allowed(self, session: Session, topic: str) -> bool: ...
    async def subscription(self, connection: Connection, filter: str) -> bool: ...
    async def may_receive(self, subscriber: Subscriber, topic: str) -> bool: ...
    def connected(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def subscribed(self, connection: Connection, filter: str, qos: int) -> None: ...
    def unsubscribed(self, connection: Connection, filter: str) -> None: ...


class InboxSide(Protocol):
    """What the node tells the inboxes. Absent on the lab profile."""

    def concerns(self, session: Session) -> bool: ...
    async def attach(self, connection: Connection) -> None: ...
    def detach(self, connection: Connection) -> None: ...
    async def prepare(self, user: str) -> None: ...
    async def start(self, connection: Connection, filters: Iterable[str]) -> None: ...
    def unsubscribed(self, connection: Connection) -> None: ...
    def forget_user(self, user: str) -> None: ...
    def acknowledged(self, connection: Connection, message: Message) -> None: ...
    def drained(self, connection: Connection) -> None: ...


class Node:
    """One connector. Everything here runs in one event loop."""

    def __init__(self, limits: Limits, timeouts: Timeouts, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self.now = loop.time()
        self.topics = TopicCache(limits.max_topic_levels)
        self.router = Router(self.touch, limits.max_retained)
        self.stages: list[Stage] = []
        self.publish_gate: Callable[[Publication], Coroutine[Any, Any, None]] | None = None
        self.decisions: Decisions
        self.inboxes: InboxSide | None = None
        self.packets_received: Callable[[Connection, bytes], None] | None = None
        self.packets_sent: Callable[[Connection, bytes], None] | None = None
        self.on_tick: list[Callable[[float], None]] = []
        self.connections: set[Connection] = set()
        self.subscribers: dict[SessionKey, Subscriber] = {}
        self._absent: OrderedDict[SessionKey, float] = OrderedDict()
        self._loop = loop
        self._wheel = DeadlineWheel(self.now)
        self._dirty: set[Connection] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ephemeral = 0

    # The clock and the end of the tick

    def start(self) -> None:
        self._tick()

    def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        for task in self._tasks:
            task.cancel()

    def _tick(self) -> None:
        self.now = self._loop.time()
        self._ticker = self._loop.call_later(GRAIN, self._tick)
        self._wheel.turn(self.now)
        for hook in self.on_tick:
            hook(self.now)
        while self._absent:
            key, since = next(iter(self._absent.items()))
            if since + self.timeouts.session_expiry > self.now:
                break
            logger.info("session expired", extra={"user": key[0], "device": key[1]})
            self._discard(key)

    def touch(self, connection: Connection) -> None:
        """The connection has something to write at the end of this tick."""
        dirty = self._dirty
        if not dirty:
            self._loop.call_soon(self._flush)
        dirty.add(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for connection in dirty:
            connection.flush()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs something rare beside the connections; it is cancelled at shutdown, and its failure is logged."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s failed", task.get_name(), exc_info=task.exception())

    # Connections

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._wheel.schedule(connection, connection.next_check)

    async def connect(self, connection: Connection, packet: Connect) -> None:
        """CONNECT: first who it is, then, and only then, anything of the session it names."""
        if not packet.supported:
            self._refuse(connection, ConnectReturn.UNACCEPTABLE_PROTOCOL)
            return
        if not packet.client_id and not packet.clean:
            self._refuse(connection, ConnectReturn.IDENTIFIER_REJECTED)  # [MQTT-3.1.3-8]
            return
        client_id = packet.client_id or self._ephemeral_id()
        try:
            code = await self.decisions.admit(connection, packet, client_id)
            if code is ConnectReturn.ACCEPTED and self.inboxes is not None:
                await self.inboxes.prepare(self.decisions.user_of(connection))
        except StoreUnavailable:
            code = ConnectReturn.SERVER_UNAVAILABLE
        if connection.closed is not None:
            return
        if code is ConnectReturn.ACCEPTED:
            key = (self.decisions.user_of(connection), client_id)
            if key not in self.subscribers and len(self.subscribers) >= self.limits.max_sessions:
                code = ConnectReturn.SERVER_UNAVAILABLE
        if code is not ConnectReturn.ACCEPTED:
            self._refuse(connection, code)
            return
        self._open_session(connection, packet, key)

    def _ephemeral_id(self) -> str:
        self._ephemeral += 1
        return f"{EPHEMERAL}{self._ephemeral}"

    def _refuse(self, connection: Connection, code: ConnectReturn) -> None:
        connection.send(encode_connack(code, session_present=False))
        connection.end(CloseReason.REFUSED, code.name.lower())

    def _open_session(self, connection: Connection, packet: Connect, key: SessionKey) -> None:
        self._take_over(key)
        subscriber = self.subscribers.get(key)
        if subscriber is not None and (packet.clean or subscriber.session.clean):
            self._discard(key)  # [MQTT-3.1.2-6]
            subscriber = None
        present = subscriber is not None
        if subscriber is None:
            limits = self.limits
            session = Session(*key, clean=packet.clean, max_inflight=limits.max_inflight, max_queued=limits.max_queued)
            subscriber = self.subscribers[key] = Subscriber(session)
        session = subscriber.session
        session.clean = packet.clean
        session.will = packet.will
        if packet.will is not None and not self.decisions.will_allowed(session, packet.will.topic):
            session.will = None
            if not present:
                self._discard(key)
            self._refuse(connection, ConnectReturn.NOT_AUTHORISED)
            return
        self._absent.pop(key, None)
        subscriber.connection = connection
        connection.session = session
        connection.keep_alive = packet.keep_alive * 1.5  # [MQTT-3.1.2-24]
        connection.next_check = self.now + self.timeouts.acknowledge
        connection.send(encode_connack(ConnectReturn.ACCEPTED, session_present=present))
        session.resume(connection.out)
        self.touch(connection)
        self.decisions.connected(connection)
        if present and self.inboxes is not None and self.inboxes.concerns(session):
            self.spawn(self._attach(connection), "attach")

    async def _attach(self, connection: Connection) -> None:
        assert self.inboxes is not None
        try:
            await self.inboxes.attach(connection)
        except TooManyDevices as error:
            connection.end(CloseReason.REFUSED, str(error))
        if connection.session is not None:
            await self.inboxes.start(connection, list(connection.session.subscriptions))

    def _take_over(self, key: SessionKey) -> None:
        """The same user's same device on a new connection: the old one goes [MQTT-3.1.4-2]."""
        subscriber = self.subscribers.get(key)
        if subscriber is not None and subscriber.connection is not None:
            subscriber.connection.end(CloseReason.TAKEN_OVER)

    def ended(self, connection: Connection) -> None:
        """The connection is over, for whatever reason. Called once."""
        self.connections.discard(connection)
        self._dirty.discard(connection)
        listener = connection.listener
        if listener is not None:
            listener.release()
        session = connection.session
        self._log_end(connection)
        if session is not None:
            self._leave(connection, session)
        self.decisions.ended(connection)

    def _leave(self, connection: Connection, session: Session) -> None:
        """The session loses its connection: kept if it is persistent, gone if it is clean; its will is published."""
        key = (session.user, session.device)
        if self.inboxes is not None:
            self.inboxes.detach(connection)
        session.suspend()
        subscriber = self.subscribers[key]
        subscriber.connection = None
        will, session.will = session.will, None
        if session.clean:
            self._discard(key)
        else:
            self._absent[key] = self.now
        if will is not None:
            self._publish_will(connection, session, will)

    def _publish_will(self, connection: Connection, session: Session, will: Will) -> None:
        message = Message(will.topic, will.payload, will.qos, will.retain)
        publication = Publication(connection, session, message, b"")
        if self.publish_gate is not None:
            self.spawn(self.publish_gate(publication), "will")
        else:
            publication.proceed()

    def _log_end(self, connection: Connection) -> None:
        session = connection.session
        level = logging.INFO if connection.closed in _EXPECTED_ENDS or session is not None else logging.WARNING
        logger.log(
            level,
            "connection ended: %s",
            connection.closed,
            extra={
                "address": connection.address,
                "user": session.user if session is not None else None,
                "device": session.device if session is not None else None,
                "detail": connection.detail,
                "seconds": round(self._loop.time() - connection.connected_at, 1),
            },
        )

    def _discard(self, key: SessionKey) -> None:
        subscriber = self.subscribers.pop(key, None)
        self._absent.pop(key, None)
        if subscriber is not None:
            self.router.forget(subscriber)

    def check(self, connection: Connection, now: float) -> float | None:
        """What the deadline wheel asks each connection: is anything due, and when to ask again?"""
        if connection.closed is not None:
            return None
        session = connection.session
        if session is None:
            if now >= connection.next_check:
                connection.end(CloseReason.CONNECT_TIMEOUT)
                return None
            return connection.next_check
        if connection.keep_alive and now - connection.heard >= connection.keep_alive:
            connection.end(CloseReason.KEEP_ALIVE_TIMEOUT)
            return None
        if now >= connection.next_check:
            connection.next_check = now + self.timeouts.acknowledge
            if not self._check_deliveries(connection, session):
                return None
        if connection.keep_alive:
            return min(connection.next_check, connection.heard + connection.keep_alive)
        return connection.next_check

    def _check_deliveries(self, connection: Connection, session: Session) -> bool:
        """Article 8.1: send again what is not acknowledged, and give the connection up after `max_retries`. False: given up."""
        if not session.stalled():
            connection.retries = 0
            return True
        if connection.retries >= self.timeouts.max_retries:
            connection.end(CloseReason.ACKNOWLEDGE_TIMEOUT)
            return False
        connection.retries += 1
        if not connection.congested:
            session.send_again()
            self.touch(connection)
        return True

    def failed(self, connection: Connection, error: Exception) -> None:
        """A defect of ours or of a plugin, met while handling this connection: it ends, the others go on."""
        logger.error("failure while handling a packet", exc_info=error, extra={"address": connection.address})
        connection.end(CloseReason.INTERNAL_ERROR, type(error).__name__)

    # Subscriptions

    async def subscribe(self, connection: Connection, packet: Subscribe) -> None:
        """SUBSCRIBE: judged filter by filter; the SUBACK leaves when every granted one is in force, an inbox attached."""
        session = connection.session
        assert session is not None
        subscriber = self.subscribers[(session.user, session.device)]
        codes: list[int] = []
        granted: list[tuple[str, int]] = []
        for filter, qos in packet.filters:
            if await self._permitted(connection, session, filter):
                granted.append((filter, qos))
                codes.append(qos)
            else:
                codes.append(SUBSCRIPTION_REFUSED)
        if connection.closed is not None:
            return
        for filter, qos in granted:
            self.router.subscribe(subscriber, filter, qos)
        if granted and self.inboxes is not None and self.inboxes.concerns(session):
            try:
                await self.inboxes.attach(connection)
            except TooManyDevices as error:
                logger.warning(
                    "subscription refused: %s", error, extra={"user": session.user, "device": session.device}
                )
                for filter, _ in granted:
                    self.router.unsubscribe(subscriber, filter)
                codes, granted = [SUBSCRIPTION_REFUSED] * len(codes), []
        connection.receipt_topics.clear()
        connection.suback(packet.packet_id, codes)
        for filter, qos in granted:
            await self._send_retained(subscriber, filter, qos)
            self.decisions.subscribed(connection, filter, qos)
        if granted and self.inboxes is not None:
            await self.inboxes.start(connection, [filter for filter, _ in granted])

    async def _send_retained(self, subscriber: Subscriber, filter: str, qos: int) -> None:
        for topic, message in list(self.router.retained.match(filter)):
            if await self.decisions.may_receive(subscriber, topic):
                self.router.send_retained(subscriber, message, qos)

    async def _permitted(self, connection: Connection, session: Session, filter: str) -> bool:
        try:
            check_filter(filter, self.limits.max_topic_levels)
        except TopicError as error:
            if filter.count("/") >= self.limits.max_topic_levels:
                return False
            raise ProtocolViolation(CloseReason.MALFORMED, str(error)) from None  # [MQTT-4.7.1-2], [MQTT-4.7.3-1]
        if filter not in session.subscriptions and len(session.subscriptions) >= self.limits.max_subscriptions:
            return False
        return await self.decisions.subscription(connection, filter)

    def unsubscribe(self, connection: Connection, packet: Unsubscribe) -> None:
        session = connection.session
        assert session is not None
        subscriber = self.subscribers[(session.user, session.device)]
        for filter in packet.filters:
            if self.router.unsubscribe(subscriber, filter):
                self.decisions.unsubscribed(connection, filter)
        connection.receipt_topics.clear()
        if self.inboxes is not None:
            self.inboxes.unsubscribed(connection)

    # What others tell the node

    def item_acknowledged(self, connection: Connection, message: Message) -> None:
        if self.inboxes is not None:
            self.inboxes.acknowledged(connection, message)

    def drained(self, connection: Connection) -> None:
        """The connection can take more: its buffer has emptied or its window has room."""
        if self.inboxes is not None and connection.device is not None:
            self.inboxes.drained(connection)

    def refused(self, publication: Publication, reason: Reason) -> None:
        logger.debug(
            "publish refused: %s",
            reason,
            extra={"user": publication.user, "device": publication.device, "topic": publication.message.topic},
        )

    def on_announcement(self, announcement: Announcement) -> None:
        """The accounts side has revoked something: whoever it concerns is disconnected."""
        if not isinstance(announcement, AccessRevoked):
            return
        for connection in list(self.connections):
            session = connection.session
            if session is None or session.user != announcement.user:
                continue
            if announcement.device is not None and session.device != announcement.device:
                continue
            if announcement.session is not None and (
                connection.grant is None or connection.grant.session != announcement.session
            ):
                continue
            connection.end(CloseReason.ACCESS_REVOKED)
