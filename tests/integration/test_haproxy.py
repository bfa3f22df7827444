"""`config/haproxy.cfg` with a real HAProxy in front of a real cluster: who the client is, who gets a connection, what
happens when a node goes. Only names and ports are those of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from scripts.cluster import ROOT, Cluster
from scripts.processes import Process, free_port, program
from tests.clusters import Entrance, clustered
from tests.people import people
from tests.wire import TcpStream

pytestmark = pytest.mark.timeout(120)

TRUSTED = '["127.0.0.0/8"]'


class Front(NamedTuple):
    cluster: Cluster
    entrance: Entrance


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("haproxy")
    with clustered(folder / "cluster", start=False) as cluster:
        for node in cluster.nodes:
            for listener in ("default", "websocket"):
                node.settings[f"listeners.{listener}.proxy_protocol"] = "required"
                node.settings[f"listeners.{listener}.proxy_trusted"] = TRUSTED
        cluster.accounts.settings["http.proxy_protocol"] = "required"
        cluster.accounts.settings["http.proxy_trusted"] = TRUSTED
        cluster.start()
        file, ports = folder / "haproxy.cfg", [free_port() for _ in range(3)]
        file.write_text(configured(cluster, ports))
        haproxy = Process("haproxy", folder / "haproxy.log")
        haproxy.launch([program("haproxy"), "-f", str(file)])
        mqtt, ws, http = (("127.0.0.1", port) for port in ports)
        try:
            haproxy.wait_until(lambda: healthy(f"127.0.0.1:{http[1]}", "/readyz") == 0)
            yield Front(cluster, Entrance(mqtt, ws, http))
            assert not haproxy.died
            haproxy.stop()
        finally:
            haproxy.kill()


def configured(cluster: Cluster, ports: list[int]) -> str:
    text = (ROOT / "config" / "haproxy.cfg").read_text()
    text, removed = re.subn(r"\nresolvers docker\n( .*\n)+", "\n", text)
    assert removed == 1
    # a machine for tests may not allow as many descriptors as a container is given
    text = text.replace(" resolvers docker", "").replace("maxconn 20000", "maxconn 1000")
    for usual, port in zip((1883, 8083, 8000), ports, strict=True):
        text = text.replace(f"bind :{usual}\n", f"bind 127.0.0.1:{port}\n")
    for node in cluster.nodes:
        for usual, (host, port) in ((1883, node.mqtt), (8083, node.ws)):
            here = f" {host}:{port} send-proxy-v2 check port {node.http[1]}\n"
            text = text.replace(f" {node.name}:{usual} send-proxy-v2 check port 8000\n", here)
    text = text.replace(" accounts:8000 ", " {}:{} ".format(*cluster.accounts.http))
    assert not re.search(r"(node-\d|accounts):\d", text)
    return text


def healthy(address: str, path: str = "/healthz", *options: str) -> int:
    command = [sys.executable, "-m", "aldis.broker.health", address, "--path", path, *options]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_the_health_checks_of_the_containers(front: Front) -> None:
    accounts = "{}:{}".format(*front.cluster.accounts.http)
    assert healthy(accounts, "/healthz", "--proxy") == healthy(accounts, "/readyz", "--proxy") == 0
    assert healthy(accounts) == 1, "without the header nobody gets in"
    for node in front.cluster.nodes:
        assert healthy("{}:{}".format(*node.http)) == 0
        assert healthy("{}:{}".format(*node.http), "/nothing") == 1


def test_both_nodes_get_connections_and_know_the_client(front: Front) -> None:
    before = [len(node.log.read_text()) for node in front.cluster.nodes]
    (ada,) = people(front.entrance, "ada")
    devices = [ada.online(name) for name in ("one", "two", "three", "four")]
    ports = []
    for device in devices:
        assert isinstance(device.stream, TcpStream)
        ports.append(device.stream.port)
        assert device.say(ada, {"body": device.device})["type"] == "sent"
    for device in devices:
        others = [one.device for one in devices if one is not device]
        assert sorted(chat["body"] for chat in device.chats(4)) == sorted([*others, device.device])
        device.close()
    deadline = time.monotonic() + 10
    while True:
        logs = [node.log.read_text()[start:] for node, start in zip(front.cluster.nodes, before, strict=True)]
        told = [set(re.findall(rf"address='127\.0\.0\.1:(\d+)' user='{ada.user}'", log)) for log in logs]
        if sum(map(len, told)) == 4 or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert [len(one) for one in told] == [2, 2], "in turn"
    assert told[0] | told[1] == {str(port) for port in ports}, "the addresses are the clients' own"


def test_websockets_pass(front: Front) -> None:
    (ada,) = people(front.entrance, "ada")
    client = front.entrance.websocket()
    client.connected("phone", user=ada.user, password=ada.token("phone"))
    client.close()


def test_the_pages_pass(front: Front) -> None:
    assert healthy("{}:{}".format(*front.entrance.http), "/docs") == 0


def test_a_node_that_dies_gets_nobody_and_comes_back(front: Front) -> None:
    node = front.cluster.nodes[0]
    (ada,) = people(front.entrance, "ada")
    node.kill()
    for i in range(6):
        with ada.online(f"device-{i % 2}") as device:
            assert device.say(ada, {"body": "still here"})["type"] == "sent"
    node.start()
    deadline = time.monotonic() + 20
    while f"user='{ada.user}' device='again'" not in node.log.read_text():
        with ada.online("again"):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)
