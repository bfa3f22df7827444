"""From the configuration to the last signal: `aldis config`, reload and shutdown of a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_durability import locked
from tests.operating import AUTHORISATION, METRICS, SYS_TOPICS, get, write
from tests.people import people
from tests.servers import ALDIS, environment, running
from tests.wire import puback, publish, suback, subscribe

# Configuration


def config(*arguments: object, **settings: object) -> tuple[int, str, str]:
    command = [str(ALDIS), "config", *map(str, arguments)]
    ended = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=20, check=False)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("profile", ["embedded", "lab"])
def test_config_check_finds_nothing_wrong(profile: str) -> None:
    assert config("check", profile) == (0, f"{profile}: in order\n", "")


def test_config_check_tells_every_problem_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.yaml",
        limits={"max_inflight": 0, "max_inflght": 1},
        plugins={
            "aldis.plugins.nowhere.Nothing": {},
            "aldis.plugins.ordering.Ordering": {"recent": 5},
            "json.JSONDecoder": {},
            SYS_TOPICS: {"interval": -1},
            METRICS: {"allow": ["here"]},
        },
    )
    code, out, err = config("check", path, **{"timeouts.connect": "soon"})
    assert (code, out) == (2, "")
    lines = err.splitlines()
    for part in (
        "limits.max_inflight: ",
        "limits.max_inflght: unknown setting",
        "timeouts.connect: ",
        "plugins.aldis.plugins.nowhere.Nothing: cannot be imported",
        "plugins.aldis.plugins.ordering.Ordering: ",
        "plugins.json.JSONDecoder: is no amqtt plugin",
        f"plugins.{SYS_TOPICS}: interval must be",
        f"plugins.{METRICS}: 'here' does not appear",
    ):
        assert sum(part in line for line in lines) == 1, (part, err)
    assert sum(str(path) in line for line in lines) == 7
    assert sum("ALDIS_TIMEOUTS__CONNECT" in line for line in lines) == 1


def test_config_show_says_where_each_value_came_from(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.yaml",
        limits={"max_queued": 7},
        plugins={"example.plugins.Secretive": {"password": "hunter2", "url": "mysql://ada:hunter2@db/x"}},
    )
    code, out, _ = config("show", path, "--http", "127.0.0.1:0", **{"limits.max_inflight": 9})
    assert code == 0
    lines = {line.split()[0]: line.split(maxsplit=2) for line in out.splitlines()}
    assert lines["limits.max_queued"][1:] == ["7", f"file {path}"]
    assert lines["limits.max_inflight"][1:] == ["9", "variable ALDIS_LIMITS__MAX_INFLIGHT"]
    assert lines["http.bind"][1:] == ["127.0.0.1:0", "command line"]
    assert lines["limits.max_packet_size"][1:] == ["262144", "default"]
    assert lines["accounts.secret_file"][1] == "secrets.json"
    assert "hunter2" not in out and "mysql://********@db/x" in out


# Reload


@pytest.mark.alone
def test_reload(tmp_path: Path) -> None:
    """New limits and rules hold at once; what is wrong changes nothing; what cannot change is named."""
    path = write(tmp_path / "mine.yaml", limits={"max_subscriptions": 3}, plugins={AUTHORISATION: {"admins": ["root"]}})

    with running(tmp_path / "server", path) as server:

        def reloaded(said: str, **changes: Any) -> list[str]:
            before = len(server.log)
            write(path, **changes)
            server.process.send_signal(signal.SIGHUP)
            server.logged(said, since=before)
            return server.log[before:].splitlines()

        def granted(device: str) -> int:
            with server.tcp() as client:
                client.connected(device, user="root", password=server.login("root", device))
                client.send(subscribe(1, *((f"devices/root/{n}", 0) for n in range(6))))
                return client.packet()[4:].count(0)

        server.register("root")
        assert granted("a") == 3
        with server.tcp() as admin:
            admin.connected("desk", user="root", password=server.login("root", "desk")).subscribed(("$SYS/#", 0))
            assert admin.publication().topic.startswith("$SYS/")
            lines = reloaded(
                "settings not reloaded: limits.max_subscriptions",
                limits={"max_subscriptions": 0, "max_queued": 5},
                plugins={AUTHORISATION: {"admins": "root"}},
            )
            assert sum("settings not reloaded" in line for line in lines) == 1
            assert granted("b") == 3
            lines = reloaded("settings not reloaded: plugins", plugins={AUTHORISATION: {"admins": "root"}})
            assert AUTHORISATION in lines[-1]
            lines = reloaded(
                "settings reloaded",
                limits={"max_subscriptions": 5},
                timeouts={"connect": 0.3},
                http={"max_connections": 5},
                store={"busy_timeout": 1},
                plugins={AUTHORISATION: {"admins": ["nobody"]}, "aldis.plugins.ordering.Ordering": {"recent_ids": 5}},
            )
            for named in ("http has changed", "store has changed", "Ordering take effect only at the next start"):
                assert sum(named in line for line in lines) == 1, lines
            assert sum("subscription ended by new rules" in line for line in lines) == 1
            assert granted("c") == 5
            admin.settled()
            admin.send(subscribe(2, ("$SYS/#", 0)))
            admin.expect(suback(2, 0x80))
            admin.nothing()
        with server.tcp() as silent:
            began = time.monotonic()
            silent.closed()
            assert time.monotonic() - began < 2
        reloaded("settings reloaded", logging={"format": "json"})
        granted("d")
        assert json.loads(server.log.splitlines()[-1])["logger"].startswith("aldis.")


# Shutdown


@pytest.mark.alone
def test_shutdown_gives_up_a_client_that_does_not_read(tmp_path: Path) -> None:
    """Its buffers are full; the other one is told all, and the whole ends in time with 0: nothing of ours is undone."""
    settings = {"timeouts.shutdown": 3, "limits.max_write_buffer": 10_000_000}
    with running(tmp_path, "lab", settings) as server:
        with server.tcp(receive_buffer=4_096) as deaf, server.tcp() as client:
            deaf.connected("deaf").subscribed(("t", 0))
            client.connected("client")
            for id in range(1, 41):
                client.send(publish("t", bytes(200_000), qos=1, id=id))
                client.expect(puback(id))
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 4
            assert not client.closed()
        server.logged("did not read what was left for them")
        server.logged("connection ended: server shutting down", 2)


def test_nobody_comes_in_and_ready_says_no_while_shutting_down(tmp_path: Path) -> None:
    settings = {"timeouts.shutdown": 4, "store.busy_timeout": 0.2, "timeouts.commit_retry": 0.1}
    with running(tmp_path, settings=settings) as server:
        ada, bob = people(server, "ada", "bob")
        with ada.online() as sender, locked(server):
            sender.send(sender.chat_packet(bob, {"id": 1, "body": "x"}, id=7))
            server.logged("the store is unavailable")
            server.ended = True
            server.process.terminate()
            server.logged("stopping")
            status, page = get(server, "/readyz")
            assert status == 503 and "shutting down" in json.loads(page)["detail"]
            with pytest.raises(ConnectionRefusedError):
                server.tcp()
            assert not sender.acknowledged
        assert server.wait() == 0  # the lock was let go in time, so the message was taken


@pytest.mark.alone
@pytest.mark.parametrize(("first", "second", "code"), [("SIGTERM", "SIGTERM", 143), ("SIGINT", "SIGINT", 130)])
def test_the_second_signal_stops_at_once(tmp_path: Path, first: str, second: str, code: int) -> None:
    settings = {"timeouts.shutdown": 30, "store.busy_timeout": 0.2, "timeouts.commit_retry": 0.1}
    with running(tmp_path, settings=settings) as server:
        ada, bob = people(server, "ada", "bob")
        with ada.online() as sender, locked(server):
            sender.send(sender.chat_packet(bob, {"id": 1, "body": "x"}))
            server.logged("the store is unavailable")
            server.ended = True
            server.process.send_signal(getattr(signal, first))
            server.logged("stopping")
            server.process.send_signal(getattr(signal, second))
            began = time.monotonic()
            assert server.wait() == code
            assert time.monotonic() - began < 2
