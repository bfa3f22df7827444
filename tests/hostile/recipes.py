"""What a fuzzer's bytes stand for: packets that are valid, and packets that are nearly so.

Random bytes seldom get past the first byte of MQTT. Here every byte is a choice instead (which packet, which text, what
is to be wrong with it), so that a fuzzer led by coverage, hypothesis and a committed file all lead deep into the server
and can be replayed: the same bytes make the same packets for ever. Choices that are missing count as 0.
"""

from __future__ import annotations

from collections.abc import Callable

from tests import wire

TEXTS = [
    b"a",
    b"a/b",
    b"inbox/u/chat/u",
    b"devices/u/x",
    b"",
    b"#",
    b"+/b",
    b"a/#",
    b"$SYS/x",
    b"a/#/b",
    b"a+",
    b"/",
    b"//",
    b"\0",
    b"a\0b",
    b"\xed\xa0\x80",
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xc0\xaf",
    b"\xff",
    b"\xe2\x82",
    "é𝄞".encode(),
    b"\xef\xbb\xbf",
    b"/" * 40,
    b"x" * 200,
]
"""Topics, filters and names: good, odd and forbidden."""
IDS = [1, 2, 3, 65_535, 0]
SIZES = [0, 1, 3, 100, 130, 2_000]


class Choices:
    """The fuzzer's bytes, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def below(self, count: int) -> int:
        """0 to `count` - 1; `count` at most 256."""
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1] % count

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    def rest(self) -> bytes:
        return self.take(self.left)

    def text(self) -> bytes:
        choice = self.below(len(TEXTS) + 1)
        return TEXTS[choice] if choice < len(TEXTS) else self.take(self.below(12))

    def id(self) -> int:
        return IDS[self.below(len(IDS))]

    def payload(self) -> bytes:
        return bytes(SIZES[self.below(len(SIZES))])


# Packets


def connect(choices: Choices, user: bytes = b"u") -> bytes:
    """CONNECT. The flags are those of the fields that are there, or, for the last choice, any."""
    shape = choices.below(16)
    flags, payload = shape & 2, wire.text(TEXTS[0] if shape & 1 else choices.text())
    if shape & 4:
        flags |= 4 | choices.below(3) << 3 | choices.below(2) << 5
        payload += wire.text(choices.text()) + wire.text(choices.payload()[:100])
    if shape & 8:
        flags |= 0xC0
        payload += wire.text(choices.text()) + wire.text(choices.text())
    else:
        flags |= 0x80
        payload += wire.text(user)
    if choices.below(16) == 15:
        flags = choices.below(256)
    name = [b"MQTT", b"MQTT", b"MQIsdp", b"mqtt", b""][choices.below(5)]
    level = [4, 4, 3, 5, 0][choices.below(5)]
    return wire.packet(0x10, wire.text(name) + bytes((level, flags, 0, choices.below(3))) + payload)


def publish(choices: Choices) -> bytes:
    flags = choices.below(16)
    id = choices.id().to_bytes(2, "big") if flags & 6 else b""
    return wire.packet(0x30 | flags, wire.text(choices.text()) + id + choices.payload())


def subscribe(choices: Choices) -> bytes:
    body = choices.id().to_bytes(2, "big")
    for _ in range(choices.below(4)):
        body += wire.text(choices.text()) + bytes(([0, 1, 2, 3, 0x81][choices.below(5)],))
    return wire.packet(0x82, body)


def unsubscribe(choices: Choices) -> bytes:
    body = choices.id().to_bytes(2, "big")
    for _ in range(choices.below(4)):
        body += wire.text(choices.text())
    return wire.packet(0xA2, body)


def acknowledgement(choices: Choices) -> bytes:
    return [wire.puback, wire.pubrec, wire.pubrel, wire.pubcomp][choices.below(4)](choices.id())


def bare(choices: Choices) -> bytes:
    return [wire.PINGREQ, wire.DISCONNECT, wire.PINGRESP, wire.ACCEPTED][choices.below(4)]


PACKETS: list[Callable[[Choices], bytes]] = [
    publish,
    acknowledgement,
    publish,
    acknowledgement,
    subscribe,
    unsubscribe,
    bare,
    connect,
]


def spoil(choices: Choices, packet: bytes) -> bytes:
    """Leaves most packets as they are; bends, cuts, doubles the others."""
    changed = bytearray(packet)
    place = choices.below(256) % len(changed)
    match choices.below(20):
        case 0:
            changed[place] ^= 1 << choices.below(8)
        case 1:
            changed[1] = choices.below(256)  # a length that is a lie
        case 2:
            del changed[place:]
        case 3:
            changed += packet  # the same packet id twice
        case 4:
            changed[place:place] = choices.take(choices.below(8))
        case 5:
            return packet[:1] + over_long(packet)
        case 6:
            changed[place : place + 2] = b"\xff\xff"
        case 7:
            del changed[place]
    return bytes(changed)


def over_long(packet: bytes) -> bytes:
    """Everything behind the first byte, its length written in four bytes or, the next choice, in five."""
    body_at = next(i for i in range(1, len(packet)) if not packet[i] & 0x80) + 1
    size = len(packet) - body_at
    digits = bytes((size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14))
    return digits + bytes((size >> 21,)) + packet[body_at:]


def packets(choices: Choices, most: int = 40) -> list[bytes]:
    """Packets until there are no more choices."""
    found = []
    while choices.left and len(found) < most:
        found.append(spoil(choices, PACKETS[choices.below(len(PACKETS))](choices)))
    return found


# WebSocket

MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One frame as a client sends it [RFC 6455, 5.2]."""
    size = len(payload)
    head = bytes((final << 7 | reserved << 4 | opcode,))
    if size < 126:
        head += bytes((masked << 7 | size,))
    elif size < 65_536:
        head += bytes((masked << 7 | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((masked << 7 | 127,)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


def handshake(subprotocol: bytes = b"mqtt") -> bytes:
    return (
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: " + subprotocol + b"\r\n\r\n"
    )


def frames(choices: Choices, most: int = 40) -> list[bytes]:
    """Frames around packets, and frames of every other kind."""
    found: list[bytes] = [frame(2, connect(Choices(b"\x03")))] if choices.below(4) else []
    while choices.left and len(found) < most:
        opcode = [2, 2, 2, 0, 1, 8, 9, 10, 3, 15][choices.below(10)]
        payload = choices.payload() if choices.below(4) == 3 else PACKETS[choices.below(len(PACKETS))](choices)
        wrong = choices.below(16)
        made = frame(
            opcode, payload, final=wrong != 1, masked=wrong != 2, reserved=choices.below(8) if wrong == 3 else 0
        )
        found.append(spoil(choices, made))
    return found
