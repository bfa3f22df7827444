"""Who is there, as stock clients see it: on one server, and over the nodes of a cluster of real processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.cluster import Cluster
from tests.clusters import clustered, entrances
from tests.integration.stock import Mosquitto, Paho, Stock
from tests.people import Device, Person, people
from tests.servers import Aldis

pytestmark = pytest.mark.timeout(120)
GRACE = 3.0


def told(client: Stock | Device, of: Person) -> list[bool]:
    """What this client was told of the friend: online or not, in order."""
    topic = f"inbox/{client.user}/presence/{of.user}"
    if isinstance(client, Stock):
        return [document["online"] for where, document in client.received if where == topic]
    return [one.document["online"] for one in client.journal if one.topic == topic]


@pytest.mark.parametrize("kind", [Paho, Mosquitto])
def test_stock_clients_see_who_comes_and_goes(embedded: Aldis, kind: type[Stock]) -> None:
    ada, bob = people(embedded, "ada", "bob")
    (mallory,) = people(embedded, "mallory")
    watcher, stranger = kind(ada, qos=1, clean=True), Paho(mallory, qos=1, clean=True)
    watcher.start()
    stranger.start()
    other = Paho(bob, qos=1, clean=True)
    other.start()
    watcher.until(lambda: told(watcher, bob) == [True])
    other.until(lambda: told(other, ada) == [True])
    begun = time.time()
    other.die()
    again = Paho(bob, qos=1, clean=True)
    again.start()  # within the grace
    time.sleep(GRACE + 1)
    assert told(watcher, bob) == [True]
    again.stop()
    watcher.until(lambda: told(watcher, bob) == [True, False])
    assert begun * 1_000 < watcher.documents("presence")[-1]["last_seen"] < time.time() * 1_000 - GRACE * 900
    assert stranger.documents("presence") == []
    later = kind(ada, qos=1, clean=True, device="tablet")
    later.start()
    later.until(lambda: told(later, bob) == [False])
    for client in (watcher, stranger, later):
        client.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("presence"), settings={"cluster.lease": 4}) as cluster:
        yield cluster


@pytest.fixture
def pair(cluster: Cluster) -> Iterator[tuple[Device, Person]]:
    """Ada, at the first node, and Bob, who will be at the second."""
    one, two = entrances(cluster)
    ada, bob = people(one, "ada", "bob")
    bob.server = two
    with ada.online() as phone:
        yield phone, bob


def await_told(phone: Device, bob: Person, *wanted: bool, within: float = 20.0) -> None:
    """The states that came, repeats left out."""

    def different() -> list[bool]:
        states: list[Any] = [None, *told(phone, bob)]
        return [now for before, now in itertools.pairwise(states) if now is not before]

    phone.until(lambda: len(different()) >= len(wanted), within)
    assert different() == list(wanted)


def test_a_friend_at_another_node(pair: tuple[Device, Person]) -> None:
    phone, bob = pair
    with bob.online() as other:
        await_told(phone, bob, True)
        other.until(lambda: told(other, phone.person) == [True])
    await_told(phone, bob, True, False)
    with bob.online():
        await_told(phone, bob, True, False, True)


def test_the_node_of_a_friend_is_killed(cluster: Cluster, pair: tuple[Device, Person]) -> None:
    phone, bob = pair
    with bob.online():
        await_told(phone, bob, True)
        cluster.nodes[1].kill()
        await_told(phone, bob, True, False)
    cluster.nodes[1].start()


def test_the_node_of_a_friend_is_stopped(cluster: Cluster, pair: tuple[Device, Person]) -> None:
    phone, bob = pair
    with bob.online():
        await_told(phone, bob, True)
        cluster.nodes[1].stop()
        # by another node, at once; not because everything is told again, much later, when a node has gone
        await_told(phone, bob, True, False, within=9)
    cluster.nodes[1].start()


def test_redis_loses_everything_and_a_friend_leaves_meanwhile(cluster: Cluster, pair: tuple[Device, Person]) -> None:
    phone, bob = pair
    with bob.online():
        await_told(phone, bob, True)
        cluster.redis.kill()
    time.sleep(1)
    cluster.redis.start()
    await_told(phone, bob, True, False, within=40)
