"""A real node with fake transports: what a client can make it do, without a socket between.

The node lives as long as the process; every input begins with no connection and no session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aldis.broker.connection import Connection
from aldis.broker.core.packets import Connect, Message
from aldis.broker.core.reasons import ConnectReturn
from aldis.broker.core.session import Session
from aldis.broker.core.topics import check_topic_name
from aldis.broker.listener import Listener
from aldis.broker.node import Node
from aldis.broker.router import Subscriber
from aldis.broker.websocket import WebSocketServerProtocol
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.hostile import recipes
from tests.hostile.recipes import Choices

LIMITS = Limits(
    max_packet_size=4_000,
    max_inflight=3,
    max_queued=4,
    max_topic_levels=8,
    max_subscriptions=5,
    max_retained=3,
    # what depends on the clock would make a find hard to repeat
    connections_per_second=0,
    connections_per_second_per_address=0,
    failed_connects_per_minute_per_address=0,
    failed_connects_per_minute_per_user=0,
    publishes_per_second=0,
    publish_bytes_per_second=0,
)


class Rules:
    """Decides like a plugin: the user `a` is refused, some topics are, and some answers take a while."""

    async def admit(self, connection: Connection, packet: Connect, client_id: str) -> ConnectReturn:
        await asyncio.sleep(0)
        connection.counted = packet.username or ""
        return ConnectReturn.NOT_AUTHORISED if packet.username == "a" else ConnectReturn.ACCEPTED

    def user_of(self, connection: Connection) -> str:
        return connection.counted or ""

    def will_allowed(self, user: str, topic: str) -> bool:
        return not topic.startswith("$")

    async def subscription(self, connection: Connection, filter: str) -> bool:
        if filter == "a/b":
            await asyncio.sleep(0)
        return not filter.startswith("$")

    async def may_receive(self, subscriber: Subscriber, topic: str) -> bool:
        return True

    def connected(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def subscribed(self, connection: Connection, filter: str, qos: int) -> None: ...
    def unsubscribed(self, connection: Connection, filter: str) -> None: ...


class Wire:
    """A transport that keeps what was written. As asyncio's, it ignores what is written after the close."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.open = True
        self.reading = True

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.open:
            self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        for data in pieces:
            self.write(data)

    def close(self) -> None:
        self.open = False

    abort = close

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None) -> None: ...

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None


class StrictNode(Node):
    """Whatever a real node would log as a defect, fails."""

    defect: BaseException | None = None

    def failed(self, connection: Connection, error: Exception) -> None:
        self.defect = self.defect or error
        super().failed(connection, error)


class Ground:
    """The node, and its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._raised)
        self.node = StrictNode(LIMITS, Timeouts(), self.loop)
        self.node.decisions = Rules()
        self.listener = Listener("fuzz", 5)
        self.ears: Wire

    def _raised(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.node.defect = self.node.defect or context.get("exception") or RuntimeError(context["message"])

    async def clear(self) -> None:
        node = self.node
        node.defect = None
        for connection in list(node.connections):
            connection.connection_lost(None)
        await self.settle()
        for key in list(node.sessions.subscribers):
            node.sessions.forget(*key)
        node.now += 30.0  # every deadline passes, or the wheel would keep all connections there ever were
        node._wheel.turn(node.now)
        for topic, _ in list(node.router.retained.match("#")) + list(node.router.retained.match("$SYS/#")):
            node.router.retained.pop(topic)
        assert not node.connections and not node.sessions.subscribers and self.listener.count == 0
        assert not node.router.subscriptions.match("a/b")

    async def settle(self) -> None:
        """Lets everything happen that is due."""
        for _ in range(6):
            await asyncio.sleep(0)
        if self.node.defect is not None:
            raise self.node.defect

    def connection(self) -> tuple[Connection, Wire]:
        made, transport = Connection(self.node, self.listener), Wire()
        made.connection_made(transport)  # type: ignore[arg-type]
        return made, transport


_ground: Ground | None = None


def play(scene: Callable[[Ground, Choices], Coroutine[Any, Any, None]], data: bytes) -> None:
    """Runs a scene with these choices; raises what went wrong in it, or in what it left behind."""
    global _ground  # noqa: PLW0603 - making an event loop for each input would be most of the work
    if _ground is None:
        _ground = Ground()
    _ground.loop.run_until_complete(_play(_ground, scene(_ground, Choices(data))))


async def _play(ground: Ground, scene: Coroutine[Any, Any, None]) -> None:
    try:
        await scene
    finally:
        await ground.clear()


# Invariants


def check_output(written: bytes, *, first: bool = True) -> int:
    """Every byte belongs to a packet that a server may send; one CONNACK, and it is the first. Returns their number."""
    count = 0
    while written:
        size, at, shift = 0, 1, 0
        while True:
            size |= (written[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not written[at - 1] & 0x80:
                break
        assert wire.length(size) == written[1:at], "a length longer than it need be"
        assert len(written) >= at + size, "a packet is cut off"
        _check_packet(written[0], written[at : at + size], connack=first and count == 0)
        written = written[at + size :]
        count += 1
    return count


def _check_packet(first: int, body: bytes, *, connack: bool) -> None:
    if connack:
        assert first == 0x20, "something stands before CONNACK"
        assert len(body) == 2 and body[0] <= (body[1] == 0) and body[1] <= 5
    elif first in (0x40, 0x50, 0x62, 0x70, 0xB0):
        assert len(body) == 2 and body != b"\0\0"
    elif first == 0x90:
        assert len(body) > 2 and body[:2] != b"\0\0" and set(body[2:]) <= {0, 1, 2, 0x80}
    elif first == 0xD0:
        assert not body
    else:
        assert first >> 4 == 3, f"no server says 0x{first:02x}"
        found = wire.published(bytes((first,)) + wire.length(len(body)) + body)
        check_topic_name(found.topic, LIMITS.max_topic_levels)
        assert found.qos <= 2 and (found.id > 0) == (found.qos > 0) and (found.qos or not found.dup)


def check_session(session: Session, *, congested: bool = False) -> None:
    assert len(session.inflight) <= session.max_inflight
    assert all(0 < id <= 65_535 for id in session.inflight)
    assert len(session.queue or ()) <= session.max_queued
    assert len(session.subscriptions) <= LIMITS.max_subscriptions
    # else nothing would ever come to send it: an acknowledgement, a resume, the end of a congestion
    assert not session.queue or session.out is None or congested or session.inflight, "a queue waits for nothing"
    reserved = list((session.reserved or {}).values())
    assert len(set(reserved)) == len(reserved) and set(reserved) <= set(session.inflight)


def _check(found: Ground) -> None:
    node = found.node
    for subscriber in node.sessions.subscribers.values():
        connection = subscriber.connection
        check_session(subscriber.session, congested=connection is not None and connection.congested)
    for connection in node.connections:
        assert len(connection.acks) <= node.limits.max_unacknowledged
        assert connection._decoder.buffered <= node.limits.max_packet_size
    assert len(node.router.retained) <= node.limits.max_retained


# Targets


def connection(data: bytes) -> None:
    """A client that sends anything, breaks off, comes back, reads slowly, while others publish to it: no exception
    escapes, what it is told is MQTT, and its session stays within its bounds."""
    play(_connection, data)


async def _connection(at: Ground, choices: Choices) -> None:
    listener, heard = at.connection()
    listener.data_received(wire.connect("ears", user="ears") + wire.subscribe(1, ("#", 2)))
    mouth, _ = at.connection()
    mouth.data_received(wire.connect("mouth", user="mouth"))
    client, told = at.connection()
    wires = [told]
    if choices.below(8):
        client.data_received(recipes.connect(Choices(bytes((1 + choices.below(2) * 2,)))))
    for _ in range(40):
        if not choices.left:
            break
        match choices.below(12):
            case 0:
                client.connection_lost(None)
            case 1 if client.closed is None and not client.congested:
                client.pause_writing()
            case 2 if client.closed is None and client.congested:
                client.resume_writing()
            case 3 | 4 | 5:
                message = Message("a/b", bytes(choices.below(9)), choices.below(3), retain=choices.below(4) == 3)
                mouth.node.router.publish(message)
            case 6:
                client.node.check(client, client.node.now + choices.below(2) * 1_000)
            case _:
                packet = recipes.spoil(choices, recipes.PACKETS[choices.below(8)](choices))
                cut = choices.below(4) * 3
                client.data_received(packet[:cut])
                client.data_received(packet[cut:])
        if choices.below(3) == 0:
            await at.settle()
            _check(at)
        if client.closed is not None:
            await at.settle()
            client, told = at.connection()
            wires.append(told)
            client.data_received(recipes.connect(Choices(bytes((1 + choices.below(2) * 2,)))))
    await at.settle()
    _check(at)
    for one in wires:
        check_output(bytes(one.written))
    assert listener.closed is None and heard.open, "a bystander was disconnected"
    listener.data_received(wire.PINGREQ)
    await at.settle()
    assert heard.written.endswith(wire.PINGRESP)
    check_output(bytes(heard.written))


def websocket(data: bytes) -> None:
    """The same behind WebSocket frames, whole ones and broken ones."""
    play(_websocket, data)


async def _websocket(at: Ground, choices: Choices) -> None:
    protocol, transport = WebSocketServerProtocol(at.node, at.listener), Wire()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    raw = choices.below(4)
    step = [2_000, 1, 7, 100][choices.below(4)]
    stream = b"" if raw == 3 else recipes.handshake([b"mqtt", b"mqtt", b"chat", b"mqtt, x"][choices.below(4)])
    stream += choices.rest() if raw == 2 else b"".join(recipes.frames(choices))
    for start in range(0, len(stream), step):
        if not transport.open:
            break  # as asyncio: nothing is read from what is closed
        protocol.data_received(stream[start : start + step])
        if start % 5 == 0:
            await at.settle()
            _check(at)
    await at.settle()
    _check(at)
    if transport.open:
        protocol.eof_received()
    protocol.connection_lost(None)
    await at.settle()
    answer, _, told = bytes(transport.written).partition(b"\r\n\r\n")
    if answer:
        assert re_status(answer) in (101, 400, 403, 405, 426, 431, 505, 500)
    if answer.startswith(b"HTTP/1.1 101"):
        check_output(_unframed(told))


def re_status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def _unframed(told: bytes) -> bytes:
    """The MQTT in a server's frames: final, unmasked, binary; beside them only PONG and CLOSE."""
    mqtt = b""
    while told:
        size, at = told[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(told[2:at], "big")
        assert told[0] in (0x82, 0x88, 0x8A), f"a frame 0x{told[0]:02x}"
        if told[0] == 0x82:
            mqtt += told[at : at + size]
        assert len(told) >= at + size
        told = told[at + size :]
    return mqtt
