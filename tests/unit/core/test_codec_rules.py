"""Chapters 1 to 3 of MQTT 3.1.1, statement by statement: what the codec must refuse, and what it must read."""

from __future__ import annotations

import struct

import pytest

from aldis.broker.core.codec import Decoder, TopicCache
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
    Will,
)
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from tests import wire

MALFORMED = CloseReason.MALFORMED
BAD_TOPIC = CloseReason.BAD_TOPIC

ILL_FORMED = {
    "a lone continuation byte": b"\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong zero": b"\xc0\x80",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a cut sequence": b"a\xe2\x82",
    "0xff": b"\xff",
}


def feed(data: bytes) -> tuple[list[Packet], ProtocolViolation | None]:
    used = Decoder(100_000, TopicCache(8))
    return used.feed(data), used.failure


def only(data: bytes) -> Packet:
    packets, failure = feed(data)
    assert failure is None
    (packet,) = packets
    return packet


def refused(data: bytes, reason: CloseReason = MALFORMED) -> None:
    """Followed by a good packet, which must not be read any more."""
    packets, failure = feed(data + wire.PINGREQ)
    assert packets == []
    assert failure is not None
    assert failure.reason is reason


def connect(flags: int, payload: bytes, name: bytes = b"MQTT", level: int = 4) -> bytes:
    return wire.packet(0x10, wire.text(name) + bytes((level, flags)) + b"\x00\x3c" + payload)


def subscribe(id: int, payload: bytes) -> bytes:
    return wire.packet(0x82, struct.pack("!H", id) + payload)


def with_text(text: bytes) -> dict[str, bytes]:
    """Every place where a client says text."""
    field, client = wire.text(text), wire.text("c")
    return {
        "topic": wire.packet(0x30, field),
        "topic at QoS 1": wire.packet(0x32, field + b"\x00\x01"),
        "topic at QoS 2": wire.packet(0x34, field + b"\x00\x01"),
        "client identifier": connect(0x02, field),
        "will topic": connect(0x06, client + field + wire.text("")),
        "user name": connect(0x82, client + field),
        "filter": subscribe(1, field + b"\x00"),
        "second filter": subscribe(1, wire.text("a") + b"\x00" + field + b"\x00"),
        "filter to leave": wire.packet(0xA2, b"\x00\x01" + field),
    }


class TestText:
    @pytest.mark.parametrize("place", with_text(b""))
    @pytest.mark.parametrize("kind", ILL_FORMED)
    def test_mqtt_1_5_3_1_ill_formed_utf_8_ends_the_connection(self, kind: str, place: str) -> None:
        refused(with_text(ILL_FORMED[kind])[place])

    @pytest.mark.parametrize("place", with_text(b""))
    @pytest.mark.parametrize("text", [b"\0", b"a\0b"])
    def test_mqtt_1_5_3_2_u_0000_ends_the_connection(self, text: bytes, place: str) -> None:
        refused(with_text(text)[place])

    @pytest.mark.parametrize("place", with_text(b""))
    @pytest.mark.parametrize("text", ["\ufeffa", "a\ufeff", "𝄞 é", "\u200b", "\x7f"])
    def test_mqtt_1_5_3_3_everything_else_arrives_as_it_was_sent(self, text: str, place: str) -> None:
        match only(with_text(text.encode())[place]):
            case Message(topic=found) | Connect(will=Will(topic=found)):
                pass
            case Connect(username=str(found)) | Connect(client_id=found):
                pass
            case Subscribe(filters=(*_, (found, _))) | Unsubscribe(filters=(*_, found)):
                pass
            case other:
                pytest.fail(f"{other}")
        assert found == text


FLAGS = {0x1: 0, 0x4: 0, 0x5: 0, 0x6: 2, 0x7: 0, 0x8: 2, 0xA: 2, 0xC: 0, 0xE: 0}
"""Table 2.2: the reserved flags of what a client may send, PUBLISH apart."""
BODIES = {
    0x1: connect(0x02, wire.text("c"))[2:],
    0x8: b"\x00\x01" + wire.text("a") + b"\x00",
    0xA: b"\x00\x01" + wire.text("a"),
    0xC: b"",
    0xE: b"",
}


class TestFixedHeader:
    @pytest.mark.parametrize("kind", FLAGS)
    def test_mqtt_2_2_2_2_only_the_reserved_flags_are_taken(self, kind: int) -> None:
        for flags in range(16):
            data = wire.packet(kind << 4 | flags, BODIES.get(kind, b"\x00\x01"))
            if flags == FLAGS[kind]:
                only(data)
            else:
                refused(data)

    @pytest.mark.parametrize("kind", [0x0, 0x2, 0x9, 0xB, 0xD, 0xF])
    def test_types_that_no_client_sends_end_the_connection(self, kind: int) -> None:
        for flags in range(16):
            refused(wire.packet(kind << 4 | flags, b"\x00\x01"))

    @pytest.mark.parametrize("first", [0x30, 0x32, 0x10, 0xC0, 0xE0])
    def test_a_remaining_length_of_five_bytes_ends_the_connection(self, first: int) -> None:
        for continued in (b"\x80\x80\x80\x80", b"\xff\xff\xff\xff"):
            for fifth in (b"\x00", b"\x01", b"\x7f", b"\x80"):
                refused(bytes((first,)) + continued + fifth)

    def test_a_length_in_more_bytes_than_it_needs_is_a_length(self) -> None:
        """3.1.1 does not forbid it; what goes out again is written in as few as possible."""
        assert only(b"\xc0\x80\x00") == only(b"\xc0\x80\x80\x80\x00") == Pingreq()
        for prefix in (b"\x85\x00", b"\x85\x80\x00", b"\x85\x80\x80\x00"):
            message = only(b"\x32" + prefix + b"\x00\x01a\x00\x07")
            assert isinstance(message, Message)
            assert (message.topic, message.payload, message.packet_id, message.head) == ("a", b"", 7, b"")
        plain = only(b"\x32\x05\x00\x01a\x00\x07")
        assert isinstance(plain, Message)
        assert plain.head == b"\x32\x05\x00\x01a"

    @pytest.mark.parametrize(
        "data",
        [
            wire.publish("a", qos=1, id=0),
            wire.publish("a", qos=2, id=0),
            wire.publish("a", b"payload", qos=1, id=0, dup=True),
            wire.subscribe(0, ("a", 0)),
            wire.unsubscribe(0, "a"),
            wire.puback(0),
            wire.pubrec(0),
            wire.pubrel(0),
            wire.pubcomp(0),
        ],
    )
    def test_mqtt_2_3_1_1_packet_id_0_ends_the_connection(self, data: bytes) -> None:
        refused(data)


class TestConnect:
    CLIENT = wire.text("c")
    EVERYTHING = connect(0xFE & ~0x10, CLIENT + wire.text("will") + wire.text("w") + wire.text("u") + wire.text("p"))

    def test_every_field_is_read(self) -> None:
        assert only(self.EVERYTHING) == Connect("c", True, 60, 4, "u", b"p", Will("will", b"w", 1, True))
        assert only(connect(0x00, self.CLIENT, b"MQIsdp", 3)) == Connect("c", False, 60, 3)

    def test_empty_fields_are_not_missing_ones(self) -> None:
        data = connect(0xC6, wire.text("") + wire.text("w") + wire.text("") + wire.text("") + wire.text(""))
        assert only(data) == Connect("", True, 60, 4, "", b"", Will("w", b"", 0, False))

    def test_a_password_is_bytes(self) -> None:
        packet = only(connect(0xC2, self.CLIENT + wire.text("u") + wire.text(b"\xff\x00")))
        assert isinstance(packet, Connect)
        assert packet.password == b"\xff\x00"

    @pytest.mark.parametrize("name", [b"", b"mqtt", b"MQTT ", b"MQIsd", b"HTTP", b"\xff\xff\xff\xff"])
    def test_mqtt_3_1_2_1_another_protocol_ends_the_connection(self, name: bytes) -> None:
        refused(connect(0x02, self.CLIENT, name))

    @pytest.mark.parametrize(
        ("name", "level"), [(b"MQTT", 3), (b"MQTT", 5), (b"MQTT", 0x84), (b"MQTT", 0), (b"MQIsdp", 4)]
    )
    def test_mqtt_3_1_2_2_another_level_is_refused_with_an_answer(self, name: bytes, level: int) -> None:
        for payload in (self.CLIENT, b"\x00", b"\x05\x11\x00\x00\x00\x0a\x00\x01c"):
            packet = only(connect(0x02, payload, name, level))
            assert isinstance(packet, Connect)
            assert not packet.supported

    def test_mqtt_3_1_2_3_the_reserved_flag(self) -> None:
        refused(connect(0x03, self.CLIENT))

    @pytest.mark.parametrize("flags", [0x08, 0x10, 0x18, 0x20, 0x28], ids=hex)
    def test_mqtt_3_1_2_11_13_15_will_flags_without_a_will(self, flags: int) -> None:
        refused(connect(0x02 | flags, self.CLIENT))

    def test_mqtt_3_1_2_14_will_qos_3(self) -> None:
        refused(connect(0x1E, self.CLIENT + wire.text("w") + wire.text("")))

    def test_mqtt_3_1_2_22_a_password_without_a_user_name(self) -> None:
        refused(connect(0x42, self.CLIENT + wire.text("p")))

    def test_mqtt_3_1_4_1_a_field_that_is_cut_off_or_too_many(self) -> None:
        body = self.EVERYTHING[2:]
        for size in range(len(body)):
            refused(wire.packet(0x10, body[:size]))
        refused(wire.packet(0x10, body + b"\x00"))


class TestPublish:
    def test_every_field_is_read(self) -> None:
        for retain in (False, True):
            message = only(wire.publish("a/b", b"hi", retain=retain))
            assert message == Message("a/b", b"hi", 0, retain)
            for qos in (1, 2):
                for dup in (False, True):
                    packet = only(wire.publish("a/b", b"hi", qos=qos, id=0x1234, retain=retain, dup=dup))
                    assert isinstance(packet, Message)
                    packet.head = b""
                    assert packet == Message("a/b", b"hi", qos, retain, dup, 0x1234)

    def test_mqtt_3_3_1_2_dup_at_qos_0(self) -> None:
        refused(wire.packet(0x38, wire.text("a")))
        refused(wire.packet(0x39, wire.text("a")))

    def test_mqtt_3_3_1_4_qos_3(self) -> None:
        for flags in (0x6, 0x7, 0xE, 0xF):
            refused(wire.packet(0x30 | flags, wire.text("a") + b"\x00\x01"))

    @pytest.mark.parametrize("topic", ["#", "+", "a/#", "+/a", "a/b+", "a#/b"])
    def test_mqtt_3_3_2_2_a_wildcard_in_the_topic(self, topic: str) -> None:
        for qos in (0, 1, 2):
            refused(wire.publish(topic, b"x", qos=qos, id=1), BAD_TOPIC)

    def test_mqtt_4_7_3_1_no_topic_and_too_many_levels(self) -> None:
        for qos in (0, 1, 2):
            refused(wire.publish("", b"x", qos=qos, id=1), BAD_TOPIC)
            assert only(wire.publish("/".join("12345678"), b"x", qos=qos, id=1))
            refused(wire.publish("/".join("123456789"), b"x", qos=qos, id=1), BAD_TOPIC)

    def test_a_field_that_is_cut_off(self) -> None:
        for qos in (0, 1, 2):
            body = wire.publish("a/b", qos=qos, id=0x0101)[2:]
            for size in range(len(body)):
                refused(wire.packet(0x30 | qos << 1, body[:size]))

    def test_a_topic_that_reaches_into_the_next_packet_is_not_read_from_there(self) -> None:
        packets, failure = feed(b"\x32\x05\x00\x09a\x00\x07" + wire.publish("secret", b"x"))
        assert packets == []
        assert failure is not None and failure.reason is MALFORMED


class TestTheOthers:
    def test_every_field_is_read(self) -> None:
        assert only(wire.subscribe(7, ("a/#", 2), ("+", 0))) == Subscribe(7, (("a/#", 2), ("+", 0)))
        assert only(wire.unsubscribe(7, "a/#", "+")) == Unsubscribe(7, ("a/#", "+"))
        assert [only(make(0x0102)) for make in (wire.puback, wire.pubrec, wire.pubrel, wire.pubcomp)] == [
            Puback(0x0102), Pubrec(0x0102), Pubrel(0x0102), Pubcomp(0x0102)
        ]  # fmt: skip
        assert only(wire.PINGREQ) == Pingreq()
        assert only(wire.DISCONNECT) == Disconnect()

    def test_mqtt_3_8_3_3_subscribe_without_a_filter(self) -> None:
        refused(subscribe(1, b""))

    @pytest.mark.parametrize("qos", [3, 4, 0x80, 0xFC, 0xFF])
    def test_mqtt_3_8_3_4_reserved_bits_and_qos_3_in_subscribe(self, qos: int) -> None:
        refused(subscribe(1, wire.text("a") + bytes((qos,))))
        refused(subscribe(1, wire.text("a") + b"\x01" + wire.text("b") + bytes((qos,))))

    def test_mqtt_3_10_3_2_unsubscribe_without_a_filter(self) -> None:
        refused(wire.packet(0xA2, b"\x00\x01"))

    @pytest.mark.parametrize(
        ("first", "whole"),
        [(0x82, wire.subscribe(1, ("a/b", 1))), (0xA2, wire.unsubscribe(1, "a/b")), (0x40, wire.puback(258))],
    )
    def test_a_field_that_is_cut_off(self, first: int, whole: bytes) -> None:
        body = whole[2:]
        for size in range(len(body)):
            refused(wire.packet(first, body[:size]))

    @pytest.mark.parametrize("first", [0x40, 0x50, 0x62, 0x70, 0xC0, 0xE0], ids=hex)
    def test_a_packet_with_more_than_its_fields(self, first: int) -> None:
        refused(wire.packet(first, b"\x00\x01\x00"))
