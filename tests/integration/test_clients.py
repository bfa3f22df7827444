"""Stock clients hold durable conversations with one another: any MQTT library is a messenger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.stock import CLIENTS, Aiomqtt, Mosquitto, MqttJs, Paho, PahoWebSocket, Stock
from tests.people import Person, bodies, people
from tests.servers import Aldis

Pair = tuple[type[Stock], Person, type[Stock], Person]

PAIRS = [
    (Paho, PahoWebSocket),
    (Paho, Mosquitto),
    (Mosquitto, MqttJs),
    (MqttJs, Paho),
    (PahoWebSocket, MqttJs),
    (Aiomqtt, Paho),
    (Mosquitto, Aiomqtt),
]


@contextmanager
def online(kind: type[Stock], person: Person, *, qos: int = 1, clean: bool = False) -> Iterator[Stock]:
    client = kind(person, qos=qos, clean=clean)
    client.start()
    try:
        yield client
    finally:
        client.stop()


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
def pair(request: pytest.FixtureRequest, embedded: Aldis) -> Pair:
    ada, bob = people(embedded, "ada", "bob")
    return request.param[0], ada, request.param[1], bob


def known(client: Stock, kind: str) -> int:
    """How far this receipt has come."""
    return max((one["up_to"] for one in client.documents("receipt") if one["type"] == kind), default=0)


def refused(client: Stock) -> list[dict[str, Any]]:
    return [one for one in client.documents("receipt") if one["type"] == "failed"]


def once(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without repeats of n, in the order of n."""
    return [one for _, one in sorted({one["n"]: one for one in documents}.items())]


def greets(me: Stock, you: Stock) -> None:
    """One message with all that is said of it: sent (or, where another device receives, its copy), delivered, read."""
    me.say(you.person, {"id": "m1", "body": "hi"})
    you.until(lambda: you.documents("chat"))
    (found,) = you.documents("chat")
    mid = found["mid"]
    assert list(found) == ["n", "mid", "ts", "id", "body"] and found["body"] == "hi"
    if me.separate_sender:
        me.until(lambda: me.documents("sync"))
        copy = me.documents("sync")[0]
        assert (copy["to"], copy["mid"], copy["message"]) == (you.user, mid, {"id": "m1", "body": "hi"})
    else:
        me.until(lambda: me.documents("receipt"))
        sent = me.documents("receipt")[0]
        assert sent == {"type": "sent", "id": "m1", "mid": mid, "ts": found["ts"]}
    me.until(lambda: known(me, "delivered") == mid)
    assert known(me, "read") == 0
    you.publish(f"inbox/{me.user}/receipt/{you.user}", [json.dumps({"type": "read", "up_to": mid})])
    me.until(lambda: known(me, "read") == mid)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_conversation(pair: Pair, qos: int) -> None:
    one, ada, other, bob = pair
    with online(one, ada, qos=qos) as first, online(other, bob, qos=qos) as second:
        greets(first, second)
        greets(second, first)


@pytest.mark.parametrize(("clean", "end"), [(True, "stop"), (False, "die")])
def test_what_is_said_to_someone_who_is_away(pair: Pair, clean: bool, end: str) -> None:
    """Politely or without a word: whoever comes back gets everything, once and in order, before anything live."""
    one, ada, other, bob = pair
    with online(one, ada) as first:
        before = other(bob, qos=1, clean=clean)
        before.start()
        first.say(bob, {"body": "there"})
        before.until(lambda: before.documents("chat"))
        getattr(before, end)()
        first.say(bob, *({"id": number, "body": number} for number in range(150)))
        with online(other, bob, clean=clean) as again:
            first.say(bob, {"body": "live"})
            again.until(lambda: "live" in bodies(again.documents("chat")))
            assert [body for body in bodies(once(again.documents("chat"))) if body != "there"] == [*range(150), "live"]


def test_many_at_once_in_both_directions(pair: Pair) -> None:
    one, ada, other, bob = pair
    numbers = range(1, 301)

    def takes(me: Stock, peer: Stock) -> None:
        me.until(lambda: len(me.documents("chat")) >= len(numbers) or refused(peer))
        assert refused(peer) == []
        assert bodies(me.documents("chat")) == list(numbers)
        peer.until(lambda: known(peer, "delivered") == me.documents("chat")[-1]["mid"])

    with online(one, ada) as first, online(other, bob) as second:
        for me, you in ((first, second), (second, first)):
            me.say(you.person, *({"id": number, "seq": number, "body": number} for number in numbers))
        takes(first, second)
        takes(second, first)


def test_the_lock_of_the_test_clients_names_no_registry() -> None:
    """It is installed from wherever npm is told to look."""
    lock = (CLIENTS / "package-lock.json").read_text()
    assert re.findall(r'"resolved": "(?!https://registry\.npmjs\.org/)[^"]*"', lock) == []
