"""What goes out, read back by amqtt's own decoders and by our own; and what amqtt's encoders say, read by ours."""

from __future__ import annotations

from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.core.codec import (
    PINGRESP,
    Decoder,
    TopicCache,
    encode_connack,
    encode_head,
    encode_length,
    encode_suback,
    encode_topic,
    encode_unsuback,
    encode_whole,
)
from aldis.broker.core.packets import Message, Packet, Subscribe, Unsubscribe
from aldis.broker.core.reasons import ConnectReturn
from tests import wire

LENGTHS = {
    0: "00",
    1: "01",
    127: "7f",
    128: "80 01",
    16_383: "ff 7f",
    16_384: "80 80 01",
    2_097_151: "ff ff 7f",
    2_097_152: "80 80 80 01",
    268_435_455: "ff ff ff 7f",
}
"""Table 2.4 of the standard, its borders."""


async def by_amqtt(data: bytes) -> Any:
    reader = BufferReader(data)
    header = await MQTTFixedHeader.from_stream(reader)
    assert header is not None
    return await packet_class(header).from_stream(reader, fixed_header=header)


def by_us(data: bytes) -> Packet:
    used = Decoder(10_000_000, TopicCache(32))
    (packet,) = used.feed(data)
    assert used.failure is None
    return packet


@pytest.mark.parametrize("length", LENGTHS)
def test_table_2_4_the_borders_of_the_remaining_length(length: int) -> None:
    assert encode_length(length).hex(" ") == LENGTHS[length]


@given(st.integers(0, 268_435_455))
def test_every_length_is_read_back(length: int) -> None:
    wire = encode_length(length)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(wire)) == length
    assert [byte >> 7 for byte in wire] == [1] * (len(wire) - 1) + [0]
    assert len(wire) == 1 or wire[-1]  # as short as possible


@pytest.mark.parametrize("size", [0, 1, 120, 121, 122, 123, 16_376, 16_377, 16_378, 16_379, 2_097_144, 2_097_146])
async def test_a_publish_around_the_borders(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    packet = await by_amqtt(encode_whole(encode_topic("a/b"), payload))
    assert (packet.topic_name, packet.data, packet.qos, packet.retain_flag) == ("a/b", payload, 0, False)
    wire = encode_head("a/b", len(payload)) + b"\x12\x34" + payload
    packet = await by_amqtt(wire)
    assert (packet.topic_name, packet.data, packet.qos, packet.packet_id) == ("a/b", payload, 1, 0x1234)
    found = by_us(wire)
    assert isinstance(found, Message)
    assert (found.topic, found.payload, found.packet_id) == ("a/b", payload, 0x1234)
    assert found.head == encode_head("a/b", len(payload))  # may go out again as it came


@pytest.mark.parametrize("code", ConnectReturn)
async def test_mqtt_3_2_2_4_a_refusal_says_nothing_of_a_session(code: ConnectReturn) -> None:
    for present in (False, True):
        packet = await by_amqtt(encode_connack(code, session_present=present))
        assert isinstance(packet, ConnackPacket)
        assert packet.return_code == code
        assert packet.session_parent == int(present and code == ConnectReturn.ACCEPTED)


@given(st.integers(1, 0xFFFF), st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=200))
@settings(max_examples=50)
async def test_suback_and_unsuback(id: int, codes: list[int]) -> None:
    packet = await by_amqtt(encode_suback(id, codes))
    assert isinstance(packet, SubackPacket)
    assert (packet.variable_header.packet_id, packet.payload.return_codes) == (id, codes)
    other = await by_amqtt(encode_unsuback(id))
    assert isinstance(other, UnsubackPacket)
    assert other.variable_header.packet_id == id


async def test_pingresp() -> None:
    assert type(await by_amqtt(PINGRESP)).__name__ == "PingRespPacket"


topics = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=20)


@given(topics, st.binary(max_size=200), st.integers(0, 2), st.integers(1, 0xFFFF), st.booleans(), st.booleans())
def test_what_amqtt_publishes_we_read(topic: str, payload: bytes, qos: int, id: int, retain: bool, dup: bool) -> None:
    dup = dup and qos > 0
    written = PublishPacket.build(topic, payload, id if qos else None, dup, qos, retain).to_bytes()
    assert written == wire.publish(topic, payload, qos=qos, id=id, retain=retain, dup=dup)
    found = by_us(written)
    assert isinstance(found, Message)
    assert (found.topic, found.payload, found.qos, found.retain, found.dup) == (topic, payload, qos, retain, dup)
    assert found.packet_id == (id if qos else 0)


@given(st.integers(1, 0xFFFF), st.lists(st.tuples(topics, st.integers(0, 2)), min_size=1, max_size=5))
def test_what_amqtt_subscribes_we_read(id: int, filters: list[tuple[str, int]]) -> None:
    assert by_us(SubscribePacket.build(filters, id).to_bytes()) == Subscribe(id, tuple(filters))
    names = [name for name, _ in filters]
    assert by_us(UnsubscribePacket.build(names, id).to_bytes()) == Unsubscribe(id, tuple(names))
