"""Chapter 3.3.1.3: RETAIN. On the lab profile, and on a server that keeps what is retained in a store."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.conformance.conftest import Dial, dialler, name_of
from tests.servers import Aldis, profile, running
from tests.wire import RESUMED, Client, Published, publish

USER = "somebody"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """A server with a store, open to everyone. What lies below `devices/{user}/` goes there."""
    folder = tmp_path_factory.mktemp("stored")
    anonymous = profile(folder / "stored.yaml", "embedded", {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}})
    with running(folder, anonymous) as server:
        yield server


@pytest.fixture(params=["lab", "stored"])
def server(request: pytest.FixtureRequest) -> Aldis:
    found: Aldis = request.getfixturevalue(request.param)
    return found


def _named(open_one: Dial) -> Dial:
    """Clients of one user, to whom the topics belong."""

    def dial() -> Client:
        client = open_one()
        client.connected = partial(client.connected, user=USER)  # type: ignore[method-assign]
        return client

    return dial


@pytest.fixture
def dial(server: Aldis) -> Iterator[Dial]:
    yield from dialler(_named(server.tcp))


@pytest.fixture(params=["tcp", "websocket"])
def dial_any(request: pytest.FixtureRequest, server: Aldis) -> Iterator[Dial]:
    yield from dialler(_named(getattr(server, request.param)))


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    return f"devices/{USER}/{name_of(request)}"


def test_mqtt_3_3_1_6_a_new_subscription_gets_the_last_retained_message(dial_any: Dial, unique: str) -> None:
    other = dial_any().connected(f"{unique}-other")
    other.published(unique, b"first", retain=True)
    other.published(unique, b"second", retain=True)
    other.disconnect()  # [MQTT-3.1.2-7] it is no part of the publisher's session
    client = dial_any().connected(unique).subscribed((unique, 0))
    assert client.publication() == Published(unique, b"second", retain=True)
    client.nothing()


def test_mqtt_3_3_1_9_an_established_subscription_gets_it_as_news(dial_any: Dial, unique: str) -> None:
    client = dial_any().connected(unique).subscribed((unique, 2))
    dial_any().connected(f"{unique}-other").published(unique, b"x", qos=2, retain=True)
    found = client.take()
    assert (found.payload, found.retain) == (b"x", False)


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_mqtt_3_8_4_6_retained_at_the_minimum_of_both_qos(dial: Dial, unique: str, sent: int, granted: int) -> None:
    dial().connected(f"{unique}-other").published(unique, b"x", qos=sent, retain=True)
    found = dial().connected(unique).subscribed((unique, granted)).take()
    assert (found.payload, found.qos, found.retain, found.dup) == (b"x", min(sent, granted), True, False)


def test_mqtt_3_3_1_10_an_empty_payload_clears_it(dial_any: Dial, unique: str) -> None:
    """And goes to those subscribed as any message does."""
    client = dial_any().connected(unique).subscribed((unique, 0))
    other = dial_any().connected(f"{unique}-other")
    other.published(unique, b"x", retain=True)
    other.published(unique, b"", retain=True)
    assert [client.publication(), client.publication()] == [Published(unique, b"x"), Published(unique, b"")]
    dial_any().connected(f"{unique}-late").subscribed((unique, 0)).nothing()
    other.published(unique, b"", retain=True)  # [MQTT-3.3.1-11] nothing is stored where nothing was
    dial_any().connected(f"{unique}-later").subscribed((unique, 0)).nothing()


def test_mqtt_3_3_1_12_an_ordinary_message_leaves_it_alone(dial: Dial, unique: str) -> None:
    other = dial().connected(f"{unique}-other")
    other.published(unique, b"kept", retain=True)
    other.published(unique, b"passing")
    other.published(unique, b"")
    client = dial().connected(unique).subscribed((unique, 0))
    assert client.publication() == Published(unique, b"kept", retain=True)


def test_mqtt_3_3_1_7_qos_0_replaces_it_too(dial: Dial, unique: str) -> None:
    other = dial().connected(f"{unique}-other")
    other.published(unique, b"old", qos=2, retain=True)
    other.published(unique, b"new", qos=0, retain=True)
    client = dial().connected(unique).subscribed((unique, 2))
    assert client.publication() == Published(unique, b"new", retain=True)


def test_mqtt_3_3_1_6_wildcards_get_every_match_once(dial_any: Dial, unique: str) -> None:
    other = dial_any().connected(f"{unique}-other")
    for topic in ("a", "b", "a/b", "c/d/e"):
        other.published(f"{unique}/{topic}", topic.encode(), retain=True)
    client = dial_any().connected(unique)
    for filter, topics in (
        ("+", {"a", "b"}),
        ("#", {"a", "b", "a/b", "c/d/e"}),
        ("a/#", {"a", "a/b"}),
        ("+/b", {"a/b"}),
    ):
        client.subscribed((f"{unique}/{filter}", 0))
        found = [client.publication() for _ in topics]
        assert {one.payload.decode() for one in found} == topics
        assert all(one.retain for one in found)
        client.nothing()


def test_mqtt_3_3_1_6_each_filter_of_one_subscribe_gets_its_own(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-other").published(unique, b"x", qos=2, retain=True)
    client = dial().connected(unique).subscribed((unique, 0), (f"{unique}/#", 2))
    assert sorted([client.take().qos, client.take().qos]) == [0, 2]


def test_mqtt_3_3_1_6_only_subscribing_brings_it_not_resuming(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-other").published(unique, b"x", retain=True)
    client = dial().connected(unique, clean=False).subscribed((unique, 1))
    client.take()
    client.disconnect()
    dial().connected(unique, clean=False, answer=RESUMED).nothing()


def test_mqtt_3_3_1_8_an_unacknowledged_retained_message_comes_again_as_retained(dial: Dial, unique: str) -> None:
    dial().connected(f"{unique}-other").published(unique, b"x", retain=True)
    client = dial().connected(unique, clean=False).subscribed((unique, 1))
    before = client.publication()
    client.close()
    client = dial().connected(unique, clean=False, answer=RESUMED)
    assert client.publication() == before._replace(dup=True)


def test_retained_messages_are_bounded(dial_short: Dial, unique: str) -> None:
    """Three topics (`SHORT`): a fourth is delivered but not kept; the three may change, and room is given back."""
    other = dial_short().connected(f"{unique}-other")
    for topic in "abcd":
        other.published(f"{unique}/{topic}", b"1", retain=True)
    other.published(f"{unique}/a", b"2", retain=True)

    def kept(name: str) -> dict[str, bytes]:
        client = dial_short().connected(f"{unique}-{name}").subscribed((f"{unique}/#", 0))
        found = client.settled()
        return {topic: payload for topic in "abcd" for payload in (b"1", b"2") if retained(topic, payload) in found}

    def retained(topic: str, payload: bytes) -> bytes:
        return publish(f"{unique}/{topic}", payload, retain=True)

    assert kept("one") == {"a": b"2", "b": b"1", "c": b"1"}
    other.published(f"{unique}/b", b"", retain=True)
    other.published(f"{unique}/d", b"2", retain=True)
    assert kept("two") == {"a": b"2", "c": b"1", "d": b"2"}
    for topic in "acd":
        other.published(f"{unique}/{topic}", b"", retain=True)
    assert kept("three") == {}
