"""`aldis up` and its configuration, as the operator meets it: exit codes and the one line that says what is wrong."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.servers import ALDIS, environment, profile, running


def ends(*arguments: object, settings: dict[str, object] | None = None) -> tuple[int, str]:
    """Exit code and standard error of `aldis` with these arguments; it must end by itself."""
    ended = subprocess.run(
        [str(ALDIS), *map(str, arguments)],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "ready" not in ended.stdout
    return ended.returncode, ended.stderr


NOWHERE = ["--mqtt=127.0.0.1:0", "--ws=127.0.0.1:0", "--http=127.0.0.1:0"]


def up(folder: Path, *arguments: object, settings: dict[str, object] | None = None) -> tuple[int, str]:
    return ends("up", "--data", folder / "data", *NOWHERE, *arguments, settings=settings)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("limts: {max_inflight: 5}", "limts"),
        ("limits: {max_inflght: 5}", "limits.max_inflght"),
        ("listeners: {default: {bnd: '127.0.0.1:0'}}", "listeners.default.bnd"),
    ],
)
def test_a_misspelt_key_in_a_file(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text + "\n")
    code, said = up(tmp_path, "--config", file)
    assert (code, said) == (2, f"aldis: {key}: unknown setting (from file {file})\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["limits.max_inflght", "limts.max_inflight", "timeout.connect", "dta"])
def test_a_misspelt_variable(tmp_path: Path, name: str) -> None:
    code, said = up(tmp_path, settings={name: 5})
    assert code == 2
    assert f"ALDIS_{name.upper().replace('.', '__')}" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("flag", ["--mqtx=127.0.0.1:0", "--dta=x", "--unknown"])
def test_a_misspelt_flag(tmp_path: Path, flag: str) -> None:
    code, said = up(tmp_path, flag)
    assert code == 2
    assert f"unrecognized arguments: {flag}" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "settings", "names"),
    [
        (["--mqtt", "nonsense"], {}, ["listeners.default.bind", "nonsense", "command line"]),
        (["--mqtt", "127.0.0.1:99999"], {}, ["listeners.default.bind", "99999", "command line"]),
        ([], {"limits.max_inflight": "many"}, ["limits.max_inflight", "many", "ALDIS_LIMITS__MAX_INFLIGHT"]),
        ([], {"limits.max_inflight": "0"}, ["limits.max_inflight", "greater than 0", "ALDIS_LIMITS__MAX_INFLIGHT"]),
        (["--config", "embeded"], {}, ["embeded", "embedded", "lab"]),
        (["--config", "./nowhere.yaml"], {}, ["nowhere.yaml", "No such file"]),
    ],
)
def test_a_wrong_value(tmp_path: Path, arguments: list[str], settings: dict[str, object], names: list[str]) -> None:
    code, said = ends("up", "--data", tmp_path / "data", *arguments, settings=settings)
    assert code == 2
    assert all(name in said for name in names), said


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    code, said = up(tmp_path, settings={"limits.max_inflght": 5, "timeouts.connct": 5})
    assert code == 2
    assert "MAX_INFLGHT" in said and "CONNCT" in said


@pytest.mark.parametrize("flag", ["--mqtt", "--ws", "--http"])
def test_a_port_that_is_taken(tmp_path: Path, flag: str) -> None:
    """Exit code 1, and the address is named; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        others = [word for word in NOWHERE if not word.startswith(flag)]
        code, said = ends("up", "--data", tmp_path / "data", *others, flag, address)
    assert code == 1
    name = {"--mqtt": "listener 'default'", "--ws": "listener 'websocket'", "--http": "http"}[flag]
    assert said.splitlines()[-1] == f"aldis: {name}: cannot listen on {address}: Address already in use"


def test_one_address_for_two(tmp_path: Path) -> None:
    code, said = ends("up", "--data", tmp_path / "data", "--mqtt", "127.0.0.1:2883", "--ws", "127.0.0.1:2883")
    assert code == 2
    assert "127.0.0.1:2883" in said and "listeners.default.bind" in said


@pytest.mark.parametrize(
    "path", ["aldis.plugins.nowhere.Nothing", "aldis.plugins.delivery.Delivry", "no_such_package.Plugin"]
)
def test_an_unknown_plugin(tmp_path: Path, path: str) -> None:
    file = profile(tmp_path / "mine.yaml", "embedded", {path: {}})
    code, said = up(tmp_path, "--config", file)
    assert code == 1
    assert path in said.splitlines()[-1]


def test_a_plugin_with_an_option_it_does_not_know(tmp_path: Path) -> None:
    plugin = "aldis.plugins.ordering.Ordering"
    code, said = up(tmp_path, "--config", profile(tmp_path / "mine.yaml", "embedded", {plugin: {"recent": 5}}))
    assert code == 1
    assert plugin in said and "recent" in said


def bound(pid: int) -> set[str]:
    """The hosts that a process listens on."""
    connections = psutil.Process(pid).net_connections("tcp")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def test_the_default_is_this_machine_only(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert bound(server.process.pid) == {"127.0.0.1"}


def test_lan_binds_all_addresses(tmp_path: Path) -> None:
    """On the ports that are configured; an address that is given as a flag is taken as it is."""
    free = {
        "listeners.default.bind": "127.0.0.1:0",
        "listeners.websocket.bind": "localhost:0",
        "http.bind": "127.0.0.1:0",
    }
    said = tmp_path / "out"
    for flags, hosts in (([], {"0.0.0.0"}), (["--http", "127.0.0.1:0"], {"0.0.0.0", "127.0.0.1"})):
        with said.open("wb") as out, (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(ALDIS), "up", "--lan", "--data", str(tmp_path / "data"), *flags],
                env=environment(free),
                stdout=out,
                stderr=log,
            )
        try:
            wait_for_ready(process, said)
            assert bound(process.pid) == hosts
            assert len(re.findall(r"//0\.0\.0\.0:", said.read_text())) == (3 if not flags else 2)
        finally:
            process.terminate()
            assert process.wait(20) == 0


def wait_for_ready(process: subprocess.Popen[bytes], said: Path) -> None:
    for _ in range(1_000):
        if said.read_text().endswith("ready\n"):
            return
        assert process.poll() is None
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError("not ready within 20 s")


def test_variables_win_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    """Seen from outside, by where it listens and what it grants."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "listeners: {default: {bind: '127.0.0.2:0'}}\nstore: {backend: none}\naccounts: {enabled: false}\n"
        "plugins: {amqtt.plugins.authentication.AnonymousAuthPlugin: {}}\nlimits: {max_subscriptions: 3}\n"
    )
    with running(tmp_path / "one", file, {"limits.max_subscriptions": 2}) as server, server.tcp() as client:
        assert server.mqtt[0] == "127.0.0.1"  # --mqtt
        client.connected("client")
        client.send(b"\x82\x0e\x00\x01" + b"\x00\x01a\x00" + b"\x00\x01b\x00" + b"\x00\x01c\x00")
        client.expect(b"\x90\x05\x00\x01\x00\x00\x80")
