"""The connector node: its sessions, its connections, its clock, and what connects them to router, plugins and inboxes.

Knows nothing of amqtt: the connector (`connector.py`) hands in what its plugins decide, as plain callables.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aldis.broker.allowances import Allowances
from aldis.broker.background import Background
from aldis.broker.burden import Burden
from aldis.broker.core.codec import TopicCache
from aldis.broker.core.envelope import Reason
from aldis.broker.core.occasional import Occasional
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session import Session
from aldis.broker.core.timers import GRAIN, DeadlineWheel
from aldis.broker.decisions import Arrivals, Decisions, InboxSide
from aldis.broker.door import TURNED_AWAY, Door
from aldis.broker.figures import Figures
from aldis.broker.memory import SHORT_OF_MEMORY, MemoryWatch
from aldis.broker.pipeline import Publication, Stage
from aldis.broker.ports import AccessRevoked, Announcement
from aldis.broker.router import Router
from aldis.broker.sessions import Sessions, concerns
from aldis.broker.store_watch import StoreWatch

if TYPE_CHECKING:
    from aldis.broker.cluster_ports import Told
    from aldis.broker.connection import Connection
    from aldis.broker.elsewhere import Elsewhere
    from aldis.broker.retained_keeper import RetainedKeeper
    from aldis.config.settings import Limits, Timeouts

logger = logging.getLogger(__name__)

_EXPECTED_ENDS = frozenset({CloseReason.CLIENT_DISCONNECTED, CloseReason.TAKEN_OVER, CloseReason.SERVER_SHUTDOWN})


STARTING = "starting"

STOOD_STILL = 1.0
"""Seconds by which one tick is late when the whole process has stood still: a suspended machine, a frozen container.
Shorter than the shortest keep alive."""


class Node:
    """One connector. Everything here runs in one event loop.

    `not_ready_reasons` says, in words for the operator, why nobody new should be sent here: whoever knows of a trouble
    adds its reason and takes it out again. Ready means that it is empty.
    """

    def __init__(self, limits: Limits, timeouts: Timeouts, loop: asyncio.AbstractEventLoop) -> None:
        self.name = ""  # among others; set at start
        self.limits = limits
        self.timeouts = timeouts
        self.figures = Figures()
        self.not_ready_reasons: set[str] = {STARTING}
        self.now = loop.time()
        self.topics = TopicCache(limits.max_topic_levels)
        self.router = Router(self.touch, limits.max_retained, limits.max_retained_bytes, limits.max_retained_size)
        self.router.on_not_retained = self._not_retained
        self.router.on_full = self._queue_full if limits.queue_policy == "disconnect" else None
        self.stages: list[Stage] = []
        self.publish_gate: Callable[[Publication], Coroutine[Any, Any, None]] | None = None
        self.decisions: Decisions
        self.inboxes: InboxSide | None = None
        self.elsewhere: Elsewhere | None = None
        self.arrivals: Arrivals | None = None
        self.retained_keeper: RetainedKeeper | None = None
        self.packets_received: Callable[[Connection, bytes, int], None] | None = None
        self.packets_sent: Callable[[Connection, bytes], None] | None = None
        self.on_tick: list[Callable[[float], None]] = []
        self.on_corrected: list[Callable[[Told], None]] = []
        self.hearing: dict[str, Callable[[Message], None]] = {}  # by kind: who listens to what is passed on here
        self.connections: set[Connection] = set()
        self.door = Door(limits)
        self.allowances = Allowances(limits)
        self.burden = Burden(limits.max_unacknowledged_bytes, self._relieved)
        self.memory = MemoryWatch(limits.memory_high_water, self._short_of_memory)
        self.store = StoreWatch(self)
        self.sessions = Sessions(self)
        self._loop = loop
        self._wheel = DeadlineWheel(self.now)
        self._dirty: set[Connection] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._late = False
        self._awake_since = self.now
        self._background = Background()
        self._said = Occasional()

    def configure(self, limits: Limits, timeouts: Timeouts) -> None:
        """Other limits and time-outs from now on. What a connection or a session was given at its beginning (packet
        size, write buffer, window, queue) it keeps; the next one gets the new."""
        self.limits = limits
        self.timeouts = timeouts
        self.topics.configure(limits.max_topic_levels)
        self.router.retained.configure(limits.max_retained, limits.max_retained_bytes, limits.max_retained_size)
        self.router.on_full = self._queue_full if limits.queue_policy == "disconnect" else None
        self.sessions.configure(limits)
        self.door.configure(limits)
        self.allowances.configure(limits, self.connections, self.now)
        self.burden.limit = limits.max_unacknowledged_bytes
        self.memory.configure(limits.memory_high_water)

    # The clock and the end of the tick

    def start(self) -> None:
        self._tick()

    def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._background.cancel()

    def _tick(self) -> None:
        self.now = self._loop.time()
        if self._due is not None:
            self._noticed(max(0.0, self.now - self._due))
        self._due = self.now + GRAIN
        self._ticker = self._loop.call_later(GRAIN, self._tick)
        self._wheel.turn(self.now)
        for hook in self.on_tick:
            hook(self.now)
        self.sessions.expire(self.now)
        self.allowances.turn(self.now)
        self.memory.look(self.now)

    def _noticed(self, lag: float) -> None:
        """The tick comes so late. A node that always does is busy, and has heard everybody in between."""
        self.figures.lag.observe(lag)
        late = lag >= STOOD_STILL
        if late and not self._late:
            self._awake_since = self.now
        self._late = late

    def _short_of_memory(self, short: bool) -> None:
        self.door.shut = short
        (self.not_ready_reasons.add if short else self.not_ready_reasons.discard)(SHORT_OF_MEMORY)

    def _queue_full(self, connection: Connection) -> None:
        # later: whoever publishes is in the middle of telling everyone
        self._loop.call_soon(connection.end, CloseReason.QUEUE_FULL)

    def _not_retained(self, message: Message) -> None:
        times = self._said.note("not retained", self.now)
        if times:
            kept = self.router.retained
            logger.warning(
                "a message was not retained: too large, or no room",
                extra={"times": times, "topic": message.topic, "retained": len(kept), "bytes": kept.bytes},
            )

    def _relieved(self) -> None:
        for connection in list(self.connections):
            connection.relieved()

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
        self._background.spawn(work, name)

    # Connections

    def opened(self, connection: Connection) -> None:
        self.figures.opened += 1
        self.connections.add(connection)
        connection.connected_at = self._loop.time()  # `now` may be older than the time it has for its CONNECT
        self._wheel.schedule(_ConnectDeadline(connection), connection.connected_at + self.timeouts.connect)

    def opened_session(self, connection: Connection) -> None:
        """Its CONNECT was accepted: from now on its deadlines are those of a session."""
        connection.next_check = self.now + self.timeouts.acknowledge
        self._wheel.schedule(connection, self._next_deadline(connection))
        if connection.session is not None:
            self.allowances.open(connection, connection.session.user, self.now)

    def ended(self, connection: Connection) -> None:
        """The connection is over, for whatever reason. Called once."""
        self.connections.discard(connection)
        self._dirty.discard(connection)
        self.door.leave(connection)
        session = connection.session
        assert connection.closed is not None
        self.figures.ended[connection.closed] += 1
        if connection.closed in TURNED_AWAY:
            self.door.say(connection, connection.closed, self.now)
        else:
            self._log_end(connection)
        if session is not None:
            self.allowances.close(connection, session.user, self.now)
            self.sessions.leave(connection, session)
        self.decisions.ended(connection)

    def _log_end(self, connection: Connection) -> None:
        session = connection.session
        level = logging.INFO if connection.closed in _EXPECTED_ENDS or session is not None else logging.WARNING
        if session is None and connection.closed is CloseReason.CLIENT_VANISHED:
            level = logging.DEBUG  # a port scan, or a balancer that looks whether we are there
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

    def check(self, connection: Connection, now: float) -> float | None:
        """What the deadline wheel asks each connection: is anything due, and when to ask again?"""
        if connection.closed is not None:
            return None
        session = connection.session
        if session is None:
            return None
        # Nobody could be heard or written to while we stood still; and what came then was noted as of before.
        connection.heard = max(connection.heard, self._awake_since)
        connection.congested_since = max(connection.congested_since, self._awake_since)
        if connection.congested and now - connection.congested_since >= self.timeouts.slow_reader:
            connection.end(CloseReason.NOT_READING)
            return None
        if not connection.reading:
            connection.heard = now  # what we do not read we cannot miss
        if connection.keep_alive and now - connection.heard >= connection.keep_alive:
            connection.end(CloseReason.KEEP_ALIVE_TIMEOUT)
            return None
        if now >= connection.next_check:
            connection.next_check = now + self.timeouts.acknowledge
            if not self._check_deliveries(connection, session):
                return None
        return self._next_deadline(connection)

    @staticmethod
    def _next_deadline(connection: Connection) -> float:
        if connection.keep_alive:  # 0 turns it off [3.1.2.10]
            return min(connection.next_check, connection.heard + connection.keep_alive)
        return connection.next_check

    def _check_deliveries(self, connection: Connection, session: Session) -> bool:
        """Article 8.1: sends again what is not acknowledged, gives the connection up after `max_retries`. False: given
        up."""
        if connection.throttled or not session.stalled():
            connection.retries = 0  # whom we do not read cannot acknowledge
            return True
        if connection.retries >= self.timeouts.max_retries:
            connection.end(CloseReason.ACKNOWLEDGE_TIMEOUT)
            return False
        connection.retries += 1
        if not connection.congested:
            session.send_again(self.limits.max_write_buffer)
            self.touch(connection)
        return True

    def failed(self, connection: Connection, error: Exception) -> None:
        """A defect of ours or of a plugin, met while handling this connection: it ends, the others go on."""
        logger.error("failure while handling a packet", exc_info=error, extra={"address": connection.address})
        connection.end(CloseReason.INTERNAL_ERROR, type(error).__name__)

    # What others tell the node

    def item_acknowledged(self, connection: Connection, message: Message) -> None:
        if self.inboxes is not None:
            self.inboxes.acknowledged(connection, message)

    def drained(self, connection: Connection) -> None:
        """The connection can take more: its buffer has emptied or its window has room."""
        session = connection.session
        if session is not None and session.queue:
            session.send_queued()
            self.touch(connection)
        if self.inboxes is not None and connection.device is not None:
            self.inboxes.drained(connection)

    def pass_on(self, kind: str, user: str, message: Message) -> None:
        """Routes what is neither stored nor plain MQTT (a receipt, typing) to this user's devices, wherever they are.
        At QoS 0."""
        self.pass_on_here(kind, message)
        if self.elsewhere is not None:
            self.elsewhere.pass_on(user, message)

    def pass_on_here(self, kind: str, message: Message) -> None:
        """The same to the devices of this node alone."""
        if kind in self.hearing:
            self.hearing[kind](message)
        before = self.figures.sent[0]
        self.router.publish(message)
        self.figures.routed[kind] += self.figures.sent[0] - before

    def refused(self, publication: Publication, reason: Reason) -> None:
        self.figures.refused[reason] += 1
        logger.debug(
            "publish refused: %s",
            reason,
            extra={"user": publication.user, "device": publication.device, "topic": publication.message.topic},
        )

    def on_announcement(self, announcement: Announcement) -> None:
        """The accounts side has revoked something: whoever it concerns is disconnected."""
        if not isinstance(announcement, AccessRevoked):
            return
        self.sessions.revoked(announcement)
        for connection in list(self.connections):
            if _concerns(announcement, connection):
                connection.end(CloseReason.ACCESS_REVOKED)
        if announcement.device is not None:
            self.sessions.forget(announcement.user, announcement.device)


class _ConnectDeadline:
    """Ends a connection whose CONNECT has not come in time [MQTT-3.1.0-1 and 3.1.4]. Keeps no connection alive: else a
    flood of refused CONNECTs would stay in memory for the time-out."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = weakref.ref(connection)

    def on_deadline(self, _: float) -> None:
        connection = self._connection()
        if connection is not None and connection.session is None:
            connection.end(CloseReason.CONNECT_TIMEOUT)


def _concerns(revoked: AccessRevoked, connection: Connection) -> bool:
    """Also a connection whose CONNECT is still being judged, if it has already shown a credential."""
    session = connection.session
    if session is not None:
        return concerns(revoked, connection, session.user, session.device)
    if connection.counted is not None:
        return concerns(revoked, connection, connection.counted, connection.plugin_session.client_id)
    return False
