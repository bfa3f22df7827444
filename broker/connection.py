"""One connection: bytes from the network to the session machine, and what it says back to the network.

An asyncio Protocol without a task. Packets are handled where they arrive, in one loop over what was read; what goes out
is collected and written once per tick of the event loop (`Node.touch`). Only what has to wait for someone else (a plugin
that looks a password up, a store that claims a device) suspends the connection: then its later packets wait, in order,
and nothing more is read from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from aldis.broker.core.acks import AckQueue, AckSlot
from aldis.broker.core.codec import (
    PINGRESP,
    PUBACK,
    Decoder,
    encode_suback,
    encode_topic,
    encode_unsuback,
    encode_whole,
)
from aldis.broker.core.packets import (
    Connect,
    Disconnect,
    Message,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from aldis.broker.core.session import Session, encode_pubrec
from aldis.broker.pipeline import Publication
from aldis.broker.subscribing import subscribe, unsubscribe

if TYPE_CHECKING:
    from aldis.broker.node import Node

_Pending = Coroutine[Any, Any, None]


_MAX_RECEIPT_TOPICS = 100


class Transport(Protocol):
    """What a connection needs of its transport; asyncio's own and the WebSocket one have it."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Places(Protocol):
    """What bounds the number of connections: a listener."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


class Connection(asyncio.Protocol):
    """One TCP or WebSocket life of a client. `session` is None until its CONNECT is accepted."""

    __slots__ = (
        "__weakref__",
        "_decoder",
        "_reading",
        "_suspended",
        "_waiting",
        "acks",
        "address",
        "closed",
        "congested",
        "connected_at",
        "counted",
        "detail",
        "device",
        "grant",
        "heard",
        "keep_alive",
        "listener",
        "next_check",
        "node",
        "out",
        "plugin_session",
        "receipt_topics",
        "retries",
        "session",
        "transport",
    )

    def __init__(self, node: Node, listener: Places | None) -> None:
        self.node = node
        self.listener = listener
        self.transport: Transport | None = None
        self.address = ""
        self.session: Session | None = None
        self.device: Any = None  # the inbox side's handle, set while attached
        self.grant: Any = None
        self.plugin_session: Any = None
        self.receipt_topics: dict[str, bytes] = {}  # by peer, encoded; empty where not wanted
        self.counted: str | None = None  # the user whose connections count this one
        self.out: list[bytes] = []
        self.acks = AckQueue()
        self.congested = False
        self.closed: CloseReason | None = None
        self.detail = ""
        self.heard = node.now
        self.connected_at = node.now
        self.keep_alive = 0.0
        self.next_check = 0.0
        self.retries = 0
        self._decoder = Decoder(node.limits.max_packet_size, node.topics)
        self._reading = True
        self._waiting: list[Packet] = []
        self._suspended: asyncio.Task[None] | None = None

    # From the network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.begin(transport, f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "local"))  # type: ignore[arg-type]

    def begin(self, transport: Transport, address: str) -> None:
        """The transport is open; a CONNECT must come before the time-out [MQTT-3.1.0-1]."""
        self.transport = transport
        self.address = address
        if self.listener is not None and not self.listener.acquire():
            self.listener = None
            self.end(CloseReason.TOO_MANY_CONNECTIONS)
            return
        self.node.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.closed is not None:
            return
        self.heard = self.node.now
        packets = self._decoder.feed(data)
        if self.node.packets_received is not None:
            self.node.packets_received(self, data)
        if self._suspended is not None:
            self._wait(packets)
            return
        self._handle(packets)
        if self.out:
            self.node.touch(self)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(CloseReason.CLIENT_VANISHED, str(exc) if exc else "")

    def pause_writing(self) -> None:
        """The client reads slower than we write: produce nothing more for it, and take nothing from it either, since each
        answer would add to the pile."""
        self.congested = True
        self._set_reading()

    def resume_writing(self) -> None:
        self.congested = False
        self._set_reading()
        self.node.drained(self)

    # The packets, in order

    def _handle(self, packets: list[Packet]) -> None:
        for index, packet in enumerate(packets):
            try:
                pending = _HANDLERS[type(packet)](self, packet)
            except ProtocolViolation as violation:
                self.end(violation.reason, violation.detail)
                return
            except Exception as error:
                self.node.failed(self, error)
                return
            if self.closed is not None:
                return
            if pending is not None:
                self._suspend(pending, packets[index + 1 :])
                return
        if self._decoder.failure is not None:
            self.end(self._decoder.failure.reason, self._decoder.failure.detail)

    def _suspend(self, pending: _Pending, rest: list[Packet]) -> None:
        self._waiting = rest
        self._suspended = asyncio.get_running_loop().create_task(self._finish(pending))
        self._set_reading()

    def _wait(self, packets: list[Packet]) -> None:
        """More packets while suspended. A ping is answered all the same: the client asks whether we live, not whether we
        have finished."""
        if self.session is not None and packets and not self._waiting and all(type(p) is Pingreq for p in packets):
            self.send(PINGRESP)
        else:
            self._waiting += packets

    async def _finish(self, pending: _Pending) -> None:
        try:
            await pending
        except ProtocolViolation as violation:
            self.end(violation.reason, violation.detail)
        except Exception as error:
            self.node.failed(self, error)
        self._suspended = None
        if self.closed is not None:
            return
        packets, self._waiting = self._waiting, []
        self._handle(packets)
        self._set_reading()
        if self.out:
            self.node.touch(self)

    def _on_connect(self, packet: Connect) -> _Pending | None:
        if self.session is not None:
            raise ProtocolViolation(CloseReason.OUT_OF_STATE, "a second CONNECT")  # [MQTT-3.1.0-2]
        return self.node.sessions.connect(self, packet)

    def _on_publish(self, packet: Message) -> _Pending | None:
        session = self.session
        if session is None:
            raise _before_connect("PUBLISH")
        node = self.node
        if packet.qos == 2:
            return self._on_publish_exactly(session, packet)
        if node.publish_gate is not None:
            return node.publish_gate(self._publication(session, packet))
        if node.stages:
            self._publication(session, packet).proceed()
            if len(self.acks) >= node.limits.max_unacknowledged:
                self._set_reading()
        else:
            node.router.publish(packet)
            if packet.qos:
                self.acks.at_once(PUBACK + packet.packet_id.to_bytes(2, "big"), self.out)
        return None

    def _on_publish_exactly(self, session: Session, packet: Message) -> _Pending | None:
        publication = self._publication(session, packet)
        if session.begin_incoming(packet.packet_id, publication):
            if self.node.publish_gate is not None:
                return self.node.publish_gate(publication)
            publication.proceed()
            return None
        earlier = session.pending_incoming(packet.packet_id)
        if isinstance(earlier, Publication):
            earlier.share(publication)  # its first PUBLISH came on a connection that is gone
        else:
            self.acks.settle(publication, self.out)
        return None

    def _publication(self, session: Session, packet: Message) -> Publication:
        if packet.qos == 1:
            wire = PUBACK + packet.packet_id.to_bytes(2, "big")
        else:
            wire = encode_pubrec(packet.packet_id) if packet.qos else b""
        publication = Publication(self, session, packet, wire)
        self.acks.join(publication)
        return publication

    def _on_puback(self, packet: Puback) -> None:
        if self.session is None:
            raise _before_connect("PUBACK")
        message = self.session.acknowledged(packet.packet_id)
        if self.device is not None and message is not None:
            if message.n:
                self.node.item_acknowledged(self, message)
            else:
                self.node.drained(self)

    def _on_pubrec(self, packet: Pubrec) -> None:
        if self.session is None:
            raise _before_connect("PUBREC")
        message = self.session.received(packet.packet_id)
        if self.device is not None and message is not None and message.n:
            self.node.item_acknowledged(self, message)

    def _on_pubrel(self, packet: Pubrel) -> None:
        if self.session is None:
            raise _before_connect("PUBREL")
        self.session.release_incoming(packet.packet_id)

    def _on_pubcomp(self, packet: Pubcomp) -> None:
        if self.session is None:
            raise _before_connect("PUBCOMP")
        self.session.completed(packet.packet_id)
        if self.device is not None:
            self.node.drained(self)

    def _on_subscribe(self, packet: Subscribe) -> _Pending | None:
        if self.session is None:
            raise _before_connect("SUBSCRIBE")
        return subscribe(self.node, self, self.session, packet)

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        if self.session is None:
            raise _before_connect("UNSUBSCRIBE")
        unsubscribe(self.node, self, self.session, packet)
        self.out.append(encode_unsuback(packet.packet_id))

    def _on_pingreq(self, _: Pingreq) -> None:
        if self.session is None:
            raise _before_connect("PINGREQ")
        self.out.append(PINGRESP)

    def _on_disconnect(self, _: Disconnect) -> None:
        if self.session is None:
            raise _before_connect("DISCONNECT")
        self.session.will = None  # [MQTT-3.1.2-10]
        self.end(CloseReason.CLIENT_DISCONNECTED)

    # To the network

    def send(self, wire: bytes) -> None:
        """Queues bytes for the end of this tick. After the end of the connection it does nothing."""
        if self.closed is None:
            self.out.append(wire)
            self.node.touch(self)

    def receipt(self, peer: str, payload: bytes) -> None:
        """Sends a receipt about what went to `peer`, if the client has subscribed to such; at QoS 0 (ADR-0001)."""
        session = self.session
        if self.closed is not None or session is None:
            return
        topic = self.receipt_topics.get(peer)
        if topic is None:
            name = f"inbox/{session.user}/receipt/{peer}"
            topic = encode_topic(name) if session.interest(name) >= 0 else b""
            if len(self.receipt_topics) >= _MAX_RECEIPT_TOPICS:
                self.receipt_topics.clear()
            self.receipt_topics[peer] = topic
        if topic:
            self.out.append(encode_whole(topic, payload))
            self.node.touch(self)

    def suback(self, packet_id: int, codes: list[int]) -> None:
        self.send(encode_suback(packet_id, codes))

    def settle(self, slot: AckSlot) -> None:
        """The PUBLISH of this slot may be acknowledged in its turn; reading goes on if that made room."""
        if self.closed is not None:
            return
        self.acks.settle(slot, self.out)
        if self.out:
            self.node.touch(self)
        if not self._reading:
            self._set_reading()

    def flush(self) -> None:
        """Writes everything collected in this tick at once."""
        if self.out and self.transport is not None:
            data = b"".join(self.out)
            self.out.clear()
            self.transport.write(data)
            if self.node.packets_sent is not None:
                self.node.packets_sent(self, data)

    def _set_reading(self) -> None:
        """Reads only while we can do something with it: this is how every bound reaches the client, through TCP."""
        reading = (
            not self.congested and self._suspended is None and len(self.acks) < self.node.limits.max_unacknowledged
        )
        if reading != self._reading and self.transport is not None and self.closed is None:
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # Time and the end

    def on_deadline(self, now: float) -> float | None:
        """Keep alive, unacknowledged deliveries: whatever is due. See `DeadlineWheel`."""
        try:
            return self.node.check(self, now)
        except Exception as error:
            self.node.failed(self, error)
            return None

    def end(self, reason: CloseReason, detail: str = "") -> None:
        """Ends the connection, once; whatever comes later for it is ignored. What is queued is still written, except to
        a client that is gone or does not read."""
        if self.closed is not None:
            return
        transport = self.transport
        if transport is not None and reason is not CloseReason.CLIENT_VANISHED:
            self.flush()
        self.closed = reason
        self.detail = detail
        if self._suspended is not None and self._suspended is not asyncio.current_task():
            self._suspended.cancel()
        self._waiting = []
        try:
            self.node.ended(self)
        finally:
            if transport is not None:
                if self.congested or reason is CloseReason.ACKNOWLEDGE_TIMEOUT:
                    transport.abort()
                else:
                    transport.close()


def _before_connect(packet: str) -> ProtocolViolation:
    return ProtocolViolation(CloseReason.OUT_OF_STATE, f"{packet} before CONNECT")


_HANDLERS: dict[type, Any] = {
    Message: Connection._on_publish,
    Puback: Connection._on_puback,
    Pubrec: Connection._on_pubrec,
    Pubrel: Connection._on_pubrel,
    Pubcomp: Connection._on_pubcomp,
    Subscribe: Connection._on_subscribe,
    Unsubscribe: Connection._on_unsubscribe,
    Pingreq: Connection._on_pingreq,
    Disconnect: Connection._on_disconnect,
    Connect: Connection._on_connect,
}
