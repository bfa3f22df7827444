"""Chapters 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK."""

import pytest

from tests.conformance.conftest import Dial
from tests.wire import RESUMED, puback, publish, suback, subscribe, unsuback, unsubscribe

TOO_DEEP = "/".join("x" * 40)


def test_mqtt_3_9_3_1_one_code_for_each_filter_in_their_order(dial_any: Dial, unique: str) -> None:
    """A filter that cannot be granted (too many levels) is 0x80 in its place; the others hold."""
    client = dial_any().connected(unique)
    client.send(subscribe(4_660, (f"{unique}/a", 0), (TOO_DEEP, 1), (f"{unique}/b", 2), (f"{unique}/c", 1)))
    client.expect(suback(4_660, 0, 0x80, 2, 1))
    other = dial_any().connected(f"{unique}-other")
    for level in "abc":
        other.published(f"{unique}/{level}", b"x", qos=2)
    assert [client.take().qos for _ in range(3)] == [0, 2, 1]


@pytest.mark.parametrize("id", [1, 256, 65_535])
def test_mqtt_3_8_4_2_suback_and_unsuback_have_the_packet_id(dial: Dial, unique: str, id: int) -> None:
    client = dial().connected(unique)
    client.send(subscribe(id, (unique, 1)))
    client.expect(suback(id, 1))
    client.send(unsubscribe(id, unique))
    client.expect(unsuback(id))


def test_mqtt_3_8_4_3_a_repeated_subscription_replaces_the_qos(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique)
    other = dial_any().connected(f"{unique}-other")
    for qos in (0, 2, 1, 0):
        client.subscribed((unique, qos))
        other.published(unique, b"x", qos=2)
        assert client.take().qos == qos
        client.nothing()  # once, not once per SUBSCRIBE


def test_mqtt_3_8_4_3_a_repeated_subscription_sends_retained_messages_again(dial_any: Dial, unique: str) -> None:
    dial_any().connected(f"{unique}-other").published(unique, b"x", qos=1, retain=True)
    client = dial_any().connected(unique)
    for qos in (1, 1, 0):
        client.subscribed((unique, qos))
        found = client.take()
        assert (found.payload, found.retain, found.qos) == (b"x", True, qos)
        client.nothing()


def test_mqtt_3_8_4_3_nothing_is_missed_while_a_subscription_is_replaced(dial: Dial, unique: str) -> None:
    client = dial().connected(unique).subscribed((unique, 0))
    other = dial().connected(f"{unique}-other")
    wire = b"".join(publish(unique, str(number).encode()) for number in range(400))
    for _ in range(10):
        client.send(subscribe(2, (unique, 0)))
        other.send(wire)
    other.nothing()
    seen = [found for found in client.settled() if found != suback(2, 0)]
    assert seen == [publish(unique, str(number).encode()) for number in range(400)] * 10


def test_mqtt_3_8_4_4_many_filters_in_one_packet(dial: Dial, unique: str) -> None:
    filters = [(f"{unique}/{number}", number % 3) for number in range(500)]
    client = dial().connected(unique).subscribed(*filters)
    other = dial().connected(f"{unique}-other")
    for number in (0, 250, 499):
        other.published(f"{unique}/{number}", b"x", qos=2)
        assert client.take().qos == number % 3


def test_mqtt_3_8_4_4_the_same_filter_twice_in_one_packet(dial: Dial, unique: str) -> None:
    """As if there were two packets: the last one holds."""
    client = dial().connected(unique).subscribed((unique, 2), (unique, 0))
    dial().connected(f"{unique}-other").published(unique, b"x", qos=1)
    assert client.take().qos == 0
    client.nothing()


def test_mqtt_3_8_4_1_messages_may_follow_suback_and_never_precede_it(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-other").published(unique, b"kept", qos=1, retain=True)
    client = dial().connected(unique)
    client.send(subscribe(1, (unique, 1)), publish(unique, b"live"))
    client.expect(suback(1, 1))
    assert [client.publication().payload, client.publication().payload] == [b"kept", b"live"]


def test_mqtt_3_3_5_1_overlapping_subscriptions_give_one_message_with_the_highest_qos(
    dial_any: Dial, unique: str
) -> None:
    client = dial_any().connected(unique)
    client.subscribed((f"{unique}/a", 0), (f"{unique}/+", 2), (f"{unique}/#", 1))
    other = dial_any().connected(f"{unique}-other")
    other.published(f"{unique}/a", b"x", qos=2)
    assert client.take().qos == 2
    client.nothing()
    client.send(unsubscribe(9, f"{unique}/+"))
    client.expect(unsuback(9))
    other.published(f"{unique}/a", b"y", qos=2)
    assert client.take().qos == 1
    client.nothing()


def test_mqtt_3_10_4_2_unsubscribe_stops_new_messages(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique).subscribed((unique, 1), (f"{unique}/b", 1))
    client.send(unsubscribe(7, unique))
    client.expect(unsuback(7))
    other = dial_any().connected(f"{unique}-other")
    other.published(unique, b"x")
    other.published(f"{unique}/b", b"y")
    assert client.take().payload == b"y"
    client.nothing()


def test_mqtt_3_10_4_1_filters_are_compared_letter_by_letter(dial: Dial, unique: str) -> None:
    """Unsubscribing from a filter that matches the same topics takes nothing away."""
    client = dial().connected(unique).subscribed((f"{unique}/a", 1))
    client.send(unsubscribe(7, f"{unique}/+", f"{unique}/#", f"{unique}/A", f"{unique}/a/"))
    client.expect(unsuback(7))
    dial().connected(f"{unique}-other").published(f"{unique}/a", b"x")
    assert client.take().payload == b"x"


def test_mqtt_3_10_4_5_unsubscribe_is_answered_even_when_nothing_matches(dial: Dial, unique: str) -> None:
    client = dial().connected(unique)
    client.send(unsubscribe(7, "never/subscribed"))
    client.expect(unsuback(7))


def test_mqtt_3_10_4_6_many_filters_in_one_unsubscribe(dial: Dial, unique: str) -> None:
    filters = [f"{unique}/{number}" for number in range(100)]
    client = dial().connected(unique).subscribed(*((filter, 0) for filter in filters))
    client.send(unsubscribe(7, *filters[:99]))
    client.expect(unsuback(7))  # one for all
    other = dial().connected(f"{unique}-other")
    other.send(*(publish(filter, b"x") for filter in filters))
    assert client.publication().topic == filters[99]
    client.nothing()


def test_mqtt_3_10_4_3_unsubscribe_completes_what_is_under_way(dial: Dial, unique: str) -> None:
    """A delivery that has begun is not taken back: unacknowledged, it comes again at reconnect."""
    client = dial().connected(unique, clean=False).subscribed((unique, 1))
    dial().connected(f"{unique}-other").published(unique, b"x")
    before = client.publication()
    client.send(unsubscribe(7, unique))
    client.expect(unsuback(7))
    client.close()
    client = dial().connected(unique, clean=False, answer=RESUMED)
    assert client.publication() == before._replace(dup=True)
    client.send(puback(before.id))
    client.nothing()


def test_mqtt_3_8_4_5_a_client_gets_what_it_publishes_itself(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique).subscribed((unique, 0))
    client.send(publish(unique, b"me"))
    assert client.publication().payload == b"me"
