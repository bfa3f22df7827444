"""`aldis demo` against a real server: every promise kept; and against the same server behind a liar: broken."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from aldis.mobile_client_demo.scenes import PROMISES
from tests.integration.lying_proxy import Lie, LyingProxy, Packet
from tests.servers import ALDIS, Aldis, running
from tests.wire import Address

DEMO = [sys.executable, "-m", "aldis.mobile_client_demo"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def play(
    mqtt: Address, http: Address, *options: str, command: Sequence[str | Path] = DEMO
) -> subprocess.CompletedProcess[str]:
    addresses = ["--mqtt", f"{mqtt[0]}:{mqtt[1]}", "--http", f"http://{http[0]}:{http[1]}"]
    ended = subprocess.run(
        [*command, *addresses, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stdout + ended.stderr
    return ended


def verdicts(ended: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """ok or BROKEN by promise, from the list at the end."""
    words = {promise: key for key, promise in PROMISES.items()}
    lines = re.findall(r"^  (ok|BROKEN) +(.+)$", ended.stdout.partition("\nPromises\n")[2], re.MULTILINE)
    return {words[promise]: verdict for verdict, promise in lines}


@pytest.mark.parametrize("command", [DEMO, [ALDIS, "demo"]], ids=["module", "aldis demo"])
def test_every_promise_is_kept(server: Aldis, command: Sequence[str | Path]) -> None:
    ended = play(server.mqtt, server.http, command=command)
    assert verdicts(ended) == dict.fromkeys(PROMISES, "ok"), ended.stdout
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout


def test_long_bursts_keep_every_promise(server: Aldis) -> None:
    ended = play(server.mqtt, server.http, "--messages", "300")
    assert verdicts(ended) == dict.fromkeys(PROMISES, "ok"), ended.stdout
    assert ended.returncode == 0


def test_nobody_listening_ends_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        nobody = reserved.getsockname()
    ended = play(nobody, nobody)
    assert ended.returncode == 2
    assert "does not answer" in ended.stderr and ended.stdout == ""


# A server that breaks a promise: what the demo then says. Each lie begins at the eighth chat for Bob's laptop, or
# with the first packet of its sort.


def once(device: str, kind: str, number: int, tell: Callable[[Packet], Iterable[Packet]]) -> Lie:
    """Changes the `number`-th packet of this kind to this device, and no other."""
    seen = 0

    def lie(to: str, packet: Packet) -> Iterable[Packet]:
        nonlocal seen
        if (to, packet.kind) != (device, kind):
            return [packet]
        seen += 1
        return tell(packet) if seen == number else [packet]

    return lie


def lost() -> Lie:
    return once("laptop", "chat", 8, lambda _: [])


def doubled_under_a_new_number() -> Lie:
    def tell(packet: Packet) -> list[Packet]:
        assert packet.document
        return [packet, packet.saying({**packet.document, "n": packet.document["n"] + 1000})]

    return once("laptop", "chat", 8, tell)


def swapped() -> Lie:
    kept: list[Packet] = []
    seen = 0

    def lie(to: str, packet: Packet) -> list[Packet]:
        nonlocal seen
        if (to, packet.kind) != ("laptop", "chat"):
            return [packet]
        seen += 1
        if seen == 2:
            kept.append(packet)
            return []
        if kept:
            return [packet, kept.pop()]
        return [packet]

    return lie


def text_changed() -> Lie:
    def tell(packet: Packet) -> list[Packet]:
        assert packet.document
        return [packet.saying({**packet.document, "body": "AAAA" + packet.document["body"][4:]})]

    return once("laptop", "chat", 7, tell)


def numbers_behind() -> Lie:
    def tell(packet: Packet) -> list[Packet]:
        assert packet.document
        return [packet.saying(dict(reversed(packet.document.items())))]

    return once("phone", "chat", 1, tell)


def delivered_before_sent() -> Lie:
    kept: list[Packet] = []

    def lie(to: str, packet: Packet) -> list[Packet]:
        if to != "phone" or packet.kind != "receipt" or not packet.document:
            return [packet]
        if packet.document["type"] == "sent":
            kept.append(packet)
            return []
        told = [packet, *kept]
        kept.clear()
        return told

    return lie


def delivered_at_once() -> Lie:
    def lie(to: str, packet: Packet) -> list[Packet]:
        if to == "phone" and packet.document and packet.document.get("type") == "sent":
            return [packet, packet.saying({"type": "delivered", "up_to": packet.document["mid"]})]
        return [packet]

    return lie


def read_without_the_app() -> Lie:
    def lie(to: str, packet: Packet) -> list[Packet]:
        if to == "phone" and packet.document and packet.document.get("type") == "delivered":
            return [packet, packet.saying({**packet.document, "type": "read"})]
        return [packet]

    return lie


def receipts_fall_back() -> Lie:
    def lie(to: str, packet: Packet) -> list[Packet]:
        if to == "phone" and packet.document and packet.document.get("type") == "delivered":
            return [packet, packet.saying({**packet.document, "up_to": 1})]
        return [packet]

    return lie


def another_mid_for_the_repeat() -> Lie:
    seen: dict[str, int] = {}

    def lie(to: str, packet: Packet) -> list[Packet]:
        if to == "phone" and packet.document and packet.document.get("type") == "sent":
            id = packet.document["id"]
            seen[id] = seen.get(id, 0) + 1
            if seen[id] == 3:
                return [packet.saying({**packet.document, "mid": packet.document["mid"] + 1})]
        return [packet]

    return lie


def no_copies() -> Lie:
    return lambda to, packet: [] if (to, packet.kind) == ("tablet", "sync") else [packet]


def no_reason() -> Lie:
    def lie(_: str, packet: Packet) -> list[Packet]:
        if packet.document and packet.document.get("type") == "failed":
            return [packet.saying({**packet.document, "reason": "blocked"})]
        return [packet]

    return lie


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (lost, {"order"}),
        (doubled_under_a_new_number, {"order"}),
        (swapped, {"backlog", "order"}),
        (text_changed, {"encrypted"}),
        (numbers_behind, {"encrypted", "wire"}),
        (delivered_before_sent, {"sent", "receipts"}),
        (delivered_at_once, {"delivered", "offline", "receipts"}),
        (read_without_the_app, {"read", "receipts"}),
        (receipts_fall_back, {"receipts"}),
        (another_mid_for_the_repeat, {"repeat", "receipts"}),
        (no_copies, {"sync"}),
        (no_reason, {"stranger"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_server_that_breaks_a_promise_is_caught(server: Aldis, lie: Callable[[], Lie], broken: set[str]) -> None:
    with LyingProxy(server.mqtt, lie()) as proxy:
        ended = play(proxy.address, server.http, "--messages", "4", "--timeout", "1.5")
    assert ended.returncode == 1, ended.stdout
    found = verdicts(ended)
    assert found.keys() == PROMISES.keys()
    assert {key for key in broken if found[key] != "BROKEN"} == set(), ended.stdout


def test_an_honest_proxy_changes_nothing(server: Aldis) -> None:
    with LyingProxy(server.mqtt, lambda _, packet: [packet]) as proxy:
        ended = play(proxy.address, server.http, "--messages", "4", "--timeout", "10")
    assert ended.returncode == 0, ended.stdout
