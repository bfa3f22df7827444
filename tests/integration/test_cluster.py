"""A cluster as `make cluster` starts it: what each process serves, and what happens when one goes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.cluster import ROOT, Address, Aldis, Cluster, environment
from scripts.processes import DidNotStart
from tests.clusters import Entrance, clustered, entrances
from tests.people import people

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("cluster"), balancer=True) as cluster:
        yield cluster


def asked(address: Address, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen("http://{}:{}".format(*address) + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ready(node: Aldis) -> bool:
    return asked(node.http, "/readyz")[0] == 200


def test_a_login_opens_every_node(cluster: Cluster) -> None:
    one, two = entrances(cluster)
    assert cluster.balancer is not None
    front = Entrance(cluster.balancer.mqtt, cluster.balancer.ws, cluster.accounts.http)
    for entrance in (one, two, front):
        (ada,) = people(entrance, "ada")
        with ada.online() as phone, ada.online("tablet") as tablet:
            assert phone.say(ada, {"body": "a note"})["type"] == "sent"
            assert [chat["body"] for chat in tablet.chats(1)] == ["a note"]


def test_a_message_crosses_nodes(cluster: Cluster) -> None:
    one, two = entrances(cluster)
    ada, bob = people(one, "ada", "bob")
    bob.server = two
    with ada.online() as phone, bob.online() as other:
        phone.say(bob, {"body": "there"})
        assert [chat["body"] for chat in other.chats(1)] == ["there"]
        other.say(ada, {"body": "and back"})
        assert [chat["body"] for chat in phone.chats(1)] == ["and back"]


def test_what_a_node_serves(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert asked(node.http, "/healthz")[0] == 200
        assert asked(node.http, "/readyz")[0] == 200
        assert asked(node.http, "/metrics")[0] == 200
        for path in ("/v1/relations", "/docs", "/schema"):
            assert asked(node.http, path)[0] == 404, path


def test_what_the_accounts_serve(cluster: Cluster) -> None:
    http = cluster.accounts.http
    assert [asked(http, path)[0] for path in ("/healthz", "/readyz", "/docs", "/v1/relations")] == [200, 200, 200, 401]
    process = psutil.Process(cluster.accounts.pid)
    listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert [one.laddr.port for one in listening] == [http[1]], "REST and nothing else"


def test_every_process_has_the_same_keys_and_no_password_on_its_command_line(cluster: Cluster) -> None:
    words = [one.password_file.read_text().strip() for one in (cluster.mysql, cluster.redis)]
    for one in cluster.processes:
        told = " ".join(psutil.Process(one.pid).cmdline())
        assert not any(word in told or word in one.log.read_text() for word in words)
    assert not list(cluster.folder.rglob("node-*/secrets.json"))


def test_a_node_is_killed_and_comes_back_where_it_was(cluster: Cluster) -> None:
    node, balancer = cluster.nodes[1], cluster.balancer
    assert balancer is not None
    before = (node.mqtt, node.ws, node.http)
    node.kill()
    assert not node.alive and cluster.died() == [], "it was meant to"
    front = Entrance(balancer.mqtt, balancer.ws, cluster.accounts.http)
    (ada,) = people(front, "ada")
    for device in ("phone", "tablet", "watch"):
        with ada.online(device) as connected:
            assert connected.say(ada, {"body": "still here"})["type"] == "sent"
    node.start()
    assert (node.mqtt, node.ws, node.http) == before
    assert ready(node)


def test_a_node_stands_still_and_goes_on(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.pause()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen("http://{}:{}/healthz".format(*node.http), timeout=1)
    node.resume()
    assert ready(node)


def test_a_node_behind_another_port(cluster: Cluster) -> None:
    """As a fault proxy would be put between: here nobody listens."""
    node = cluster.nodes[1]
    node.mysql_port, node.settings = 1, {"store.wait_at_start": 0}
    node.stop()
    with pytest.raises(DidNotStart, match=r"node-2 ended with exit code 1(.|\n)*127\.0\.0\.1:1/aldis"):
        node.start()
    node.mysql_port, node.settings = None, {}
    node.start()
    assert ready(node)


def test_nobody_waits_for_redis(cluster: Cluster) -> None:
    """Without it a node starts, and messages are taken."""
    node = cluster.nodes[1]
    node.redis_port = 1
    node.restart()
    (ada,) = people(entrances(cluster)[1], "ada")
    with ada.online() as phone:
        assert phone.say(ada, {"body": "a note"})["type"] == "sent"
    node.redis_port = None
    node.restart()


# The command


def make_cluster(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """What it printed until it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.cluster", "--free-ports", "--data", str(folder), *arguments],
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    while not said.endswith("ready\n"):
        line = process.stdout.readline()
        assert line, said + (process.stderr.read() if process.stderr else "")
        said += line
    return process, said


def end(process: subprocess.Popen[str]) -> None:
    """Also where the test has failed: killed, it would leave all its servers behind."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    process.kill()
    process.communicate()


def left(folder: Path) -> list[str]:
    """Processes that still have to do with the folder."""
    return [
        " ".join(one.info["cmdline"])
        for one in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in one.info["cmdline"] or ())
    ]


def test_it_says_where_everything_is_and_ends_with_control_c(tmp_path: Path) -> None:
    process, said = make_cluster(tmp_path / "data", "--nodes", "3", "--no-balancer")
    try:
        assert re.findall(r"^(\S+) ", said, re.M) == [
            "node-1",
            "node-2",
            "node-3",
            "accounts",
            "web",
            "mariadb",
            "redis",
            "logs",
        ]
        for port in re.findall(r"http://127\.0\.0\.1:(\d+)/readyz", said):
            assert asked(("127.0.0.1", int(port)), "/readyz")[0] == 200
        second = subprocess.run(
            [sys.executable, "-m", "scripts.cluster", "--data", str(tmp_path / "data")],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (second.returncode, "already" in second.stderr) == (1, True)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0, process.stderr and process.stderr.read()
    finally:
        end(process)
    assert left(tmp_path / "data") == []


def test_it_says_who_has_died_and_stops_the_rest(tmp_path: Path) -> None:
    process, _ = make_cluster(tmp_path / "data")
    try:
        (victim,) = [
            one for one in psutil.process_iter(["cmdline"])
            if "node-2" in (one.info["cmdline"] or ()) and str(tmp_path / "data") in one.info["cmdline"]
        ]  # fmt: skip
        victim.kill()
        begun = time.monotonic()
        _, complaint = process.communicate(timeout=40)
        assert process.returncode == 1 and time.monotonic() - begun < 30
        assert re.match(r"node-2 was ended by SIGKILL; its log, .*/logs/node-2\.log, ends with\n", complaint)
    finally:
        end(process)
    assert left(tmp_path / "data") == []


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.processes._PATH", str(tmp_path))
    with pytest.raises(DidNotStart, match=r"mariadb-install-db is missing: scripts/test-servers"):
        Cluster(tmp_path / "data").start()
