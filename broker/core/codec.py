"""Bytes to packets and back (MQTT 3.1.1 chapters 2 and 3). Pure: give it bytes, get packets; nothing else happens.

`Decoder.feed` never raises. What is wrong with the bytes ends up in `Decoder.failure`, so that the packets before it
are still handled in order and the connection is closed after them [MQTT-4.8.0-1]. No more than one packet of
`max_packet_size` bytes is ever buffered, and bytes are looked at again only when the packet they begin is complete, so
a packet that trickles in one byte at a time costs no more than one that comes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aldis.broker.core.packets import (
    Connect,
    Disconnect,
    Message,
    Packet,
    Pingreq,
    ProtocolLevel,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
)
from aldis.broker.core.reasons import CloseReason, ConnectReturn, ProtocolViolation
from aldis.broker.core.topics import TopicError, check_topic_name

_PUBLISH = 3
_SMALLEST_LIMIT = 129
"""Bytes of the longest packet with a length of one byte. The size of such packets is not looked at."""
_MAX_TOPICS_CACHED = 10_000
_MAX_CACHED_TOPIC_BYTES = 256
_PROTOCOL_NAMES = {b"MQTT": ProtocolLevel.MQTT_3_1_1, b"MQIsdp": ProtocolLevel.MQTT_3_1}


class TopicCache:
    """Topic names already decoded and checked, so that a topic costs one dict look-up per PUBLISH instead of a check.

    Shared by all connections of a node; bounded: when full it starts anew.
    """

    __slots__ = ("_max_levels", "known")

    def __init__(self, max_levels: int) -> None:
        self._max_levels = max_levels
        self.known: dict[bytes, str] = {}

    def configure(self, max_levels: int) -> None:
        """Another depth from now on."""
        self._max_levels = max_levels
        self.known.clear()

    def learn(self, wire: bytes) -> str:
        """Checks a topic name and remembers it. Raises `ProtocolViolation` for what no PUBLISH may carry
        [MQTT-3.3.2-2]."""
        topic = _decode_text(wire, "topic")
        try:
            check_topic_name(topic, self._max_levels)
        except TopicError as error:
            raise ProtocolViolation(CloseReason.BAD_TOPIC, str(error)) from None
        if len(wire) <= _MAX_CACHED_TOPIC_BYTES:
            if len(self.known) >= _MAX_TOPICS_CACHED:
                self.known.clear()
            self.known[wire] = topic
        return topic


class Decoder:
    """The receiving half of one connection. `level` is the protocol level CONNECT agreed on. A `max_packet_size` below
    129 counts as 129."""

    __slots__ = ("_max_size", "_need", "_rest", "_topics", "failure", "level")

    def __init__(self, max_packet_size: int, topics: TopicCache) -> None:
        self.level = int(ProtocolLevel.MQTT_3_1_1)
        self.failure: ProtocolViolation | None = None
        self._max_size = max(max_packet_size, _SMALLEST_LIMIT)
        self._topics = topics
        self._rest: bytearray | None = None
        self._need = 2

    @property
    def buffered(self) -> int:
        """Bytes of the packet that is not complete yet."""
        return len(self._rest) if self._rest is not None else 0

    def feed(self, data: bytes) -> list[Packet]:  # noqa: PLR0912 - the one loop that every byte passes
        """Takes what the network gave and returns every packet that is complete. After a failure it returns nothing."""
        packets: list[Packet] = []
        if self.failure is not None:
            return packets
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._need:
                return packets
            data = bytes(self._rest)
            self._rest = None
        position, end = 0, len(data)
        try:
            while position + 2 <= end:
                length = data[position + 1]
                body = position + 2
                if length & 0x80:
                    if body < end and not data[body] & 0x80:  # two bytes, the usual case
                        length = length & 0x7F | data[body] << 7
                        body += 1
                    else:
                        length, body = self._long_length(data, position)
                stop = body + length
                if stop - position > self._max_size and body > position:
                    self._check_size(stop - position)
                if stop > end:
                    self._need = stop - position if body > position else 2
                    break
                first = data[position]
                if first >> 4 == _PUBLISH:
                    packets.append(self._publish(data, position, body, stop))
                else:
                    packets.append(_DECODERS[first](data, body, stop))
                position = stop
            else:
                self._need = 2
        except ProtocolViolation as violation:
            self.failure = violation
            return packets
        except KeyError:
            # no packet type, or its reserved flags are wrong [MQTT-2.2.2-2]
            self.failure = ProtocolViolation(CloseReason.MALFORMED, f"bad first byte 0x{data[position]:02x}")
            return packets
        if position < end:
            self._rest = bytearray(data[position:])
        return packets

    def _long_length(self, data: bytes, position: int) -> tuple[int, int]:
        """Remaining length of more than one byte [2.2.3]: (length, where the body begins); body 0 while it is
        incomplete."""
        length, shift = 0, 0
        for index in range(position + 1, position + 5):
            if index >= len(data):
                return len(data) + 1, 0
            byte = data[index]
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return length, index + 1
            shift += 7
        raise ProtocolViolation(CloseReason.MALFORMED, "remaining length of more than four bytes")

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise ProtocolViolation(CloseReason.PACKET_TOO_LARGE, f"a packet of {size} bytes, {self._max_size} allowed")

    def _publish(self, data: bytes, position: int, body: int, stop: int) -> Message:
        flags = data[position] & 0x0F
        if stop - body < 2:
            raise _malformed("PUBLISH without a topic")
        topic_end = body + 2 + (data[body] << 8 | data[body + 1])
        wire = data[body + 2 : topic_end]
        topic = self._topics.known.get(wire)
        if flags == 2:  # QoS 1, neither DUP nor RETAIN: the common case, whose head can go out again as it came
            if topic_end + 2 > stop:
                raise _malformed("PUBLISH ends before its packet id")
            packet_id = data[topic_end] << 8 | data[topic_end + 1]
            if packet_id == 0:
                raise _malformed("packet id 0")  # [MQTT-2.3.1-1]
            return Message(
                topic if topic is not None else self._topics.learn(wire),
                data[topic_end + 2 : stop],
                1,
                False,
                False,
                packet_id,
                # a length written with more bytes than needed ends in a zero byte; such a head is made anew
                data[position:topic_end] if data[body - 1] else b"",
            )
        return self._publish_general(flags, topic, data, topic_end, stop, wire)

    def _publish_general(
        self, flags: int, topic: str | None, data: bytes, topic_end: int, stop: int, wire: bytes
    ) -> Message:
        qos = flags >> 1 & 3
        if qos == 3:
            raise _malformed("QoS 3")  # [MQTT-3.3.1-4]
        if qos == 0 and flags & 8:
            raise _malformed("DUP on QoS 0")  # [MQTT-3.3.1-2]
        packet_id = 0
        start = topic_end
        if qos:
            start += 2
        if start > stop:
            raise _malformed("PUBLISH ends before its payload")
        if qos:
            packet_id = data[topic_end] << 8 | data[topic_end + 1]
            if packet_id == 0:
                raise _malformed("packet id 0")
        if topic is None:
            topic = self._topics.learn(wire)
        return Message(topic, data[start:stop], qos, bool(flags & 1), bool(flags & 8), packet_id)


def _malformed(detail: str) -> ProtocolViolation:
    return ProtocolViolation(CloseReason.MALFORMED, detail)


def _decode_text(wire: bytes, what: str) -> str:
    """A UTF-8 string [1.5.3]: no ill-formed bytes, no surrogates, no U+0000."""
    try:
        text = wire.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(f"{what} is not UTF-8") from None  # [MQTT-1.5.3-1]
    if "\0" in text:
        raise _malformed(f"U+0000 in {what}")  # [MQTT-1.5.3-2]
    return text


def _binary(data: bytes, position: int, stop: int, what: str) -> tuple[bytes, int]:
    """A two-byte length and that many bytes; returns them and the position after."""
    start = position + 2
    if start > stop:
        raise _malformed(f"{what} is cut off")
    end = start + (data[position] << 8 | data[position + 1])
    if end > stop:
        raise _malformed(f"{what} is cut off")
    return data[start:end], end


def _text(data: bytes, position: int, stop: int, what: str) -> tuple[str, int]:
    wire, end = _binary(data, position, stop, what)
    return _decode_text(wire, what), end


def _packet_id(data: bytes, body: int, stop: int) -> int:
    if stop - body < 2:
        raise _malformed("packet id is cut off")
    packet_id = data[body] << 8 | data[body + 1]
    if packet_id == 0:
        raise _malformed("packet id 0")  # [MQTT-2.3.1-1]
    return packet_id


def _ack_decoder(packet: Callable[[int], Packet]) -> Callable[[bytes, int, int], Packet]:
    def decode(data: bytes, body: int, stop: int) -> Packet:
        if stop - body != 2:
            raise _malformed("an acknowledgement has two bytes")
        return packet(_packet_id(data, body, stop))

    return decode


def _connect(data: bytes, body: int, stop: int) -> Packet:
    name, position = _binary(data, body, stop, "protocol name")
    if position + 4 > stop:
        raise _malformed("CONNECT is cut off")
    level = data[position]
    if _PROTOCOL_NAMES.get(name) != level:
        if name not in _PROTOCOL_NAMES:
            raise _malformed("unknown protocol name")  # [MQTT-3.1.2-1]
        return Connect("", True, 0, level, supported=False)  # [MQTT-3.1.2-2]: the rest may look different
    flags = data[position + 1]
    keep_alive = data[position + 2] << 8 | data[position + 3]
    _check_connect_flags(flags)
    client_id, position = _text(data, position + 4, stop, "client identifier")
    will = None
    if flags & 0x04:
        topic, position = _text(data, position, stop, "will topic")
        payload, position = _binary(data, position, stop, "will message")
        will = Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20))
    username: str | None = None
    password: bytes | None = None
    if flags & 0x80:
        username, position = _text(data, position, stop, "user name")
    if flags & 0x40:
        password, position = _binary(data, position, stop, "password")
    if position != stop:
        raise _malformed("CONNECT is longer than its fields")
    return Connect(client_id, bool(flags & 0x02), keep_alive, level, username, password, will)


def _check_connect_flags(flags: int) -> None:
    if flags & 0x01:
        raise _malformed("reserved CONNECT flag")  # [MQTT-3.1.2-3]
    if not flags & 0x04 and flags & 0x38:
        raise _malformed("will flags without a will")  # [MQTT-3.1.2-11], [-13], [-15]
    if flags & 0x18 == 0x18:
        raise _malformed("will QoS 3")  # [MQTT-3.1.2-14]
    if flags & 0x40 and not flags & 0x80:
        raise _malformed("a password without a user name")  # [MQTT-3.1.2-22]


def _subscribe(data: bytes, body: int, stop: int) -> Packet:
    packet_id = _packet_id(data, body, stop)
    position = body + 2
    filters: list[tuple[str, int]] = []
    while position < stop:
        text, position = _text(data, position, stop, "topic filter")
        if position >= stop:
            raise _malformed("a topic filter without its QoS")
        if data[position] > 2:
            raise _malformed("reserved bits or QoS 3 in SUBSCRIBE")  # [MQTT-3.8.3-4]
        filters.append((text, data[position]))
        position += 1
    if not filters:
        raise _malformed("SUBSCRIBE without a filter")  # [MQTT-3.8.3-3]
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(data: bytes, body: int, stop: int) -> Packet:
    packet_id = _packet_id(data, body, stop)
    position = body + 2
    filters: list[str] = []
    while position < stop:
        text, position = _text(data, position, stop, "topic filter")
        filters.append(text)
    if not filters:
        raise _malformed("UNSUBSCRIBE without a filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, tuple(filters))


def _bare(packet: Packet, name: str) -> Callable[[bytes, int, int], Packet]:
    def decode(data: bytes, body: int, stop: int) -> Packet:
        if stop != body:
            raise _malformed(f"{name} has no body")
        return packet

    return decode


_DECODERS: dict[int, Callable[[bytes, int, int], Packet]] = {
    # keyed by the whole first byte: the flags of these packets are fixed [MQTT-2.2.2-1]
    0x10: _connect,
    0x40: _ack_decoder(Puback),
    0x50: _ack_decoder(Pubrec),
    0x62: _ack_decoder(Pubrel),
    0x70: _ack_decoder(Pubcomp),
    0x82: _subscribe,
    0xA2: _unsubscribe,
    0xC0: _bare(Pingreq(), "PINGREQ"),
    0xE0: _bare(Disconnect(), "DISCONNECT"),
}


PINGRESP = b"\xd0\x00"
PUBACK = b"\x40\x02"
PUBREC = b"\x50\x02"
PUBREL = b"\x62\x02"
PUBCOMP = b"\x70\x02"
SUBSCRIPTION_REFUSED = 0x80


_SHORT_LENGTHS = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1_024)]
"""Most packets are short, and every packet that goes out needs its length."""


def encode_length(length: int) -> bytes:
    """The remaining length as one to four bytes [2.2.3]."""
    if length < 1_024:
        return _SHORT_LENGTHS[length]
    wire = bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        if not length:
            wire.append(digit)
            return bytes(wire)
        wire.append(digit | 0x80)


def encode_connack(code: ConnectReturn, *, session_present: bool) -> bytes:
    # [MQTT-3.2.2-4]: a refusal never says that a session is present
    return bytes((0x20, 2, int(session_present and code == ConnectReturn.ACCEPTED), code))


def encode_suback(packet_id: int, codes: Sequence[int]) -> bytes:
    return b"\x90" + encode_length(2 + len(codes)) + packet_id.to_bytes(2, "big") + bytes(codes)


def encode_unsuback(packet_id: int) -> bytes:
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def encode_topic(topic: str) -> bytes:
    """A topic name with its length in front."""
    wire = topic.encode()
    return len(wire).to_bytes(2, "big") + wire


def encode_head(topic: str, payload_size: int) -> bytes:
    """A QoS 1 PUBLISH up to its packet id."""
    wire = encode_topic(topic)
    return b"\x32" + encode_length(len(wire) + 2 + payload_size) + wire


def encode_whole(topic: bytes, payload: bytes) -> bytes:
    """A complete QoS 0 PUBLISH; `topic` as `encode_topic` gives it."""
    return b"\x30" + encode_length(len(topic) + len(payload)) + topic + payload
