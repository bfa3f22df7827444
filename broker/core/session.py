"""The MQTT session of one device: packet ids, the inflight window, the QoS 1 and QoS 2 flows (MQTT 3.1.1 chapter 4.3).

Pure. A session speaks by appending encoded packets to `out`, the list that its connection lends it while it lives and
writes to the network when it likes; `out` is None while the device is away. The session outlives its connections when
it is persistent.

What is under way towards the device, by packet id, in the order of first sending:

    Message     QoS 1, waits for PUBACK
    Exactly     QoS 2, waits for PUBREC
    RELEASED    QoS 2, the device has the message, PUBREL is sent, waits for PUBCOMP
    Reserved    an inbox item sent before the connection broke. Its bytes are dropped, since it stands in the store,
                but its packet id is kept for sending it again [MQTT-4.4.0-1]

The window counts all of them. Plain messages beyond it wait in `queue`, bounded in number and bytes; inbox items wait
in the store.
"""

from __future__ import annotations

from collections import deque

import msgspec

from aldis.broker.core.codec import PUBCOMP, PUBREC, PUBREL, encode_head, encode_topic, encode_whole
from aldis.broker.core.packets import Message, Will
from aldis.broker.core.topics import matches

_MAX_PACKET_ID = 65_535


EPHEMERAL = "\0"
"""First character of the device id of a client that gave none. No client can choose it: U+0000 is refused on the
wire."""


class Exactly(msgspec.Struct, gc=False):
    """A QoS 2 delivery before its PUBREC."""

    message: Message


class Reserved(msgspec.Struct, gc=False):
    """A packet id that belongs to inbox item `n` until it is acknowledged."""

    n: int


class _Released:
    __slots__ = ()


RELEASED = _Released()
Flight = Message | Exactly | Reserved | _Released


class QueueRule(msgspec.Struct, frozen=True):
    """Bounds of `Session.queue` besides the number of messages; the sessions of a node share one."""

    max_bytes: int = 4_194_304
    """Payload bytes in the queue."""
    drop_oldest: bool = False
    """At a bound the oldest messages make room, instead of the new one being dropped."""
    burst: int = 262_144
    """Payload bytes sent from it at once."""


_ANY = QueueRule()


class Session:
    """One (user, device). `clean` sessions end with their connection; the others keep subscriptions and flows.

    `tally` counts, by QoS, what was sent to the device for the first time; the sessions of a node share one."""

    __slots__ = (
        "_oldest",
        "_queued_bytes",
        "clean",
        "device",
        "dropped",
        "incoming",
        "inflight",
        "last_id",
        "max_inflight",
        "max_queued",
        "out",
        "queue",
        "reserved",
        "rule",
        "subscriptions",
        "tally",
        "user",
        "will",
    )

    def __init__(
        self,
        user: str,
        device: str,
        *,
        clean: bool,
        max_inflight: int,
        max_queued: int,
        rule: QueueRule | None = None,
        tally: list[int] | None = None,
    ) -> None:
        self.user = user
        self.device = device
        self.clean = clean
        self.max_inflight = max_inflight
        self.max_queued = max_queued
        self.rule = rule or _ANY
        self.out: list[bytes] | None = None
        self.subscriptions: dict[str, int] = {}
        self.inflight: dict[int, Flight] = {}
        self.queue: deque[tuple[Message, int]] | None = None
        self.incoming: dict[int, object] | None = None
        self.reserved: dict[int, int] | None = None
        self.will: Will | None = None
        self.dropped = 0
        self.tally = [0, 0, 0] if tally is None else tally
        self.last_id = 0  # the packet id given last
        self._queued_bytes = 0
        self._oldest: tuple[int, Flight] | None = None

    # Towards the device

    def deliver(self, message: Message, qos: int) -> bool:
        """Sends a message, or queues it while the window is full or the device is away. False: it was dropped.

        QoS 0 is dropped while the device is away, QoS 1 and 2 when the queue is full.
        """
        out = self.out
        if qos == 0:
            if out is None:
                return False
            out.append(_whole(message))
            self.tally[0] += 1
            return True
        if out is None or len(self.inflight) >= self.max_inflight or self.queue:
            return self.enqueue(message, qos)
        self._send(message, qos, out)
        return True

    def deliver_item(self, message: Message, qos: int) -> None:
        """Sends an inbox item at QoS 1 or 2; under its old packet id and with DUP if it was sent before.

        Only while connected, and only with `room` or for a reserved item: the feed asks first.
        """
        if self.out is None:
            return
        if self.reserved:
            packet_id = self.reserved.pop(message.n, 0)
            if packet_id:
                self.inflight[packet_id] = message if qos == 1 else Exactly(message)
                _write_publish(self.out, message, qos, packet_id, dup=True)
                self.tally[qos] += 1
                return
        self._send(message, qos, self.out)

    @property
    def ephemeral(self) -> bool:
        """The client gave no identifier: live only, unknown to the store."""
        return self.device.startswith(EPHEMERAL)

    def is_reserved(self, n: int) -> bool:
        """Whether inbox item `n` has a packet id from before, so that it needs no more room."""
        return self.reserved is not None and n in self.reserved

    @property
    def room(self) -> int:
        """How many more deliveries fit into the window."""
        return self.max_inflight - len(self.inflight)

    def _send(self, message: Message, qos: int, out: list[bytes]) -> None:
        inflight = self.inflight
        packet_id = self.last_id + 1
        if packet_id > _MAX_PACKET_ID:
            packet_id = 1
        while packet_id in inflight:  # the window is smaller than the id space, so one is free
            packet_id = packet_id + 1 if packet_id < _MAX_PACKET_ID else 1
        self.last_id = packet_id
        self.tally[qos] += 1
        if qos == 1 and not message.retain:
            inflight[packet_id] = message
            head = message.head
            if not head:
                message.head = head = encode_head(message.topic, len(message.payload))
            out += (head, packet_id.to_bytes(2, "big"), message.payload)
            return
        inflight[packet_id] = message if qos == 1 else Exactly(message)
        _write_publish(out, message, qos, packet_id, dup=False)

    def enqueue(self, message: Message, qos: int) -> bool:
        """Keeps a message of QoS 1 or 2 for later: `send_queued`, which every acknowledgement calls. At the bounds the
        new one is dropped (false), or with the rule's `drop_oldest` as many old ones as it needs room."""
        size = len(message.payload)
        if self.queue is None:
            self.queue = deque()
        queue = self.queue
        while len(queue) >= self.max_queued or self._queued_bytes + size > self.rule.max_bytes:
            self.dropped += 1
            if not self.rule.drop_oldest or not queue:
                return False
            self._queued_bytes -= len(queue.popleft()[0].payload)
        queue.append((message, qos))
        self._queued_bytes += size
        return True

    def send_queued(self) -> None:
        """Sends from the queue what the window now takes: one message at least, and not more at once than the rule's
        `burst` bytes. The acknowledgements of these bring the next."""
        queue = self.queue
        if queue is None or self.out is None:
            return
        allowance = self.rule.burst
        while queue and allowance > 0 and len(self.inflight) < self.max_inflight:
            message, qos = queue.popleft()
            size = len(message.payload)
            self._queued_bytes -= size
            allowance -= size
            self._send(message, qos, self.out)
        if not queue:
            self.queue = None

    # The device's acknowledgements

    def acknowledged(self, packet_id: int) -> Message | None:
        """PUBACK. Returns the message that the device now has; None for an id that waits for no PUBACK (ignored: a late
        acknowledgement of an earlier connection is no error)."""
        entry = self.inflight.get(packet_id)
        if type(entry) is not Message:
            return None
        del self.inflight[packet_id]
        if self.queue is not None:
            self.send_queued()
        return entry

    def received(self, packet_id: int) -> Message | None:
        """PUBREC: answers PUBREL. Returns the message the device now has, once."""
        entry = self.inflight.get(packet_id)
        message = None
        if type(entry) is Exactly:
            message = entry.message
            self.inflight[packet_id] = RELEASED
        # For an unknown id, too: else a device that lost our PUBREL with its session would ask for ever [MQTT-4.3.3-1].
        if self.out is not None and not isinstance(entry, Message | Reserved):
            self.out.append(PUBREL + packet_id.to_bytes(2, "big"))
        return message

    def completed(self, packet_id: int) -> None:
        """PUBCOMP: the packet id is free again."""
        if self.inflight.get(packet_id) is RELEASED:
            del self.inflight[packet_id]
            self.send_queued()

    # From the device, QoS 2

    def begin_incoming(self, packet_id: int, pending: object) -> bool:
        """A QoS 2 PUBLISH. False if it repeats one that was not released yet: it must not be passed on again
        [MQTT-4.3.3-2]. `pending` is whatever the caller will `finish_incoming` when the message is safe."""
        if self.incoming is None:
            self.incoming = {}
        if packet_id in self.incoming:
            return False
        self.incoming[packet_id] = pending
        return True

    def knows_incoming(self, packet_id: int) -> bool:
        """Whether a QoS 2 PUBLISH of this id would be a repeat."""
        return self.incoming is not None and packet_id in self.incoming

    def pending_incoming(self, packet_id: int) -> object:
        """What the first PUBLISH of this id still waits for; once it is safe, the `answer` it had, if any."""
        return None if self.incoming is None else self.incoming.get(packet_id)

    def finish_incoming(self, packet_id: int, answer: object = None) -> None:
        """The message is safe: PUBREC may be sent, and again for every repeat until PUBREL, each behind `answer`."""
        if self.incoming is not None and packet_id in self.incoming:
            self.incoming[packet_id] = answer

    def forget_incoming(self, packet_id: int) -> None:
        """The PUBLISH came to nothing (never committed); a repeat of it counts as new."""
        if self.incoming is not None:
            self.incoming.pop(packet_id, None)
            if not self.incoming:
                self.incoming = None

    def release_incoming(self, packet_id: int) -> None:
        """PUBREL: answers PUBCOMP, always [MQTT-4.3.3-2]."""
        self.forget_incoming(packet_id)
        if self.out is not None:
            self.out.append(PUBCOMP + packet_id.to_bytes(2, "big"))

    # Connections come and go

    def resume(self, out: list[bytes]) -> None:
        """A connection is there. Sends again what was under way, with DUP, in its old order [MQTT-4.4.0-1]."""
        self.out = out
        self._oldest = None
        self.send_again()
        self.send_queued()

    def stalled(self) -> bool:
        """True if the oldest delivery is still the one of the last call: the device acknowledged nothing in between.

        Called every `acknowledge` seconds, so a delivery is judged after one to two such periods, and no time needs to
        be kept with any delivery.
        """
        before = self._oldest
        self._oldest = next(((i, e) for i, e in self.inflight.items() if type(e) is not Reserved), None)
        return (
            before is not None
            and self._oldest is not None
            and before[0] == self._oldest[0]
            and before[1] is self._oldest[1]
        )

    def send_again(self, allowance: int | None = None) -> None:
        """Sends what is not acknowledged once more: everything, or from the oldest on until `allowance` bytes are used
        up."""
        if self.out is None:
            return
        left = float("inf") if allowance is None else allowance
        for packet_id, entry in self.inflight.items():
            if left <= 0:
                return
            if type(entry) is Message:
                left -= len(entry.payload)
                _write_publish(self.out, entry, 1, packet_id, dup=True)
            elif type(entry) is Exactly:
                left -= len(entry.message.payload)
                _write_publish(self.out, entry.message, 2, packet_id, dup=True)
            elif entry is RELEASED:
                self.out.append(PUBREL + packet_id.to_bytes(2, "big"))

    def suspend(self) -> None:
        """The connection is gone."""
        self.out = None
        self.reserve_items()

    def reserve_items(self) -> None:
        """The inbox feed has stopped: items under way become reserved packet ids, so that an absent device holds no
        content in memory. They are sent again when the feed comes back to them."""
        reserved = self.reserved or {}
        for packet_id, entry in self.inflight.items():
            message = entry.message if type(entry) is Exactly else entry
            if type(message) is Message and message.n:
                self.inflight[packet_id] = Reserved(message.n)
                reserved[message.n] = packet_id
        self.reserved = reserved or None

    def interest(self, topic: str) -> int:
        """The highest QoS of the subscriptions that match `topic`, -1 if none does."""
        return max((qos for filter, qos in self.subscriptions.items() if matches(filter, topic)), default=-1)

    def forget_items(self, up_to: int | None = None) -> None:
        """Frees the packet ids of items that will not be sent again: those up to `up_to`, or all."""
        if not self.reserved:
            return
        for n in [n for n in self.reserved if up_to is None or n <= up_to]:
            self.inflight.pop(self.reserved.pop(n), None)
        if not self.reserved:
            self.reserved = None
        self.send_queued()  # the window has room now, and perhaps no acknowledgement is to come that would see to it


def _whole(message: Message) -> bytes:
    if message.retain:
        return b"\x31" + encode_whole(encode_topic(message.topic), message.payload)[1:]
    if not message.whole:
        message.whole = encode_whole(encode_topic(message.topic), message.payload)
    return message.whole


def _write_publish(out: list[bytes], message: Message, qos: int, packet_id: int, *, dup: bool) -> None:
    if not message.head:
        message.head = encode_head(message.topic, len(message.payload))
    first = 0x30 | dup << 3 | qos << 1 | message.retain
    out += (bytes((first,)), message.head[1:], packet_id.to_bytes(2, "big"), message.payload)


def encode_pubrec(packet_id: int) -> bytes:
    """PUBREC for a QoS 2 PUBLISH whose message is safe."""
    return PUBREC + packet_id.to_bytes(2, "big")
