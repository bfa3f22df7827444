"""Chapters 3.3 to 3.7 and 4.3 to 4.6: the three qualities of service, both ways, packet ids, redelivery, order."""

import time

import pytest

from tests.conformance.conftest import Dial
from tests.wire import (
    ACCEPTED,
    PINGREQ,
    RESUMED,
    Client,
    puback,
    pubcomp,
    publish,
    published,
    pubrec,
    pubrel,
)

# From the client to the server


def watcher(dial: Dial, topic: str, qos: int = 0) -> Client:
    return dial().connected(f"{topic}-watcher").subscribed((topic, qos))


def test_mqtt_4_3_1_qos_0_is_not_answered(dial_any: Dial, unique: str) -> None:
    other = watcher(dial_any, unique)
    client = dial_any().connected(unique)
    client.send(publish(unique, b"x"))
    client.nothing()
    assert other.publication().payload == b"x"


def test_mqtt_4_3_2_qos_1_is_answered_with_its_packet_id(dial_any: Dial, unique: str) -> None:
    other = watcher(dial_any, unique)
    client = dial_any().connected(unique)
    for id in (1, 255, 256, 65_535, 1):  # an acknowledged id is free for a new message
        client.published(unique, str(id).encode(), qos=1, id=id)
        assert other.publication().payload == str(id).encode()


def test_mqtt_4_3_2_2_qos_1_after_its_puback_is_a_new_message(dial: Dial, unique: str) -> None:
    """Even with DUP: the server has forgotten the id."""
    other = watcher(dial, unique)
    client = dial().connected(unique)
    client.published(unique, b"x", id=5)
    client.send(publish(unique, b"x", qos=1, id=5, dup=True))
    client.expect(puback(5))
    assert [other.publication().payload, other.publication().payload] == [b"x", b"x"]


def test_mqtt_4_3_3_qos_2(dial_any: Dial, unique: str) -> None:
    """Exactly once: a repeat before PUBREL is answered and not delivered again."""
    other = watcher(dial_any, unique)
    client = dial_any().connected(unique)
    first = publish(unique, b"x", qos=2, id=8)
    client.send(first)
    client.expect(pubrec(8))
    client.send(first[:1].replace(b"\x34", b"\x3c") + first[1:])
    client.expect(pubrec(8))
    client.send(pubrel(8), pubrel(8))
    client.expect(pubcomp(8), pubcomp(8))
    assert other.publication().payload == b"x"
    other.nothing()
    client.published(unique, b"y", qos=2, id=8)  # the id is free again
    assert other.publication().payload == b"y"


def test_mqtt_4_3_3_2_pubrel_of_an_unknown_id_is_answered(dial: Dial, unique: str) -> None:
    client = dial().connected(unique)
    client.send(pubrel(321))
    client.expect(pubcomp(321))


def test_mqtt_4_3_3_qos_2_across_connections(dial_any: Dial, unique: str) -> None:
    """The ids of a persistent session are remembered; those of a clean one are not."""
    other = watcher(dial_any, unique)
    client = dial_any().connected(unique, clean=False)
    client.send(publish(unique, b"x", qos=2, id=8))
    client.expect(pubrec(8))
    client.close()
    client = dial_any().connected(unique, clean=False, answer=RESUMED)
    client.send(publish(unique, b"x", qos=2, id=8, dup=True))
    client.expect(pubrec(8))
    client.send(pubrel(8))
    client.expect(pubcomp(8))
    assert other.publication().payload == b"x"
    other.nothing()

    client.send(publish(unique, b"y", qos=2, id=8))
    client.expect(pubrec(8))
    client.close()
    client = dial_any().connected(unique, clean=True)
    client.send(publish(unique, b"y", qos=2, id=8))
    client.expect(pubrec(8))
    assert [other.publication().payload, other.publication().payload] == [b"y", b"y"]


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_6_0_2_acknowledgements_in_the_order_of_the_publishes(dial_any: Dial, unique: str, qos: int) -> None:
    client = dial_any().connected(unique)
    ids = [*range(500, 0, -1), *range(501, 700)]
    client.send(*(publish(unique, b"x", qos=qos, id=id) for id in ids))
    client.expect(*((puback if qos == 1 else pubrec)(id) for id in ids))
    if qos == 2:
        client.send(*map(pubrel, ids))
        client.expect(*map(pubcomp, ids))


# From the server to the client


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_mqtt_3_8_4_6_the_minimum_of_both_qos(dial_any: Dial, unique: str, sent: int, granted: int) -> None:
    client = dial_any().connected(unique).subscribed((unique, granted))
    dial_any().connected(f"{unique}-other").published(unique, b"x", qos=sent)
    found = client.take()
    assert (found.payload, found.qos, found.dup, found.retain) == (b"x", min(sent, granted), False, False)
    assert (found.id != 0) == (found.qos > 0)
    client.nothing()


def test_mqtt_3_3_1_3_dup_is_not_passed_on(dial: Dial, unique: str) -> None:
    client = watcher(dial, unique, 2)
    other = dial().connected(unique)
    other.send(publish(unique, b"x", qos=1, id=1, dup=True), publish(unique, b"y", qos=2, id=2, dup=True))
    assert [client.publication().dup, client.publication().dup] == [False, False]


def test_mqtt_2_3_1_packet_ids_of_the_two_directions_are_apart(dial: Dial, unique: str) -> None:
    client = dial().connected(unique).subscribed((unique, 2))
    client.send(publish(unique, b"x", qos=2, id=1))
    found = {wire[0] >> 4: wire for wire in (client.packet(), client.packet())}
    assert found[5] == pubrec(1)
    mine = published(found[3])
    assert mine.id == 1  # the server's own first id, the same as ours
    client.send(pubrec(1), pubrel(1))
    assert {client.packet(), client.packet()} == {pubrel(1), pubcomp(1)}
    client.send(pubcomp(1))
    client.nothing()


def test_mqtt_2_3_1_packet_ids_are_reused_only_after_the_acknowledgement(dial: Dial, unique: str) -> None:
    """All 65,535 ids once round, while one delivery stays unacknowledged: its id is passed over."""
    client = dial().connected(unique).subscribed((unique, 1))
    other = dial().connected(f"{unique}-other")
    other.published(unique, b"kept")
    kept = client.publication().id
    size = 90
    batch = [publish(unique, b"", qos=1, id=id) for id in range(1, size + 1)]
    used = []
    for _ in range(66_000 // size):
        other.send(*batch)
        ids = [int.from_bytes(client.packet()[-2:], "big") for _ in range(size)]
        client.send(*map(puback, ids))
        other.expect(*map(puback, range(1, size + 1)))
        used += ids
    assert kept not in used and 0 not in used
    assert len(set(used[:65_534])) == 65_534
    client.send(puback(kept))
    client.nothing()


def test_mqtt_4_4_0_1_redelivery_in_the_original_order(dial_any: Dial, unique: str) -> None:
    """At reconnect everything unacknowledged comes again, with DUP and the old ids, and before anything newer."""
    client = dial_any().connected(unique, clean=False).subscribed((unique, 2))
    other = dial_any().connected(f"{unique}-other")
    for number in range(8):
        other.published(unique, str(number).encode(), qos=1 + number % 2, id=number + 1)
    first = [client.publication() for _ in range(8)]
    assert [found.payload for found in first] == [str(number).encode() for number in range(8)]
    client.send(puback(first[2].id), pubrec(first[5].id))
    client.expect(pubrel(first[5].id))
    client.close()
    other.published(unique, b"newer", qos=1)

    client = dial_any().connected(unique, clean=False, answer=RESUMED)
    again: list[object] = []
    while len(again) < 8:
        wire = client.packet()
        again.append(wire if wire == pubrel(first[5].id) else published(wire))
    newer = again.pop()
    assert (
        again
        == [
            *(found._replace(dup=True) for found in first[:2]),
            *(found._replace(dup=True) for found in first[3:5]),
            pubrel(first[5].id),  # received: only the rest of the flow is repeated [MQTT-4.3.3-1]
            *(found._replace(dup=True) for found in first[6:]),
        ]
    )
    assert (newer.payload, newer.dup) == (b"newer", False)  # type: ignore[attr-defined]


def test_mqtt_4_3_2_1_what_is_acknowledged_does_not_come_again(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique, clean=False).subscribed((unique, 2))
    other = dial_any().connected(f"{unique}-other")
    other.published(unique, b"one", qos=1)
    other.published(unique, b"two", qos=2)
    client.take()
    client.take()
    client.nothing()
    client.close()
    dial_any().connected(unique, clean=False, answer=RESUMED).nothing()


def test_mqtt_4_3_3_1_pubrec_of_a_message_that_is_gone_is_answered(dial: Dial, unique: str) -> None:
    """A client that lost our PUBREL together with its session must be able to end the flow."""
    client = dial().connected(unique)
    client.send(pubrec(4711))
    client.expect(pubrel(4711))
    client.send(pubcomp(4711), puback(4711))
    client.nothing()


def test_mqtt_4_4_0_1_repeated_disconnections_keep_the_first_order(dial: Dial, unique: str) -> None:
    client = dial().connected(unique, clean=False).subscribed((unique, 1))
    other = dial().connected(f"{unique}-other")
    for number in range(20):
        other.published(unique, bytes((number,)))
    seen: dict[int, bytes] = {}
    for round in range(4):
        found = [client.publication() for _ in range(20 - 5 * round)]
        assert [one.payload for one in found] == [bytes((number,)) for number in range(5 * round, 20)]
        assert all(seen.setdefault(one.id, one.payload) == one.payload for one in found)
        client.send(*(puback(one.id) for one in found[:5]))
        client.nothing()
        client.close()
        client = dial().connected(unique, clean=False, answer=RESUMED)
    client.nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_6_messages_of_one_sender_stay_in_order(dial_any: Dial, unique: str, qos: int) -> None:
    client = dial_any().connected(unique).subscribed((unique, qos))
    other = dial_any().connected(f"{unique}-other")
    expected = [str(number).encode() for number in range(300)]
    for start in range(0, 300, 50):
        ids = range(start + 1, start + 51)
        other.send(*(publish(unique, expected[id - 1], qos=qos, id=id) for id in ids))
        assert [client.take().payload for _ in ids] == expected[start : start + 50]
        if qos:
            other.expect(*((puback if qos == 1 else pubrec)(id) for id in ids))
        if qos == 2:
            other.send(*map(pubrel, ids))
            other.expect(*map(pubcomp, ids))


def test_mqtt_4_6_0_5_a_full_window_holds_back_the_rest_in_order(dial_short: Dial, unique: str) -> None:
    """Window 3, queue 5 (`SHORT`): three deliveries, then one more for each acknowledgement, whatever its order."""
    client = dial_short().connected(unique).subscribed((unique, 1))
    other = dial_short().connected(f"{unique}-other")
    for number in range(8):
        other.published(unique, str(number).encode())
    first = [client.publication() for _ in range(3)]
    assert [one.payload for one in first] == [b"0", b"1", b"2"]
    client.nothing()
    for position, number in ((2, b"3"), (0, b"4"), (1, b"5")):
        client.send(puback(first[position].id))
        assert client.publication().payload == number
    client.nothing()


def test_a_silent_subscriber_is_asked_again_only_by_time(dial: Dial, unique: str) -> None:
    """[MQTT-4.4.0-1] no repeat within a connection unless the acknowledge time-out (20 s) has passed."""
    client = dial().connected(unique).subscribed((unique, 1))
    dial().connected(f"{unique}-other").published(unique, b"x")
    client.publication()
    time.sleep(0.6)
    client.nothing()


def test_empty_and_large_payloads(dial_any: Dial, unique: str) -> None:
    """Remaining lengths of one to three bytes, at their edges."""
    client = dial_any().connected(unique).subscribed((unique, 1))
    overhead = len(unique) + 4
    for size in (0, 127 - overhead, 128 - overhead, 16_383 - overhead, 16_384 - overhead, 200_000):
        payload = bytes(range(256)) * (size // 256 + 1)
        client.send(publish(unique, payload[:size], qos=1, id=1))
        found = [client.packet(), client.packet()]
        delivered = next(published(wire) for wire in found if wire != puback(1))
        assert delivered.payload == payload[:size]
        client.send(puback(delivered.id))


def test_a_remaining_length_in_more_bytes_than_needed_is_understood(dial: Dial, unique: str) -> None:
    """[2.2.3] the standard does not forbid it; the packet is passed on in the short form."""
    client = dial().connected(unique).subscribed((unique, 1))
    plain = publish(unique, b"x", qos=1, id=3)
    client.send(plain[:1] + bytes((plain[1] | 0x80, 0x80, 0x00)) + plain[2:])
    found = {wire[0] >> 4: wire for wire in (client.packet(), client.packet())}
    assert found[4] == puback(3)
    assert found[3] == publish(unique, b"x", qos=1, id=published(found[3]).id)


def test_mqtt_3_12_4_1_a_ping_is_answered(dial_any: Dial, unique: str) -> None:
    client = dial_any()
    client.connected(unique, ACCEPTED)
    client.send(PINGREQ, PINGREQ)
    client.expect(b"\xd0\x00", b"\xd0\x00")
