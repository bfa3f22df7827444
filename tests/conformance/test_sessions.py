"""Chapters 3.1.2.4 and 4.1: what a session keeps, for how long, and how much."""

import time

import pytest

from tests.conformance.conftest import Dial
from tests.servers import Aldis
from tests.wire import ACCEPTED, RESUMED, puback


@pytest.mark.parametrize("end", ["disconnect", "close"])
def test_mqtt_3_1_2_5_a_persistent_session_keeps_qos_1_and_2(dial_any: Dial, unique: str, end: str) -> None:
    """Subscriptions and messages wait; what comes later is news, not retained, and in order."""
    client = dial_any().connected(unique, clean=False).subscribed((f"{unique}/#", 2))
    getattr(client, end)()
    other = dial_any().connected(f"{unique}-other")
    for number in range(20):
        other.published(f"{unique}/{number % 3}", str(number).encode(), qos=1 + number % 2)
    client = dial_any().connected(unique, clean=False, answer=RESUMED)
    found = [client.take() for _ in range(20)]
    assert [one.payload for one in found] == [str(number).encode() for number in range(20)]
    assert [one.qos for one in found] == [1, 2] * 10
    assert not any(one.retain or one.dup for one in found)
    client.nothing()


def test_mqtt_3_1_2_5_qos_0_is_not_kept_for_an_absent_client(dial: Dial, unique: str) -> None:
    dial().connected(unique, clean=False).subscribed((unique, 2)).disconnect()
    dial().connected(f"{unique}-other").published(unique, b"x", qos=0)
    dial().connected(unique, clean=False, answer=RESUMED).nothing()


def test_mqtt_3_1_2_6_a_clean_session_forgets_everything(dial_any: Dial, unique: str) -> None:
    dial_any().connected(unique, clean=False).subscribed((unique, 1)).disconnect()
    other = dial_any().connected(f"{unique}-other")
    other.published(unique, b"x")
    client = dial_any().connected(unique, clean=True, answer=ACCEPTED)
    other.published(unique, b"y")
    client.nothing()
    client.disconnect()
    client = dial_any().connected(unique, clean=False, answer=ACCEPTED)
    other.published(unique, b"z")
    client.nothing()


def test_mqtt_3_1_2_6_a_clean_session_ends_with_its_connection(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique, clean=True).subscribed((unique, 1))
    client.close()
    dial_any().connected(f"{unique}-other").published(unique, b"x")
    dial_any().connected(unique, clean=False, answer=ACCEPTED).nothing()


def test_mqtt_3_1_2_4_a_resumed_session_needs_no_new_subscription(dial_any: Dial, unique: str) -> None:
    dial_any().connected(unique, clean=False).subscribed((f"{unique}/+", 1), (f"{unique}/x/#", 0)).disconnect()
    client = dial_any().connected(unique, clean=False, answer=RESUMED)
    other = dial_any().connected(f"{unique}-other")
    other.published(f"{unique}/a", b"1", qos=2)
    other.published(f"{unique}/x/y", b"2", qos=2)
    assert [(found.payload, found.qos) for found in (client.take(), client.take())] == [(b"1", 1), (b"2", 0)]


def test_mqtt_3_1_2_4_an_unsubscribed_filter_stays_away(dial: Dial, unique: str) -> None:
    client = dial().connected(unique, clean=False).subscribed((unique, 1), (f"{unique}/b", 1))
    client.send(b"\xa2" + bytes((4 + len(unique),)) + b"\x00\x09" + len(unique).to_bytes(2, "big") + unique.encode())
    client.expect(b"\xb0\x02\x00\x09")
    client.disconnect()
    other = dial().connected(f"{unique}-other")
    other.published(unique, b"gone")
    other.published(f"{unique}/b", b"kept")
    client = dial().connected(unique, clean=False, answer=RESUMED)
    assert client.take().payload == b"kept"
    client.nothing()


def test_mqtt_4_1_0_1_a_session_expires_after_its_time(short: Aldis, dial_short: Dial, unique: str) -> None:
    """One second (`SHORT`), counted from the end of the connection; a connected session does not expire."""
    client = dial_short().connected(unique, clean=False).subscribed((unique, 1))
    time.sleep(1.6)
    client.nothing()
    client.close()
    client = dial_short().connected(unique, clean=False, answer=RESUMED)
    client.close()
    short.logged(f"session expired.*{unique}", timeout=5)
    dial_short().connected(f"{unique}-other").published(unique, b"x")
    client = dial_short().connected(unique, clean=False, answer=ACCEPTED)
    client.nothing()


def test_an_absent_session_holds_a_bounded_number_of_messages(dial_short: Dial, unique: str) -> None:
    """Five wait (`SHORT`); the newest are dropped, and those there stay in order."""
    dial_short().connected(unique, clean=False).subscribed((unique, 1)).disconnect()
    other = dial_short().connected(f"{unique}-other")
    for number in range(12):
        other.published(unique, str(number).encode())
    client = dial_short().connected(unique, clean=False, answer=RESUMED)
    found = []
    while len(found) < 5:
        one = client.publication()
        found.append(one.payload)
        client.send(puback(one.id))
    assert found == [b"0", b"1", b"2", b"3", b"4"]
    client.nothing()
    other.published(unique, b"after")
    assert client.take().payload == b"after"
