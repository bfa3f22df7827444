"""What ends access ends it on whichever node, within a second; broadcasts reach everybody once; and what both do while
Redis is away or a node stands still. Two nodes and the accounts as processes of their own."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.cluster import ALDIS, Cluster, environment
from tests.clusters import Entrance, clustered, entrances
from tests.people import Device, Person, people
from tests.servers import RestError
from tests.wire import PATIENCE, Client, Closed, connect, refused

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

WITHIN = 1.0
PASSWORD = "correct horse battery"
SETTLE = 2.0
"""`cluster.settle`: how long a call waits for nodes that do not confirm."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("administration"), settings={"history.retention_interval": 5}) as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster: Cluster) -> list[Entrance]:
    return entrances(cluster)


def crowd(cluster: Cluster, *names: str) -> list[Person]:
    """The first of them is an administrator."""
    found = people(entrances(cluster)[0], *names)
    settings = {"store.url": cluster.mysql.url(), "store.password_file": cluster.mysql.password_file}
    command = [str(ALDIS), "admin", "grant", found[0].user, "--config", "node"]
    subprocess.run(command, env=environment(settings), check=True, capture_output=True, timeout=60)
    return found


def on(node: Entrance, person: Person, device: str) -> Device:
    person.server = node
    return person.online(device)


def figures(cluster: Cluster) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen("http://{}:{}/metrics".format(*cluster.accounts.http), timeout=10) as answer:
        page = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def closes(clients: list[Client], act: Callable[[], Any], within: float = WITHIN) -> float:
    """Does it, and waits until all are closed; how long that took."""
    begun = time.monotonic()
    act()
    for client in clients:
        try:
            while True:
                client.packet(PATIENCE)
        except Closed:
            pass
    took = time.monotonic() - begun
    assert took < within, f"{took:.2f} s"
    return took


def opens_nothing(nodes: list[Entrance], person: Person, device: str, token: str) -> None:
    for node in nodes:
        with node.tcp() as client:
            client.send(connect(device, user=person.user, password=token))
            assert client.closed() == [refused(5)]


def test_disabled_is_out_on_every_node(cluster: Cluster, nodes: list[Entrance]) -> None:
    dora, bert = crowd(cluster, "dora", "bert")
    made = bert.rest("POST", "/v1/tokens", {"device_id": "sensor", "name": "garden"})
    tokens = {device: bert.token(device) for device in ("phone", "tablet")}
    with on(nodes[0], bert, "phone") as phone, on(nodes[1], bert, "tablet") as tablet, nodes[1].tcp() as sensor:
        sensor.connected("sensor", user=bert.user, password=made["token"])
        closes([phone, tablet, sensor], lambda: dora.rest("POST", f"/v1/admin/users/{bert.user}/disable", device="pc"))
    for device, token in {**tokens, "sensor": made["token"]}.items():
        opens_nothing(nodes, bert, device, token)
    dora.rest("POST", f"/v1/admin/users/{bert.user}/enable", device="pc")
    for node in nodes:
        with node.tcp() as sensor:
            sensor.connected("sensor", user=bert.user, password=made["token"])
    opens_nothing(nodes, bert, "phone", tokens["phone"])
    found = dora.rest("GET", f"/v1/admin/users/{bert.user}", device="pc")
    assert found["state"] == "active"
    users = dora.rest("GET", "/v1/admin/users?limit=500", device="pc")["users"]
    assert {dora.user, bert.user} <= {one["user_id"] for one in users}
    assert dora.rest("GET", "/v1/admin/figures", device="pc")["users_active"] >= 2


@pytest.mark.parametrize("by", ["kick", "logout everywhere", "a new password"])
def test_all_logins_end_on_every_node(cluster: Cluster, nodes: list[Entrance], by: str) -> None:
    dora, bert = crowd(cluster, "dora", "bert")
    body = {"old_password": PASSWORD, "password": "another correct horse"}
    acts: dict[str, Callable[[], Any]] = {
        "kick": lambda: dora.rest("POST", f"/v1/admin/users/{bert.user}/kick", device="pc"),
        "logout everywhere": lambda: bert.rest("POST", "/v1/account/logout", device="pc"),
        "a new password": lambda: bert.rest("PUT", "/v1/account/password", body, device="pc"),
    }
    bert.token("pc")
    tokens = {device: bert.token(device) for device in ("phone", "tablet")}
    with on(nodes[0], bert, "phone") as phone, on(nodes[1], bert, "tablet") as tablet:
        closes([phone, tablet], acts[by])
    for device, token in tokens.items():
        opens_nothing(nodes, bert, device, token)


def test_one_device_ends_wherever_it_is(cluster: Cluster, nodes: list[Entrance]) -> None:
    (bert,) = people(nodes[0], "bert")
    bert.token("pc")
    made = bert.rest("POST", "/v1/tokens", {"device_id": "sensor", "name": "garden"}, device="pc")
    for node in nodes:
        for device in ("kicked", "logged out"):
            token = bert.token(device)
            with on(node, bert, device) as victim, on(nodes[0], bert, "phone") as bystander:
                if device == "kicked":
                    closes([victim], lambda: bert.rest("DELETE", "/v1/devices/kicked", device="pc"))
                else:
                    closes([victim], lambda: bert.rest("POST", "/v1/logout", device="logged out"))
                bystander.caught_up()
            opens_nothing(nodes, bert, device, token)
            del bert._tokens[device]
    with nodes[1].tcp() as sensor:
        sensor.connected("sensor", user=bert.user, password=made["token"])
        closes([sensor], lambda: bert.rest("DELETE", f"/v1/tokens/{made['token_id']}", device="pc"))
    opens_nothing(nodes, bert, "sensor", made["token"])


def broadcasts(device: Device, id: str) -> int:
    return sum(one.get("broadcast_id") == id for one in device.documents("system"))


def sent(dora: Person, text: str) -> dict[str, Any]:
    begun = dora.rest("POST", "/v1/admin/broadcasts", {"text": text}, device="pc")
    deadline = time.monotonic() + 30
    while True:
        found = dora.rest("GET", f"/v1/admin/broadcasts/{begun['broadcast_id']}", device="pc")
        if found["finished"] is not None:
            return dict(found)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_broadcast_comes_to_everybody_once(cluster: Cluster, nodes: list[Entrance]) -> None:
    dora, ada, bob, away, gone = crowd(cluster, "dora", "ada", "bob", "away", "gone")
    with on(nodes[0], away, "phone") as early:
        early.caught_up()  # known, and not there when it is sent
    dora.rest("POST", f"/v1/admin/users/{gone.user}/disable", device="pc")
    with (
        on(nodes[0], ada, "phone") as one,
        on(nodes[1], ada, "tablet") as two,
        on(nodes[1], bob, "phone") as three,
    ):
        for device in (one, two, three):
            device.caught_up()
        said = sent(dora, "maintenance at ten")
        for device in (one, two, three):
            device.until(lambda device=device: broadcasts(device, said["broadcast_id"]))
            device.caught_up()
            assert broadcasts(device, said["broadcast_id"]) == 1
    with on(nodes[1], away, "phone") as late:
        late.until(lambda: broadcasts(late, said["broadcast_id"]))
        late.caught_up()
        assert broadcasts(late, said["broadcast_id"]) == 1
    active = dora.rest("GET", "/v1/admin/figures", device="pc")["users_active"]
    assert said["sent"] == active, "everybody who is active, and nobody else"
    dora.rest("POST", f"/v1/admin/users/{gone.user}/enable", device="pc")
    gone._tokens.clear()  # the logins of before have ended
    with on(nodes[0], gone, "phone") as back:
        back.caught_up()
        assert broadcasts(back, said["broadcast_id"]) == 0


def test_the_accounts_process_tells_its_figures(cluster: Cluster) -> None:
    found = figures(cluster)
    assert found["aldis_rest_calls_total", "POST", "/v1/login", "200"] >= 1
    assert found["aldis_rest_call_seconds_count", "/v1/login"] >= 1
    assert found["aldis_ready",] == found["aldis_store_available",] == found["aldis_cluster_connected",] == 1
    assert found["aldis_cluster_peers",] == 2 and found["process_open_fds",] > 5
    assert found["aldis_accounts_database_available", "reads"] == 1
    assert found["aldis_passwords_refused_total",] == 0
    address = "http://{}:{}/metrics".format(*cluster.accounts.http)
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(urllib.request.Request(address, headers={header: "127.0.0.1"}), timeout=10)
        assert answer.value.code == 403


def test_while_redis_is_away(cluster: Cluster, nodes: list[Entrance]) -> None:
    """Everything that is called is done, and the nodes find it in the log of the database."""
    dora, bert, ada = crowd(cluster, "dora", "bert", "ada")
    token = bert.token("phone")
    with on(nodes[0], bert, "phone") as phone, on(nodes[1], bert, "tablet") as tablet, on(nodes[1], ada, "pc") as other:
        other.caught_up()
        cluster.redis.kill()
        try:
            begun = time.monotonic()
            dora.rest("POST", f"/v1/admin/users/{bert.user}/kick", device="pc")
            assert time.monotonic() - begun < SETTLE + 1.0, "the call does not wait for ever"
            opens_nothing(nodes, bert, "phone", token)
            closes([phone, tablet], lambda: None, within=5.0)
            said = sent(dora, "no Redis today")
            other.until(lambda: broadcasts(other, said["broadcast_id"]), 10)
        finally:
            cluster.redis.start()
        deadline = time.monotonic() + 20
        while not figures(cluster)["aldis_cluster_connected",]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        other.caught_up()
        assert broadcasts(other, said["broadcast_id"]) == 1, "once, although it was found and then told"
    with on(nodes[0], bert, "phone2") as phone, on(nodes[1], bert, "tablet2") as tablet:
        time.sleep(1)  # until the nodes have found one another again
        closes([phone, tablet], lambda: dora.rest("POST", f"/v1/admin/users/{bert.user}/kick", device="pc"))


def test_while_a_node_stands_still(cluster: Cluster, nodes: list[Entrance]) -> None:
    """The call says done after `cluster.settle`: the change stands, every other node acts at once, and the one that
    stood still acts before it delivers anything."""
    dora, bert, ada = crowd(cluster, "dora", "bert", "ada")
    token = bert.token("tablet")
    unconfirmed = figures(cluster)["aldis_announcements_unconfirmed_total",]
    with (
        on(nodes[0], bert, "phone") as phone,
        on(nodes[1], bert, "tablet") as tablet,
        on(nodes[0], ada, "pc") as writer,
    ):
        for device in (phone, tablet, writer):
            device.caught_up()
        cluster.nodes[1].pause()
        try:
            begun = time.monotonic()
            closes([phone], lambda: dora.rest("POST", f"/v1/admin/users/{bert.user}/disable", device="pc"), SETTLE + 1)
            assert time.monotonic() - begun >= SETTLE * 0.8, "it waits for the node as long as it should"
            assert figures(cluster)["aldis_announcements_unconfirmed_total",] == unconfirmed + 1
            opens_nothing(nodes[:1], bert, "tablet", token)
            with pytest.raises(RestError) as answer:
                bert.rest("GET", "/v1/account", device="tablet")
            assert answer.value.status == 401
            writer.published(f"inbox/{bert.user}/chat/{ada.user}", b'{"id":"late","body":"do you still read this?"}')
        finally:
            cluster.nodes[1].resume()
        seen = len(tablet.documents())
        closes([tablet], lambda: None, within=5.0)
        assert len(tablet.documents()) == seen == 0, "nothing is delivered to who is out"
    opens_nothing(nodes, bert, "tablet", token)
