"""amqtt's packet and message objects, made only when a plugin listens to the event that carries them."""

from __future__ import annotations

from typing import Any

from amqtt.adapters import BufferReader
from amqtt.mqtt import packet_class
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.session import IncomingApplicationMessage

from aldis.broker.core.packets import Message


def application_message(message: Message) -> IncomingApplicationMessage:
    """A PUBLISH as amqtt's plugins know it."""
    result = IncomingApplicationMessage(
        message.packet_id or None, message.topic, message.qos, message.payload, message.retain
    )
    result.publish_packet = result.build_publish_packet(dup=message.dup)
    return result


class Reframer:
    """Cuts a stream of bytes into whole packets; `feed` gives those that are complete, joined. The stream must be one
    that our decoder accepts, which bounds what is kept."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        end = 0
        while (following := _packet_end(data, end)) is not None:
            end = following
        self._rest = data[end:]
        return data[:end]


def _packet_end(data: bytes, position: int) -> int | None:
    end, length, shift = position + 1, 0, 0
    while end < len(data):
        byte = data[end]
        length |= (byte & 0x7F) << shift
        shift += 7
        end += 1
        if not byte & 0x80:
            return end + length if end + length <= len(data) else None
    return None


async def decode_packets(data: bytes, count: int | None = None) -> list[Any]:
    """The first `count` whole packets, or all, as amqtt's own objects. Passwords are left out: amqtt's packet logger
    would write them down."""
    packets: list[Any] = []
    position = 0
    while len(packets) != count and (end := _packet_end(data, position)) is not None:
        reader = BufferReader(data[position:end])
        header = await MQTTFixedHeader.from_stream(reader)
        if header is not None:
            packet: Any = await packet_class(header).from_stream(reader, fixed_header=header)
            if isinstance(packet, ConnectPacket) and packet.payload is not None:
                packet.payload.password = None
            packets.append(packet)
        position = end
    return packets
