"""`aldis demo --nodes`: every promise kept by a cluster; and each of those across nodes broken by a liar before one of
the nodes, or before one server that is given twice."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from aldis.mobile_client_demo import crossing, scenes
from tests.clusters import clustered
from tests.integration.lying_proxy import Lie, LyingProxy, Packet
from tests.servers import Aldis, running
from tests.wire import Address

PROMISES = scenes.PROMISES | crossing.PROMISES
CONNACK = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def play(nodes: Collection[Address], http: Address, *options: str) -> subprocess.CompletedProcess[str]:
    given = ",".join(f"{host}:{port}" for host, port in nodes)
    ended = subprocess.run(
        [sys.executable, "-m", "aldis.mobile_client_demo", "--nodes", given, "--http", "{}:{}".format(*http), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stdout + ended.stderr
    return ended


def verdicts(ended: subprocess.CompletedProcess[str]) -> dict[str, str]:
    words = {promise: key for key, promise in PROMISES.items()}
    lines = re.findall(r"^  (ok|BROKEN) +(.+)$", ended.stdout.partition("\nPromises\n")[2], re.MULTILINE)
    return {words[promise]: verdict for verdict, promise in lines}


def test_one_server_given_twice_keeps_every_promise(server: Aldis) -> None:
    ended = play([server.mqtt, server.mqtt], server.http)
    assert verdicts(ended) == dict.fromkeys(PROMISES, "ok"), ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.timeout(180)
def test_a_cluster_keeps_every_promise(tmp_path: Path) -> None:
    with clustered(tmp_path / "cluster", nodes=3) as cluster:
        for nodes, options in ((cluster.nodes[:2], []), (cluster.nodes, ["--messages", "100"])):
            ended = play([node.mqtt for node in nodes], cluster.accounts.http, *options)
            assert verdicts(ended) == dict.fromkeys(PROMISES, "ok"), ended.stdout
            assert (ended.returncode, ended.stderr) == (0, "")
            for node in nodes:
                assert "{}:{}".format(*node.mqtt) in ended.stdout


def test_the_node_that_does_not_answer_is_named(server: Aldis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        nobody: Address = reserved.getsockname()
    ended = play([server.mqtt, nobody], server.http)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"MQTT at 127.0.0.1:{nobody[1]} does not answer" in ended.stderr


# A server that breaks a promise


def honest() -> Lie:
    return lambda _, packet: [packet]


def no_session_comes_along() -> Lie:
    return lambda _, packet: [Packet(b"\x20\x02\x00\x00") if packet.raw[0] >> 4 == CONNACK else packet]


def another_mid_at_the_other_node() -> Lie:
    """Every second answer to an id has another mid."""
    seen: set[str] = set()

    def lie(to: str, packet: Packet) -> list[Packet]:
        document = packet.document
        if to != "phone" or not document or document.get("type") != "sent":
            return [packet]
        if document["id"] in seen:
            return [packet.saying({**document, "mid": document["mid"] + 1})]
        seen.add(document["id"])
        return [packet]

    return lie


@pytest.mark.parametrize(
    ("lie", "kept", "broken"),
    [
        (no_session_comes_along, (), "move"),
        (another_mid_at_the_other_node, (), "elsewhere"),
        (honest, ("laptop",), "takeover"),
        (honest, ("tablet",), "revoked"),
    ],
    ids=["no session", "another mid", "old connection stays", "revoked connection stays"],
)
def test_who_breaks_a_promise_is_caught(
    server: Aldis, lie: Callable[[], Lie], kept: tuple[str, ...], broken: str
) -> None:
    with LyingProxy(server.mqtt, lie(), kept) as proxy:
        ended = play([proxy.address, proxy.address], server.http, "--messages", "4", "--timeout", "1.5")
    assert ended.returncode == 1, ended.stdout
    found = verdicts(ended)
    assert found.keys() == PROMISES.keys()
    assert found[broken] == "BROKEN", ended.stdout
    if lie is honest:
        assert [key for key, verdict in found.items() if verdict == "BROKEN"] == [broken], ended.stdout


def test_two_servers_that_know_nothing_of_each_other_are_no_cluster(server: Aldis, tmp_path: Path) -> None:
    with running(tmp_path / "other") as other:
        ended = play([server.mqtt, other.mqtt], server.http, "--messages", "4", "--timeout", "1.5")
    assert ended.returncode == 1
    kept = {key for key, verdict in verdicts(ended).items() if verdict == "ok"}
    assert kept <= {"password", "stranger", "keys", "wire", "receipts"}, ended.stdout
