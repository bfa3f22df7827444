"""The way of a PUBLISH through the plugins: a list of stages that the configuration puts in order.

A stage is a plain call that looks at a `Publication` and says True (go on to the next stage) or False (I have it). Who
has it must, now or later, do exactly one of: `proceed` (go on after all), `reject` (acknowledge, and tell the sender
why not), `settle` (acknowledge), `abandon` (never acknowledge: the client keeps the message). After the last stage the
publication is routed to plain subscribers.

What is waited for has no time-out here: whoever holds a publication bounds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aldis.broker.core.acks import AckSlot
from aldis.broker.core.envelope import Envelope, EnvelopeError, Reason, parse_chat, render_failed, render_sent
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session import Session

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.broker.router import Subscriber

SERVER = "$server"
"""Stands where a user id would, for what the server itself has to say."""

INBOX_LEVELS = 4
"""Levels of a topic below an inbox: `inbox/{to}/{kind}/{from}`."""

Answer = tuple[str, bytes]
"""A receipt: about what went to whom, and its payload. A QoS 2 PUBLISH that is repeated gets it again."""

Stage = Callable[["Publication"], bool]


class Stream(Protocol):
    """Whoever keeps the order and the ids of a device."""

    def committed(self, publication: Publication, mid: int, ts: int) -> None:
        """This publication is durable under `mid`."""


class Publication(AckSlot):
    """One PUBLISH under way, and its place in the order of acknowledgements.

    `levels` are the levels of its topic; `envelope` is set once a stage has read the payload; `stream` is told of the
    outcome, if the ordering stage has set it; `denied` are subscribers that a plugin keeps it from. The connection may
    end at any time: the publication goes on, its acknowledgement just reaches nobody.
    """

    __slots__ = (
        "_answer",
        "_followers",
        "_shared",
        "_stage",
        "connection",
        "denied",
        "device",
        "envelope",
        "levels",
        "message",
        "session",
        "stream",
        "user",
        "weight",
    )

    def __init__(self, connection: Connection, session: Session, message: Message, wire: bytes) -> None:
        self.wire = wire
        self.settled = False
        self.connection = connection
        self.session = session
        self.message = message
        self.levels = message.topic.split("/")
        self.envelope: Envelope | None = None
        self.stream: Stream | None = None
        self.denied: frozenset[Subscriber] | None = None
        self.user = session.user
        self.device = session.device
        self.weight = 0
        self._stage = 0
        self._shared: list[Publication] | None = None
        self._followers: list[Publication] | None = None
        self._answer: Answer | None = None

    def proceed(self) -> None:
        """Runs the stages that are left, then routes to plain subscribers and acknowledges."""
        node = self.connection.node
        stages = node.stages
        while self._stage < len(stages):
            stage = stages[self._stage]
            self._stage += 1
            if not stage(self):
                return
        message = self.message
        node.router.publish(message, self.denied)
        if node.elsewhere is not None and self.levels[0] == "devices" and len(self.levels) > 1:
            node.elsewhere.pass_on(self.levels[1], message, retain=message.retain)
        self.settle()

    def waits(self) -> None:
        """Someone keeps it for later: until it is settled or abandoned its bytes count as a burden of the node."""
        if not self.weight:
            self.weight = len(self.message.payload) + 1
            burden = self.connection.node.burden
            burden.bytes += self.weight
            if burden.bytes > burden.limit:
                burden.exceeded()

    def _waited(self) -> None:
        burden = self.connection.node.burden
        burden.bytes -= self.weight
        self.weight = 0
        if burden.full:
            burden.eased()

    def settle(self) -> None:
        """Acknowledges the PUBLISH in its turn."""
        if self.weight:
            self._waited()
        if self.message.qos == 2:
            self.session.finish_incoming(self.message.packet_id, self._answer)
        self.connection.settle(self)
        if self._shared is not None:
            for again in self._shared:
                again.connection.settle(again)

    def share(self, again: Publication) -> None:
        """The same QoS 2 PUBLISH came again on a newer connection, which now waits for the same outcome."""
        waiting = [one for one in self._shared or () if one.connection.closed is None]
        self._shared = [*waiting, again]

    def follow(self, first: Publication) -> None:
        """This one repeats `first`, which has no outcome yet: whatever becomes of that one is the answer to both."""
        if first._followers is None:
            first._followers = []
        first._followers.append(self)
        self.waits()

    def abandon(self) -> None:
        """Gives the PUBLISH up without an answer; a repeat of it counts as new. Who has repeated it already on a newer
        connection is disconnected, and so repeats it once more."""
        if self.weight:
            self._waited()
        if self.message.qos == 2:
            self.session.forget_incoming(self.message.packet_id)
        for again in self._shared or ():
            again.connection.end(CloseReason.INTERNAL_ERROR, "the PUBLISH that it repeated came to nothing")
        for follower in self._followers or ():
            follower.abandon()

    def committed(self, mid: int, ts: int) -> None:
        """The message is durable: tells the sending device, then acknowledges. The receipt stands in front of the
        acknowledgement in the same stream of bytes (ADR-0001). A repeat that is known by its `seq` alone (`mid` 0) is
        just acknowledged: what its receipt would name, nobody knows any more."""
        envelope = self.envelope
        assert envelope is not None
        if mid:
            self._receipt(self.levels[1], render_sent(envelope.id, envelope.seq, mid, ts))
        if self.stream is not None:
            self.stream.committed(self, mid, ts)
        self.settle()
        if self._followers is not None:
            for follower in self._followers:
                follower.committed(mid, ts)

    def reject(self, reason: Reason, id: str | None = None) -> None:
        """Acknowledges, and says why the message goes nowhere: 3.1.1 has no negative acknowledgement."""
        self.connection.node.refused(self, reason)
        levels = self.levels
        if levels[0] == "inbox" and len(levels) == INBOX_LEVELS:
            if self.envelope is None and id is None and levels[2] == "chat":
                self._read_envelope()  # refused before anyone looked: the receipt still has to name the message
            envelope = self.envelope
            if envelope is not None:
                self._receipt(levels[1], render_failed(envelope.id, reason, seq=envelope.seq))
            else:
                self._receipt(levels[1], render_failed(id, reason))
        else:
            self._receipt(SERVER, render_failed(id, reason, topic=self.message.topic))
        self.settle()
        for follower in self._followers or ():
            follower.reject(reason)

    def _read_envelope(self) -> None:
        with contextlib.suppress(EnvelopeError):
            self.envelope = parse_chat(self.message.payload)

    def _receipt(self, peer: str, payload: bytes) -> None:
        self._answer = (peer, payload)
        self.connection.receipt(peer, payload)
        if self._shared is not None:
            for again in self._shared:
                again.connection.receipt(peer, payload)
