"""As much of an MQTT 3.1.1 client as a load generator needs, written so that it is not what is being measured.

One loop over the bytes of a read, no task and no future per packet, one write per read.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

PUBACK = b"\x40\x02"
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
WINDOW_IDS = 65_535
"""Packet ids run from 1 to 65535 and start again."""


class WireError(Exception):
    """A server said something that this load does not expect."""


def text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    """A whole packet: first byte, remaining length, body."""
    length, head = len(body), bytearray([first])
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def connect(client_id: str, user: str | None, password: str | None) -> bytes:
    """CONNECT with a clean session and without keep alive: nothing is sent that is not load."""
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = text("MQTT") + bytes([4, flags, 0, 0]) + text(client_id)
    return packet(0x10, body + (text(user) if user else b"") + (text(password) if password else b""))


def subscribe(topic_filter: str) -> bytes:
    """SUBSCRIBE at QoS 1 to one filter, packet id 1: it is acknowledged before anything is published."""
    return packet(0x82, b"\x00\x01" + text(topic_filter) + b"\x01")


def publish_head(topic: str, payload_size: int) -> bytes:
    """Everything of a QoS 1 PUBLISH that stands before the packet id, for payloads of one size."""
    whole = packet(0x32, text(topic) + b"\x00\x00" + bytes(payload_size))
    return whole[: len(whole) - payload_size - 2]


class Client(asyncio.Protocol):
    """One connection. Acknowledges every QoS 1 PUBLISH it takes, and leaves what to make of it to its subclass."""

    def __init__(
        self, client_id: str, *, topic_filter: str | None = None, user: str | None = None, password: str | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.label = user or client_id
        """Who this is in a report of problems."""
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when CONNACK, and SUBACK where there is a filter, have said yes."""
        self.pong: asyncio.Future[None] = loop.create_future()
        self.failure: str | None = None
        self._greeting = connect(client_id, user, password)
        self._filter = topic_filter
        self._rest = b""
        self._closing = False
        self.transport: asyncio.Transport

    def acknowledged(self, packet_id: int) -> None:
        """A PUBACK has arrived."""

    def arrived(self, topic: bytes, payload: bytes) -> None:
        """A PUBLISH has arrived; its PUBACK leaves at the end of this read."""

    def next_packets(self) -> Sequence[bytes]:
        """What to send after a read, in the same write as the acknowledgements."""
        return ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class
        self.transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        out: list[bytes] = []
        try:
            self._rest = data[self._read(data, out) :]
        except (WireError, ValueError, LookupError, msgspec.MsgspecError) as error:
            self.fail(f"{type(error).__name__}: {error}")
            return
        out += self.next_packets()
        if out:
            self.transport.write(b"".join(out))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self.fail(f"connection lost ({error or 'closed by the server'})")

    def ping(self) -> asyncio.Future[None]:
        """A round trip: its answer says that the server has handled everything sent before."""
        self.pong = asyncio.get_running_loop().create_future()
        self.transport.write(PINGREQ)
        return self.pong

    def close(self) -> None:
        """Leaves politely."""
        if not self._closing:
            self._closing = True
            self.transport.write(DISCONNECT)
            self.transport.close()

    def fail(self, reason: str) -> None:
        """The run is invalid from here on."""
        self.failure = self.failure or f"{self.label}: {reason}"
        for future in (self.ready, self.pong):
            if not future.done():
                future.set_exception(WireError(self.failure))
                future.exception()  # a future that nobody awaits shall not be reported again at its end
        self._closing = True
        self.transport.abort()

    def _read(self, data: bytes, out: list[bytes]) -> int:
        """Handles every complete packet; returns where the first incomplete one begins."""
        position, end = 0, len(data)
        while end - position >= 2:
            first, length, body = data[position], data[position + 1], position + 2
            if length > 127:
                length, body = _long_length(data, position + 1)
                if length < 0:
                    break
            stop = body + length
            if stop > end:
                break
            if first == 0x40:
                self.acknowledged(data[body] << 8 | data[body + 1])
            elif first >> 4 == 3:
                payload = body + 2 + (data[body] << 8 | data[body + 1])
                topic = data[body + 2 : payload]
                if first & 0x06:
                    out.append(PUBACK + data[payload : payload + 2])
                    payload += 2
                self.arrived(topic, data[payload:stop])
            else:
                self._control(first, data[body:stop])
            position = stop
        return position

    def _control(self, first: int, body: bytes) -> None:
        if first == 0x20:
            if body[1]:
                raise WireError(f"CONNECT refused with {body[1]}")
            if self._filter is None:
                self.ready.set_result(None)
            else:
                self.transport.write(subscribe(self._filter))
        elif first == 0x90:
            if body[2] != 1:
                raise WireError(f"subscription to {self._filter} answered with 0x{body[2]:02x}")
            self.ready.set_result(None)
        elif first == 0xD0:
            self.pong.set_result(None)
        else:
            raise WireError(f"unexpected packet 0x{first:02x}")


def _long_length(data: bytes, position: int) -> tuple[int, int]:
    """Remaining length and where the body begins; (-1, 0) while bytes of the length are missing."""
    length = 0
    for shift in range(4):
        if position + shift >= len(data):
            return -1, 0
        byte = data[position + shift]
        length |= (byte & 127) << (7 * shift)
        if byte < 128:
            return length, position + shift + 1
    raise WireError("remaining length of more than four bytes")


async def open_all(clients: Sequence[Client], host: str, ports: Sequence[int], *, at_once: int = 50) -> None:
    """Connects (and subscribes) all clients, some at once, each to the next of the ports in turn; raises `WireError`
    naming the first that failed."""
    loop = asyncio.get_running_loop()
    there = list(zip(clients, itertools.cycle(ports), strict=False))
    for start in range(0, len(clients), at_once):
        group = there[start : start + at_once]
        await asyncio.gather(*(loop.create_connection(_factory(client), host, port) for client, port in group))
        await asyncio.wait_for(asyncio.gather(*(client.ready for client, _ in group)), 60)


def _factory(client: Client) -> Callable[[], Client]:
    return lambda: client
