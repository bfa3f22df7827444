"""One connection: bytes from the network to the session machine, and what it says back to the network.

An asyncio Protocol without a task. Packets are handled where they arrive, in one loop over what was read; what goes out
is collected and written once per tick of the event loop (`Node.touch`). Only what has to wait for someone else (a
plugin that looks a password up, a store that claims a device) suspends the connection: then its later packets wait, in
order, and nothing more is read from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from aldis.broker.arrival import address_of
from aldis.broker.core.acks import AckQueue, AckSlot
from aldis.broker.core.codec import PINGRESP, Decoder, encode_suback, encode_topic, encode_whole
from aldis.broker.core.packets import Connect, Packet, Pingreq
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from aldis.broker.core.session import Session
from aldis.broker.core.token_bucket import Allowance
from aldis.broker.packet_handlers import HANDLERS, Pending

if TYPE_CHECKING:
    from aldis.broker.cluster_ports import Holding
    from aldis.broker.node import Node

_MAX_RECEIPT_TOPICS = 100
_LONGEST_PEER = 64
_MAX_WAITING_PACKETS = 16


class Transport(Protocol):
    """What a connection needs of its transport; asyncio's own and the WebSocket one have it."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str, /) -> Any: ...


class Places(Protocol):
    """What bounds the number of connections: a listener."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


class Connection(asyncio.Protocol):
    """One TCP or WebSocket life of a client. `session` is None until its CONNECT is accepted."""

    __slots__ = (
        "__weakref__",
        "_decoder",
        "_suspended",
        "_waiting",
        "acks",
        "address",
        "allowance",
        "closed",
        "congested",
        "congested_since",
        "connected_at",
        "counted",
        "detail",
        "device",
        "grant",
        "heard",
        "holding",
        "keep_alive",
        "listener",
        "network",
        "next_check",
        "node",
        "out",
        "plugin_session",
        "reading",
        "receipt_topics",
        "retries",
        "session",
        "throttled",
        "transport",
    )

    def __init__(self, node: Node, listener: Places | None) -> None:
        self.node = node
        self.listener = listener
        self.transport: Transport | None = None
        self.address = ""
        self.network: str | None = None  # as what the door has counted it
        self.session: Session | None = None
        self.device: Any = None  # the inbox side's handle, set while attached
        self.grant: Any = None
        self.holding: Holding | None = None  # as what the user status knows this connection
        self.plugin_session: Any = None
        self.receipt_topics: dict[str, bytes] = {}  # by peer, encoded; empty where not wanted
        self.allowance: Allowance | None = None
        self.throttled = False
        self.counted: str | None = None  # the user whose connections count this one
        self.out: list[bytes] = []
        self.acks = AckQueue()
        self.congested = False
        self.congested_since = 0.0
        self.closed: CloseReason | None = None
        self.detail = ""
        self.heard = node.now
        self.connected_at = node.now
        self.keep_alive = 0.0
        self.next_check = 0.0
        self.retries = 0
        self._decoder = Decoder(node.limits.max_packet_size, node.topics)
        self.reading = True
        self._waiting: list[Packet] = []
        self._suspended: asyncio.Task[None] | None = None

    # From the network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted(cast("asyncio.Transport", transport), address_of(transport))

    def accepted(self, transport: asyncio.Transport, address: str) -> None:
        """See `Newcomer`, also for the next two: where TLS or a balancer is in front, an `Arrival` calls them."""
        transport.set_write_buffer_limits(high=self.node.limits.max_write_buffer)
        self.begin(transport, address)

    def entered(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=self.node.limits.max_write_buffer)
        transport.set_protocol(self)
        self.transport = transport

    def refused(self, transport: asyncio.Transport, address: str, reason: CloseReason, detail: str = "") -> None:
        self.transport, self.address = transport, address
        self.end(reason, detail)

    def begin(self, transport: Transport, address: str) -> None:
        """The transport is open; a CONNECT must come before the time-out [MQTT-3.1.0-1]."""
        self.transport = transport
        self.address = address
        refusal = self.node.door.enter(self, self.node.now)
        if refusal is not None:
            self.end(refusal)
            return
        self.node.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.closed is not None:
            return
        self.heard = self.node.now
        packets = self._decoder.feed(data)
        figures = self.node.figures
        figures.bytes_received += len(data)
        figures.packets_received += len(packets)
        if self.node.packets_received is not None:
            self.node.packets_received(self, data, len(packets))
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
        """The client reads slower than we write: produce nothing more for it, and take nothing from it either, since
        each answer would add to the pile."""
        self.congested = True
        self.congested_since = self.node.now
        self._set_reading()

    def resume_writing(self) -> None:
        self.congested = False
        self._set_reading()
        self.node.drained(self)

    # The packets, in order

    def _handle(self, packets: list[Packet]) -> None:
        for index, packet in enumerate(packets):
            try:
                session = self.session
                pending = HANDLERS[type(packet)](self, session, packet) if session is not None else self._first(packet)
            except ProtocolViolation as violation:
                self.end(violation.reason, violation.detail)
                return
            except Exception as error:  # noqa: BLE001 - one client's trouble must stay its own
                self.node.failed(self, error)
                return
            if self.closed is not None:
                return
            if pending is not None:
                self._suspend(pending, packets[index + 1 :])
                return
        if self._decoder.failure is not None:
            self.end(self._decoder.failure.reason, self._decoder.failure.detail)

    def _first(self, packet: Packet) -> Pending:
        """Whatever comes before a session is there must be CONNECT [MQTT-3.1.0-1]."""
        if not isinstance(packet, Connect):
            raise ProtocolViolation(CloseReason.OUT_OF_STATE, f"{type(packet).__name__} before CONNECT")
        return self.node.sessions.connect(self, packet)

    def _suspend(self, pending: Pending, rest: list[Packet]) -> None:
        self._waiting = rest
        self._suspended = asyncio.get_running_loop().create_task(self._finish(pending))
        # if the connection ends in this very tick, the task never begins, and nobody else would close this
        self._suspended.add_done_callback(lambda _: pending.close())
        self._set_reading()

    def _wait(self, packets: list[Packet]) -> None:
        """More packets while suspended. A ping is answered all the same: the client asks whether we live, not whether
        we have finished."""
        if self.session is not None and packets and not self._waiting and all(type(p) is Pingreq for p in packets):
            self.send(PINGRESP)
        else:
            self._waiting += packets
            self._set_reading()

    async def _finish(self, pending: Pending) -> None:
        try:
            await pending
        except ProtocolViolation as violation:
            self.end(violation.reason, violation.detail)
        except Exception as error:  # noqa: BLE001 - as above
            self.node.failed(self, error)
        self._suspended = None
        if self.closed is not None:
            return
        packets, self._waiting = self._waiting, []
        self._handle(packets)
        self._set_reading()
        if self.out:
            self.node.touch(self)

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
            if len(peer) <= _LONGEST_PEER:  # no user id is longer: a topic may be, and is refused
                if len(self.receipt_topics) >= _MAX_RECEIPT_TOPICS:
                    self.receipt_topics.clear()
                self.receipt_topics[peer] = topic
        if topic:
            self.node.figures.receipts += 1
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
        if not self.reading:
            self._set_reading()

    def flush(self) -> None:
        """Writes everything collected in this tick at once."""
        if self.out and self.transport is not None:
            data = b"".join(self.out)
            self.out.clear()
            self.node.figures.bytes_sent += len(data)
            self.transport.write(data)
            if self.node.packets_sent is not None:
                self.node.packets_sent(self, data)

    def limit_unacknowledged(self) -> None:
        """Too many PUBLISHes wait for their acknowledgement: nothing more is read until some have it."""
        if len(self.acks) >= self.node.limits.max_unacknowledged or self.node.burden.full:
            self._set_reading()

    def throttle(self, throttled: bool) -> None:
        """The user has published too much, or may publish again."""
        self.throttled = throttled
        self._set_reading()

    def relieved(self) -> None:
        """The node has room for more unacknowledged publishes."""
        if not self.reading:
            self._set_reading()

    def _set_reading(self) -> None:
        """Reads only while we can do something with it: this is how every bound reaches the client, through TCP."""
        node = self.node
        under_way = len(self.acks)
        reading = not self.congested and not self.throttled and under_way < node.limits.max_unacknowledged
        if node.burden.full and under_way:
            reading = False
        if self._suspended is not None:
            # for the pings of a client whose SUBSCRIBE waits for the store; nothing more before CONNECT is accepted
            reading = reading and self.session is not None and len(self._waiting) < _MAX_WAITING_PACKETS
        if reading != self.reading and self.transport is not None and self.closed is None:
            self.reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # Time and the end

    def on_deadline(self, now: float) -> float | None:
        """Keep alive, unacknowledged deliveries: whatever is due. See `DeadlineWheel`."""
        try:
            return self.node.check(self, now)
        except Exception as error:  # noqa: BLE001 - as above
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
