"""MQTT 3.1.1 for tests: an encoder and a blocking client that show exact bytes and hide nothing.

Its own code on purpose: what shares a codec with the server cannot find the codec's faults.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket_connect
from websockets.typing import Subprotocol

Address = tuple[str, int]

PATIENCE = 10.0
"""Seconds after which what should have come is missing. Long: it is spent only where something is wrong."""

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"
ACCEPTED = b"\x20\x02\x00\x00"
RESUMED = b"\x20\x02\x01\x00"


def refused(code: int) -> bytes:
    """CONNACK with a return code other than 0."""
    return bytes((0x20, 2, 0, code))


# Packets


def length(value: int) -> bytes:
    wire = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        wire.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(wire)


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + length(len(body)) + body


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


class Will(NamedTuple):
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


def connect(
    client_id: str,
    *,
    user: str | None = None,
    password: str | None = None,
    clean: bool = True,
    keep_alive: int = 0,
    will: Will | None = None,
    protocol: tuple[str, int] = ("MQTT", 4),
) -> bytes:
    flags = 2 if clean else 0
    payload = text(client_id)
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        payload += text(will.topic) + text(will.payload)
    if user is not None:
        flags |= 0x80
        payload += text(user)
    if password is not None:
        flags |= 0x40
        payload += text(password)
    return packet(0x10, text(protocol[0]) + bytes((protocol[1], flags)) + struct.pack("!H", keep_alive) + payload)


def publish(
    topic: str, payload: bytes = b"", *, qos: int = 0, id: int = 0, retain: bool = False, dup: bool = False
) -> bytes:
    packet_id = struct.pack("!H", id) if qos else b""
    return packet(0x30 | dup << 3 | qos << 1 | retain, text(topic) + packet_id + payload)


def _with_id(first: int) -> Callable[[int], bytes]:
    return lambda id: packet(first, struct.pack("!H", id))


puback = _with_id(0x40)
pubrec = _with_id(0x50)
pubrel = _with_id(0x62)
pubcomp = _with_id(0x70)
unsuback = _with_id(0xB0)


def subscribe(id: int, *filters: tuple[str, int]) -> bytes:
    return packet(0x82, struct.pack("!H", id) + b"".join(text(filter) + bytes((qos,)) for filter, qos in filters))


def suback(id: int, *codes: int) -> bytes:
    return packet(0x90, struct.pack("!H", id) + bytes(codes))


def unsubscribe(id: int, *filters: str) -> bytes:
    return packet(0xA2, struct.pack("!H", id) + b"".join(map(text, filters)))


class Published(NamedTuple):
    """A PUBLISH as the server sent it."""

    topic: str
    payload: bytes
    qos: int = 0
    id: int = 0
    retain: bool = False
    dup: bool = False

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


def is_publish(wire: bytes) -> bool:
    return wire[0] >> 4 == 3


def published(wire: bytes) -> Published:
    """Reads a PUBLISH; anything else fails the test."""
    assert is_publish(wire), f"a PUBLISH was due, not {wire[:40]!r}"
    position = 1
    while wire[position] & 0x80:
        position += 1
    position += 1
    qos = wire[0] >> 1 & 3
    end = position + 2 + int.from_bytes(wire[position : position + 2], "big")
    topic = wire[position + 2 : end].decode()
    id = 0
    if qos:
        id = int.from_bytes(wire[end : end + 2], "big")
        end += 2
    return Published(topic, wire[end:], qos, id, bool(wire[0] & 1), bool(wire[0] & 8))


# Byte streams


class Stream(Protocol):
    """`receive` returns b"" at the end of the stream and raises `TimeoutError`."""

    def send(self, data: bytes) -> None: ...
    def receive(self, timeout: float) -> bytes: ...
    def close(self) -> None: ...


class TcpStream:
    def __init__(self, address: Address, receive_buffer: int | None = None, source: str | None = None) -> None:
        self.socket = socket.socket()
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = int(self.socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(data)

    def receive(self, timeout: float) -> bytes:
        self.socket.settimeout(max(timeout, 0.001))
        try:
            return self.socket.recv(65_536)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """RST instead of FIN, and nothing more is read."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class WebSocketStream:
    def __init__(self, address: Address) -> None:
        url = f"ws://{address[0]}:{address[1]}/mqtt"
        self.websocket = websocket_connect(url, subprotocols=[Subprotocol("mqtt")], max_size=None, compression=None)
        assert self.websocket.subprotocol == "mqtt"

    def send(self, data: bytes) -> None:
        self.websocket.send(data)

    def receive(self, timeout: float) -> bytes:
        try:
            data = self.websocket.recv(timeout=max(timeout, 0.001))
        except ConnectionClosed:
            return b""
        assert isinstance(data, bytes), "MQTT came in a text frame"
        return data

    def close(self) -> None:
        self.websocket.close()


# The client


class Closed(AssertionError):
    """The server has closed the connection while something was awaited."""


class Client:
    """One connection. It does nothing by itself: no ping, no acknowledgement, no reconnect."""

    def __init__(self, stream: Stream | Address) -> None:
        self.stream: Stream = TcpStream(stream) if isinstance(stream, tuple) else stream
        self.ended = False
        self._rest = bytearray()
        self._aside: deque[bytes] = deque()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection without DISCONNECT."""
        with suppress(OSError):
            self.stream.close()

    def send(self, *packets: bytes) -> None:
        """All of it in one write; a server that has closed meanwhile is noticed when reading."""
        with suppress(ConnectionError, ConnectionClosed):
            self.stream.send(b"".join(packets))

    def disconnect(self) -> None:
        """DISCONNECT, and waits for the server to close."""
        self.send(DISCONNECT)
        self.closed()
        self.close()

    def packet(self, timeout: float = PATIENCE) -> bytes:
        """The next whole packet. Raises `TimeoutError`, or `Closed`."""
        if self._aside:
            return self._aside.popleft()
        deadline = time.monotonic() + timeout
        while True:
            size = self._complete()
            if size:
                wire = bytes(self._rest[:size])
                del self._rest[:size]
                return wire
            if self.ended:
                raise Closed(f"the server has closed the connection; unread: {bytes(self._rest[:40])!r}")
            data = self.stream.receive(deadline - time.monotonic())
            self.ended = not data
            self._rest += data

    def _complete(self) -> int:
        size, shift = 0, 0
        for index in range(1, min(5, len(self._rest))):
            size |= (self._rest[index] & 0x7F) << shift
            if not self._rest[index] & 0x80:
                return index + 1 + size if len(self._rest) >= index + 1 + size else 0
            shift += 7
        return 0

    def expect(self, *packets: bytes, timeout: float = PATIENCE) -> None:
        """The next packets are exactly these."""
        for wanted in packets:
            found = self.packet(timeout)
            assert found == wanted, f"{found[:60].hex(' ')} instead of {wanted[:60].hex(' ')}"

    def publication(self, timeout: float = PATIENCE) -> Published:
        """The next packet, which must be a PUBLISH; it is not acknowledged."""
        return published(self.packet(timeout))

    def take(self, timeout: float = PATIENCE) -> Published:
        """The next PUBLISH, acknowledged to the end of its flow."""
        found = self.publication(timeout)
        if found.qos == 1:
            self.send(puback(found.id))
        elif found.qos == 2:
            self.send(pubrec(found.id))
            before = []
            while (wire := self.packet(timeout)) != pubrel(found.id):
                before.append(wire)
            self._aside.extendleft(reversed(before))
            self.send(pubcomp(found.id))
        return found

    def settled(self) -> list[bytes]:
        """Everything that the server had to say before it answers a ping: no sleeping to see that nothing comes."""
        self.send(PINGREQ)
        found = []
        while (wire := self.packet()) != PINGRESP:
            found.append(wire)
        return found

    def nothing(self) -> None:
        """The server has nothing for us, and is alive."""
        found = self.settled()
        assert not found, [wire[:60] for wire in found]

    def closed(self, timeout: float = PATIENCE) -> list[bytes]:
        """Waits until the server closes; returns what it said before."""
        found = []
        try:
            while True:
                found.append(self.packet(timeout))
        except Closed:
            return found

    # Whole exchanges

    def connected(self, client_id: str, answer: bytes = ACCEPTED, **options: Any) -> Client:
        """CONNECT and exactly this CONNACK."""
        self.send(connect(client_id, **options))
        self.expect(answer)
        return self

    def subscribed(self, *filters: tuple[str, int], id: int = 1) -> Client:
        """SUBSCRIBE, granted as asked."""
        self.send(subscribe(id, *filters))
        self.expect(suback(id, *(qos for _, qos in filters)))
        return self

    def published(self, topic: str, payload: bytes = b"", *, qos: int = 1, id: int = 1, retain: bool = False) -> None:
        """PUBLISH, acknowledged to the end of its flow."""
        self.send(publish(topic, payload, qos=qos, id=id, retain=retain))
        if qos == 1:
            self.expect(puback(id))
        elif qos == 2:
            self.expect(pubrec(id))
            self.send(pubrel(id))
            self.expect(pubcomp(id))
        else:
            self.nothing()
