"""CONNECT and what it opens: who is admitted, which session it gets, and what remains of it afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from aldis.broker.core.codec import encode_connack
from aldis.broker.core.packets import Connect, Message, Will
from aldis.broker.core.reasons import CloseReason, ConnectReturn, ProtocolViolation
from aldis.broker.core.session import EPHEMERAL, QueueRule, Session
from aldis.broker.core.timers import GRAIN
from aldis.broker.core.topics import TopicError, check_topic_name
from aldis.broker.pipeline import Publication
from aldis.broker.ports import AccessRevoked, StoreUnavailable, TooManyDevices
from aldis.broker.router import Subscriber

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.broker.decisions import Arrivals
    from aldis.broker.node import Node
    from aldis.config.limits import Limits

logger = logging.getLogger(__name__)

SessionKey = tuple[str, str]
"""(user, device): two users with the same client identifier never meet."""


def concerns(revoked: AccessRevoked, connection: Connection, user: str, device: str) -> bool:
    """Whether this connection, of this user's device, may not be there any more."""
    if user != revoked.user or (revoked.device is not None and device != revoked.device):
        return False
    if revoked.session is None:
        return True
    return connection.grant is not None and connection.grant.session == revoked.session


class Sessions:
    """The sessions of one node, by key: connected ones, and persistent ones whose device is away."""

    def __init__(self, node: Node) -> None:
        self.subscribers: dict[SessionKey, Subscriber] = {}
        self._node = node
        self.configure(node.limits)
        self._absent: OrderedDict[SessionKey, float] = OrderedDict()
        self._ephemeral = 0
        self._judged_since: dict[Connection, list[AccessRevoked]] = {}

    def configure(self, limits: Limits) -> None:
        """These limits for the sessions made from now on."""
        self._rule = QueueRule(limits.max_queued_bytes, limits.queue_policy == "drop_oldest", limits.max_write_buffer)

    def of(self, session: Session) -> Subscriber:
        return self.subscribers[session.user, session.device]

    # CONNECT

    async def connect(self, connection: Connection, packet: Connect) -> None:
        """First who it is, then, and only then, anything of the session that it names."""
        node = self._node
        if node.door.barred(connection, packet.username, node.now):
            node.figures.connects[ConnectReturn.SERVER_UNAVAILABLE] += 1
            connection.send(encode_connack(ConnectReturn.SERVER_UNAVAILABLE, session_present=False))
            connection.end(CloseReason.TOO_MANY_FAILURES)
            return
        client_id = packet.client_id or self._ephemeral_id()
        revoked = self._judged_since[connection] = []
        try:
            code = await self._judge(connection, packet, client_id)
            if connection.closed is None and code is ConnectReturn.ACCEPTED:
                user = node.decisions.user_of(connection)
                if node.arrivals is not None:
                    await self._arrive(node.arrivals, connection, (user, client_id), clean=packet.clean)
                if any(concerns(one, connection, user, client_id) for one in revoked):
                    connection.end(CloseReason.ACCESS_REVOKED)
                self._enter(connection, packet, (user, client_id))
        except StoreUnavailable:
            code = ConnectReturn.SERVER_UNAVAILABLE
        finally:
            del self._judged_since[connection]
        if connection.closed is None and code is not ConnectReturn.ACCEPTED:
            node.figures.connects[code] += 1
            connection.send(encode_connack(code, session_present=False))
            connection.end(CloseReason.REFUSED, code.name.lower())

    def revoked(self, announcement: AccessRevoked) -> None:
        """A CONNECT that is being judged may be judged by what was true before: it is looked at once more."""
        for since in self._judged_since.values():
            since.append(announcement)

    async def _arrive(self, arrivals: Arrivals, connection: Connection, key: SessionKey, *, clean: bool) -> None:
        """Once begun it goes on to its end, also where the connection does not: the user status, and other nodes, may
        have been told already, and nobody else would take it back."""
        arriving = asyncio.ensure_future(arrivals.arrive(connection, *key, clean=clean))
        try:
            await asyncio.shield(arriving)
        except asyncio.CancelledError:
            self._node.spawn(self._arrive_in_vain(arriving, connection, key), "arrival of a connection that is gone")
            raise

    async def _arrive_in_vain(self, arriving: asyncio.Future[None], connection: Connection, key: SessionKey) -> None:
        await arriving
        self._gone_already(connection, key)

    def _gone_already(self, connection: Connection, key: SessionKey) -> None:
        """It is known to the user status, and has ended before it had a session. An earlier connection of the device,
        which it would have ended, goes on in its place."""
        subscriber = self.subscribers.get(key)
        earlier = None if subscriber is None else subscriber.connection
        if earlier is not None and earlier.holding is not None and connection.holding is not None:
            if earlier.holding.turn < connection.holding.turn:
                earlier.holding = connection.holding
        elif self._node.arrivals is not None:
            self._node.arrivals.left(connection, away=subscriber is not None)

    def _enter(self, connection: Connection, packet: Connect, key: SessionKey) -> None:
        """Admitted, and known to the user status; it may have ended meanwhile."""
        if connection.closed is None:
            self._node.figures.connects[ConnectReturn.ACCEPTED] += 1
            self._open(connection, packet, key)
        else:
            self._gone_already(connection, key)

    async def _judge(self, connection: Connection, packet: Connect, client_id: str) -> ConnectReturn:
        node = self._node
        if not packet.supported:
            return ConnectReturn.UNACCEPTABLE_PROTOCOL
        if not packet.client_id and not packet.clean:
            return ConnectReturn.IDENTIFIER_REJECTED  # [MQTT-3.1.3-8]
        if node.store.shut:
            return ConnectReturn.SERVER_UNAVAILABLE
        if packet.will is not None:
            try:
                check_topic_name(packet.will.topic, node.limits.max_topic_levels)
            except TopicError as error:
                raise ProtocolViolation(CloseReason.BAD_TOPIC, f"will: {error}") from None
            if len(packet.will.payload) > node.limits.max_will_size:
                return ConnectReturn.NOT_AUTHORISED
        code = await node.decisions.admit(connection, packet, client_id)
        if code is not ConnectReturn.ACCEPTED:
            if code is not ConnectReturn.SERVER_UNAVAILABLE:
                node.door.failed(connection, packet.username, node.now)
            return code
        user = node.decisions.user_of(connection)
        will = packet.will
        if will is not None and (will.topic[0] == "$" or not node.decisions.will_allowed(user, will.topic)):
            return ConnectReturn.NOT_AUTHORISED
        if node.inboxes is not None:
            await node.inboxes.prepare(user)
        if (user, client_id) not in self.subscribers:
            if node.door.shut or len(self.subscribers) >= node.limits.max_sessions:
                return ConnectReturn.SERVER_UNAVAILABLE
        return ConnectReturn.ACCEPTED

    def _ephemeral_id(self) -> str:
        self._ephemeral += 1
        return f"{EPHEMERAL}{self._node.name}{self._ephemeral}"

    def _open(self, connection: Connection, packet: Connect, key: SessionKey) -> None:
        node = self._node
        self._take_over(key)
        subscriber = self.subscribers.get(key)
        if subscriber is not None and (packet.clean or subscriber.session.clean):
            self.discard(key)  # [MQTT-3.1.2-6]
            subscriber = None
        present = subscriber is not None
        if subscriber is None:
            subscriber = self.make(key, clean=packet.clean)
        self._absent.pop(key, None)
        session = subscriber.session
        session.will = packet.will
        subscriber.connection = connection
        connection.session = session
        if packet.keep_alive:
            connection.keep_alive = packet.keep_alive * 1.5 + GRAIN  # [MQTT-3.1.2-24]; `heard` is up to a grain behind
        connection.send(encode_connack(ConnectReturn.ACCEPTED, session_present=present))
        session.resume(connection.out)
        node.opened_session(connection)
        node.decisions.connected(connection)
        if present and node.inboxes is not None:
            node.spawn(self._resume_inbox(connection, session), "resume inbox")

    def make(self, key: SessionKey, *, clean: bool) -> Subscriber:
        """A new session under this key, which nobody else has."""
        limits = self._node.limits
        session = Session(
            *key,
            clean=clean,
            max_inflight=limits.max_inflight,
            max_queued=limits.max_queued,
            rule=self._rule,
            tally=self._node.figures.sent,
        )
        subscriber = self.subscribers[key] = Subscriber(session)
        return subscriber

    async def _resume_inbox(self, connection: Connection, session: Session) -> None:
        """A resumed session has its subscriptions already."""
        inboxes = self._node.inboxes
        assert inboxes is not None
        try:
            if inboxes.concerns(session):
                await inboxes.attach(connection)
        except TooManyDevices as error:
            connection.end(CloseReason.REFUSED, str(error))
        await inboxes.start(connection, list(session.subscriptions))

    def _take_over(self, key: SessionKey) -> None:
        """The same user's same device on a new connection: the old one goes [MQTT-3.1.4-2]."""
        subscriber = self.subscribers.get(key)
        if subscriber is not None and subscriber.connection is not None:
            subscriber.connection.end(CloseReason.TAKEN_OVER)

    # The end of a connection, and of a session

    def leave(self, connection: Connection, session: Session) -> None:
        """The session loses its connection: kept if it is persistent, gone if it is clean; its will is published."""
        inboxes = self._node.inboxes
        if inboxes is not None:
            inboxes.detach(connection)
        session.suspend()
        key = (session.user, session.device)
        self.subscribers[key].connection = None
        will, session.will = session.will, None
        if session.clean:
            self.discard(key)
        else:
            self.wait_for(key)
        if self._node.arrivals is not None:
            self._node.arrivals.left(connection, away=not session.clean)
        if will is not None:
            self._publish_will(connection, session, will)

    def _publish_will(self, connection: Connection, session: Session, will: Will) -> None:
        """The same way as any publish of this user, with nobody left to be answered [MQTT-3.1.2-8]."""
        node = self._node
        publication = Publication(connection, session, Message(will.topic, will.payload, will.qos, will.retain), b"")
        if node.publish_gate is not None:
            node.spawn(node.publish_gate(publication), "will")
        else:
            publication.proceed()

    def wait_for(self, key: SessionKey) -> None:
        """The session has no connection; from now on it may expire."""
        self._absent[key] = self._node.now

    def expire(self, now: float) -> None:
        """Ends persistent sessions whose device has been away for too long."""
        while self._absent:
            key, since = next(iter(self._absent.items()))
            if since + self._node.timeouts.session_expiry > now:
                return
            logger.info("session expired", extra={"user": key[0], "device": key[1]})
            self._end_absent(key)

    def forget(self, user: str, device: str) -> None:
        """The device was removed from the account: a session that waits for it has nobody to wait for."""
        subscriber = self.subscribers.get((user, device))
        if subscriber is not None and subscriber.connection is None:
            self._end_absent((user, device))

    def _end_absent(self, key: SessionKey) -> None:
        self.discard(key)
        if self._node.arrivals is not None:
            self._node.arrivals.gone(*key)

    def discard(self, key: SessionKey) -> None:
        """The session ends, with its subscriptions and all that waits in it. It has no connection any more."""
        subscriber = self.subscribers.pop(key, None)
        self._absent.pop(key, None)
        if subscriber is not None:
            self._node.router.forget(subscriber)
