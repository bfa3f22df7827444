"""The statements that the chapters' own tests pass by: what every packet from the server looks like, fields in their
order, and the flows that only show with several messages under way."""

import pytest

from tests.conformance.conftest import Dial
from tests.wire import (
    ACCEPTED,
    PINGREQ,
    PINGRESP,
    RESUMED,
    Client,
    Will,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    published,
    pubrec,
    pubrel,
    refused,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

FLAGS = {0x20: 0, 0x40: 0, 0x50: 0, 0x60: 2, 0x70: 0, 0x90: 0, 0xB0: 0, 0xD0: 0}
"""The reserved flag bits of everything that a server sends, PUBLISH aside."""


def test_mqtt_2_2_2_1_flags_of_every_packet_that_the_server_sends(dial_any: Dial, unique: str) -> None:
    """All eight packet types in one conversation; PUBREL is the one with a bit set [MQTT-3.6.1-1]."""
    client = dial_any()
    client.send(connect(unique))
    found = [client.packet()]
    client.send(subscribe(1, (unique, 2)), publish(unique, b"x", qos=2, id=2), pubrel(2), unsubscribe(3, "nothing"))
    client.send(publish("elsewhere", qos=1, id=4))
    found += client.settled()
    message = published(next(wire for wire in found if wire[0] >> 4 == 3))
    client.send(pubrec(message.id))
    found.append(client.packet())
    client.send(PINGREQ)
    found.append(client.packet())
    answers = [wire for wire in found if wire[0] >> 4 != 3]
    assert {wire[0] for wire in answers} == {kind | flags for kind, flags in FLAGS.items()}


def test_mqtt_2_3_1_4_what_the_server_publishes_has_an_id_of_its_own(dial_any: Dial, unique: str) -> None:
    """Not 0, not one that is in use, and none at all at QoS 0 [MQTT-2.3.1-5]."""
    client = dial_any().connected(unique).subscribed((f"{unique}/1", 1), (f"{unique}/0", 0))
    for number in range(20):
        client.send(publish(f"{unique}/1", bytes((number,)), qos=1, id=number + 1))
        client.send(publish(f"{unique}/0", bytes((number,)), qos=1, id=number + 101))
    found = [published(wire) for wire in client.settled() if wire[0] >> 4 == 3]
    ids = [message.id for message in found if message.qos == 1]
    assert len(set(ids)) == len(ids) == 20
    assert 0 not in ids
    assert [len(message.payload) for message in found if message.qos == 0] == [1] * 20


def test_mqtt_2_3_1_6_and_7_answers_carry_the_id_they_answer(dial_any: Dial, unique: str) -> None:
    """[MQTT-2.3.1-6], [MQTT-2.3.1-7], [MQTT-3.10.4-4], [MQTT-3.3.4-1]"""
    client = dial_any().connected(unique)
    for id in (1, 0x00FF, 0x0100, 0xFFFF):
        client.send(publish("elsewhere", qos=1, id=id), publish("elsewhere", qos=2, id=id ^ 0x1234))
        client.send(pubrel(id ^ 0x1234), subscribe(id, (unique, 1)), unsubscribe(id, unique), publish("elsewhere"))
        client.expect(puback(id), pubrec(id ^ 0x1234), pubcomp(id ^ 0x1234), suback(id, 1), unsuback(id))
    client.nothing()


def test_mqtt_3_1_2_12_without_a_will_nothing_is_published(dial: Dial, unique: str) -> None:
    """Nor is the will of an earlier connection of the same session [MQTT-3.1.2-12]."""
    watcher = dial().connected(f"{unique}-watcher").subscribed((f"{unique}/will", 1))
    dial().connected(unique, clean=False, will=Will(f"{unique}/will", b"gone")).disconnect()
    second = dial().connected(unique, RESUMED, clean=False)
    second.close()
    dial().connected(unique, RESUMED, clean=False)
    watcher.nothing()


def test_mqtt_3_1_2_18_to_21_flags_and_fields_go_together(dial: Dial, unique: str) -> None:
    """[MQTT-3.1.2-18], [MQTT-3.1.2-19], [MQTT-3.1.2-20], [MQTT-3.1.2-21]: with their flags the fields are read, and a
    field without its flag is one byte too many."""
    for options in ({}, {"user": "someone"}, {"user": "someone", "password": "secret"}):
        dial().connected(unique, **options).disconnect()
    for flags, fields in (
        (0x02, text("user")),
        (0x82, text("user") + text("secret")),
        (0x82, b""),
        (0xC2, text("user")),
    ):
        client = dial()
        client.send(packet(0x10, text("MQTT") + bytes((4, flags, 0, 0)) + text(unique) + fields))
        assert client.closed() == []


def test_mqtt_3_1_3_1_the_payload_is_read_in_its_order(dial: Dial, unique: str) -> None:
    """Client identifier first [MQTT-3.1.3-3], then will topic, will message, user name, password."""
    watcher = dial().connected(f"{unique}-watcher").subscribed((f"{unique}/will", 1))
    body = text("MQTT") + bytes((4, 0xC6, 0, 0))
    body += text(unique) + text(f"{unique}/will") + text(b"\x00\xff") + text("someone") + text(b"\xfe")
    client = dial()
    client.send(packet(0x10, body))
    # the password is no text, which is allowed; the lab profile asks for none
    if client.packet() == ACCEPTED:
        client.close()
        assert watcher.publication().payload == b"\x00\xff"
    dial().connected(unique, user="someone", password="secret", will=Will(f"{unique}/will", b"in order")).close()
    found = [watcher.publication().payload]
    assert found == [b"in order"]


def test_mqtt_3_1_3_2_the_identifier_names_the_session(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-a", clean=False).subscribed((unique, 1)).disconnect()
    dial().connected(f"{unique}-b", clean=False).disconnect()
    dial().connected(f"{unique}-sender").published(unique, b"for a")
    dial().connected(f"{unique}-b", RESUMED, clean=False).nothing()
    assert dial().connected(f"{unique}-a", RESUMED, clean=False).take().payload == b"for a"


def test_mqtt_3_1_3_9_a_refused_identifier_is_answered_with_2(dial: Dial) -> None:
    client = dial()
    client.send(connect("", clean=False))
    assert client.closed() == [refused(2)]


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"a\0b"], ids=["bytes", "surrogate", "nul"])
def test_mqtt_3_1_3_11_the_user_name_is_utf_8(dial: Dial, unique: str, bad: bytes) -> None:
    client = dial()
    client.send(packet(0x10, text("MQTT") + bytes((4, 0x82, 0, 0)) + text(unique) + text(bad)))
    assert client.closed() == []


def test_mqtt_3_1_4_3_clean_session_and_session_present(dial_any: Dial, unique: str) -> None:
    """[MQTT-3.1.4-4], [MQTT-3.2.2-1], [MQTT-3.2.2-2], [MQTT-3.2.2-3]: 0 for a new session, 1 for a stored one, 0 for a
    clean one, and 0 again after it."""
    for clean, answer in ((False, ACCEPTED), (False, RESUMED), (True, ACCEPTED), (False, ACCEPTED), (False, RESUMED)):
        dial_any().connected(unique, answer, clean=clean).disconnect()


def test_mqtt_3_2_0_1_connack_is_the_first_packet(dial_any: Dial, unique: str) -> None:
    """Also when messages are waiting, and when the client does not wait for it."""
    dial_any().connected(unique, clean=False).subscribed((unique, 1)).disconnect()
    sender = dial_any().connected(f"{unique}-sender")
    for number in range(5):
        sender.published(unique, bytes((number,)))
    client = dial_any()
    client.send(connect(unique, clean=False), PINGREQ)
    assert client.packet() == RESUMED


def test_mqtt_3_2_2_6_what_has_no_return_code_is_closed_without_connack(dial: Dial) -> None:
    client = dial()
    client.send(connect("x", protocol=("MQXX", 4)))
    assert client.closed() == []


def test_mqtt_3_3_1_5_retained_with_its_qos(dial: Dial, unique: str) -> None:
    """The stored message keeps the QoS it came with: a subscription at a higher one does not raise it."""
    sender = dial().connected(f"{unique}-sender")
    for qos in (0, 1, 2):
        sender.published(f"{unique}/{qos}", b"x", qos=qos, id=qos + 1, retain=True)
    client = dial().connected(unique)
    client.send(subscribe(1, (f"{unique}/+", 2)))
    client.expect(suback(1, 2))
    found = [published(wire) for wire in client.settled()]
    assert sorted((message.topic[-1], message.qos, message.retain) for message in found) == [
        ("0", 0, True),
        ("1", 1, True),
        ("2", 2, True),
    ]


def test_mqtt_3_3_2_1_and_3_topics_of_what_is_delivered(dial_any: Dial, unique: str) -> None:
    """[MQTT-3.3.2-1], [MQTT-3.3.2-3], [MQTT-4.7.3-4], [MQTT-4.7.1-1]: the topic comes as it was sent, byte by byte."""
    topics = [f"{unique}/ä", f"{unique}/a\u0308", f"{unique}/Ä", f"{unique}/ ", f"{unique}//", f"{unique}/\ufeff"]
    client = dial_any().connected(unique).subscribed((f"{unique}/#", 0))
    for topic in topics:
        client.send(publish(topic, topic.encode()))
    found = [published(wire) for wire in client.settled()]
    assert [(message.topic, message.payload.decode()) for message in found] == [(topic, topic) for topic in topics]
    one = dial_any().connected(f"{unique}-one").subscribed((topics[0], 0))
    client.send(publish(topics[1], b"decomposed"), publish(topics[0], b"composed"))
    client.settled()
    assert one.publication().payload == b"composed"
    one.nothing()


def test_mqtt_3_8_3_1_filters_are_utf_8(dial: Dial, unique: str) -> None:
    """[MQTT-3.10.3-1], [MQTT-4.7.3-2]"""
    for bad in (b"\xff", b"\xed\xa0\x80", b"a\0b"):
        for first, body in ((0x82, text(bad) + b"\0"), (0xA2, text(bad))):
            client = dial().connected(unique)
            client.send(packet(first, b"\0\1" + body))
            assert client.closed() == []


def test_mqtt_3_9_3_2_only_the_return_codes_that_there_are(dial: Dial, unique: str) -> None:
    client = dial().connected(unique)
    client.send(subscribe(9, ("a", 0), ("b", 1), ("c", 2), ("/".join("x" * 40), 1)))
    client.expect(suback(9, 0, 1, 2, 0x80))


@pytest.mark.parametrize("bad", ["a+", "+a", "a/b+/c", "++"])
def test_mqtt_4_7_1_3_plus_is_a_whole_level(dial: Dial, unique: str, bad: str) -> None:
    client = dial().connected(unique)
    client.send(subscribe(1, (bad, 0)))
    assert client.closed() == []


def test_mqtt_4_1_0_2_a_session_lasts_as_long_as_its_connection(dial: Dial, unique: str) -> None:
    """A clean one too: subscriptions and flows are there until the end [MQTT-4.3.1-1]."""
    client = dial().connected(unique).subscribed((unique, 2))
    other = dial().connected(f"{unique}-other")
    for number in range(300):
        other.send(publish(unique, b"%d" % number))
    other.settled()
    found = [published(wire) for wire in client.settled()]
    assert [(int(message.payload), message.qos, message.dup) for message in found] == [
        (n, 0, False) for n in range(300)
    ]


def test_mqtt_3_3_5_2_a_publish_that_is_not_allowed_is_acknowledged_all_the_same(dial: Dial, unique: str) -> None:
    """On the lab profile only the server's own topics are forbidden: acknowledged, and delivered to nobody."""
    watcher = dial().connected(f"{unique}-watcher").subscribed(("$SYS/#", 1))
    watcher.settled()
    client = dial().connected(unique)
    client.send(publish("$SYS/broker/version", b"mine", qos=1, id=7), PINGREQ)
    answers = client.closed() if (first := client.packet()) not in (puback(7), PINGRESP) else [first]
    assert all(wire in (puback(7), PINGRESP) for wire in answers)
    assert not [wire for wire in watcher.settled() if b"mine" in wire]


def test_mqtt_4_5_0_1_what_was_acknowledged_is_in_every_session(dial: Dial, unique: str) -> None:
    """Those that are connected, and those that are away."""
    for name in ("a", "b"):
        dial().connected(f"{unique}-{name}", clean=False).subscribed((unique, 1)).disconnect()
    here = dial().connected(f"{unique}-here").subscribed((unique, 1))
    sender = dial().connected(f"{unique}-sender")
    for number in range(10):
        sender.published(unique, b"%d" % number, id=number + 1)
    sender.close()
    clients: list[Client] = [here]
    clients += [dial().connected(f"{unique}-{name}", RESUMED, clean=False) for name in ("a", "b")]
    for client in clients:
        assert [int(client.take().payload) for _ in range(10)] == list(range(10))


def test_mqtt_4_6_0_1_again_in_the_order_of_the_first_time(dial: Dial, unique: str) -> None:
    """[MQTT-4.4.0-1]: same ids, same order, DUP set, QoS 1 and 2 mixed."""
    client = dial().connected(unique, clean=False).subscribed((unique, 2))
    sender = dial().connected(f"{unique}-sender")
    for number in range(6):
        sender.published(unique, b"%d" % number, qos=1 + number % 2, id=number + 1)
    first = [published(wire) for wire in client.settled()]
    client.close()
    again = [published(wire) for wire in dial().connected(unique, RESUMED, clean=False).settled()]
    assert [(m.id, m.payload, m.qos) for m in again] == [(m.id, m.payload, m.qos) for m in first]
    assert all(message.dup for message in again)
    assert not any(message.dup for message in first)


def test_mqtt_4_6_0_3_pubrecs_in_order(dial_any: Dial, unique: str) -> None:
    """[MQTT-4.6.0-2] for PUBACKs in the same stream."""
    client = dial_any().connected(unique)
    client.send(*(publish("elsewhere", qos=1 + id % 2, id=id) for id in range(1, 21)))
    client.expect(*(pubrec(id) if id % 2 else puback(id) for id in range(1, 21)))


def test_mqtt_4_6_0_4_pubrels_in_the_order_of_the_pubrecs(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique).subscribed((unique, 2))
    client.send(*(publish(unique, qos=2, id=id) + pubrel(id) for id in range(1, 6)))
    ids = [published(wire).id for wire in client.settled() if wire[0] >> 4 == 3]
    backwards = ids[::-1]
    client.send(*(pubrec(id) for id in backwards))
    client.expect(*(pubrel(id) for id in backwards))
