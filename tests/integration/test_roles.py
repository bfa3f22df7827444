"""`aldis node`, `aldis accounts`, `aldis secrets make`, as the operator meets them: what is refused, and how."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from aldis.accounts_api.secrets_file import make
from tests.databases import empty_database, new_name
from tests.mariadb import shared_server
from tests.people import people
from tests.servers import ALDIS, environment, running

NOBODY = {"store.url": "mysql://aldis:hush@127.0.0.1:1/aldis", "cluster.redis_url": "redis://:hush@127.0.0.1:1"}
ROLES = ("node", "accounts")


def aldis(folder: Path, *arguments: object, settings: dict[str, Any] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and error; it must end by itself, and tell no secret."""
    ended = subprocess.run(
        [str(ALDIS), *map(str, arguments)],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said and "hush" not in said, said
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("profile", ["embedded", "mysql", "lab"])
def test_one_of_several_needs_a_way_to_the_others(tmp_path: Path, role: str, profile: str) -> None:
    code, _, said = aldis(tmp_path, role, "--config", profile)
    assert code == 2
    assert said == (
        f"aldis: cluster.redis_url: must be given for `aldis {role}`, which is one of several processes; "
        "`aldis up` is one for everything\n"
    )


@pytest.mark.parametrize("role", [*ROLES, "up"])
def test_keys_that_are_missing_are_not_made(tmp_path: Path, role: str) -> None:
    code, _, said = aldis(tmp_path, role, "--config", "node", "--http=127.0.0.1:0", settings=NOBODY)
    assert code == 1
    assert said.splitlines()[-1] == (
        "aldis: there is no secrets file data/secrets.json: all processes of a cluster need the same one. Make it "
        "once, with `aldis secrets make data/secrets.json`, and give each of them a copy"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ROLES)
def test_keys_that_everybody_may_read_are_refused(tmp_path: Path, role: str) -> None:
    make(tmp_path / "keys.json")
    (tmp_path / "keys.json").chmod(0o644)
    code, _, said = aldis(tmp_path, role, settings={**NOBODY, "accounts.secret_file": tmp_path / "keys.json"})
    assert code == 1 and f"{tmp_path}/keys.json holds the server's keys, but its mode 0644 lets others at it" in said


@pytest.mark.parametrize("role", ROLES)
def test_keys_that_are_damaged_are_refused(tmp_path: Path, role: str) -> None:
    (tmp_path / "keys.json").write_text('{"version": 1, "signing_key": "hush"}')
    (tmp_path / "keys.json").chmod(0o600)
    code, _, said = aldis(tmp_path, role, settings={**NOBODY, "accounts.secret_file": tmp_path / "keys.json"})
    assert code == 1 and "keys.json is damaged: signing_key is not" in said


def test_keys_are_made_once(tmp_path: Path) -> None:
    code, said, _ = aldis(tmp_path, "secrets", "make", "keys/aldis.json")
    assert code == 0 and said.startswith("made keys/aldis.json. ")
    file = tmp_path / "keys" / "aldis.json"
    before = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600 and len(json.loads(before)) == 3
    assert not any(key in said for key in json.loads(before).values() if isinstance(key, str))
    code, _, complaint = aldis(tmp_path, "secrets", "make", "keys/aldis.json")
    assert (code, complaint) == (1, "aldis: keys/aldis.json is there already and stays: its keys may be in use\n")
    assert file.read_bytes() == before


def test_keys_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    code, _, said = aldis(tmp_path, "secrets", "make", "plain/aldis.json")
    assert code == 1 and said.startswith("aldis: cannot use plain/aldis.json: ")


@pytest.mark.parametrize("role", ROLES)
def test_a_port_that_is_taken(tmp_path: Path, role: str) -> None:
    make(tmp_path / "data" / "secrets.json")
    settings = {**NOBODY, "store.url": empty_database("aldis_roles").url}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, said = aldis(tmp_path, role, f"--http={address}", settings=settings)
    assert code == 1
    assert said.splitlines()[-1] == f"aldis: http: cannot listen on {address}: Address already in use"


def test_the_help_names_every_command(tmp_path: Path) -> None:
    code, said, _ = aldis(tmp_path, "--help")
    assert code == 0
    for command in ("up", "node", "accounts", "migrate", "config", "secrets", "tls", "demo"):
        assert f"\n    {command}" in said


def test_all_in_one_is_a_node_with_the_rest_api_in_it(tmp_path: Path) -> None:
    """It migrates by itself, and waits for no Redis."""
    make(tmp_path / "keys.json")
    name = new_name("aldis_roles")
    shared_server().ask(f"CREATE DATABASE {name}")
    settings = {**NOBODY, "store.url": shared_server().url(name), "accounts.secret_file": tmp_path / "keys.json"}
    with running(tmp_path / "server", "node", settings) as server:
        (ada,) = people(server, "ada")
        with ada.online() as phone:
            assert phone.say(ada, {"body": "a note"})["type"] == "sent"
        assert not server.data.exists(), "a process of a cluster keeps nothing of its own"
        assert "hush" not in server.log


def test_the_accounts_behind_tls(tmp_path: Path) -> None:
    make(tmp_path / "data" / "secrets.json")
    assert aldis(tmp_path, "tls", "dev", "--out", "tls")[0] == 0
    settings = {**NOBODY, "store.url": empty_database("aldis_roles").url}
    process = subprocess.Popen(
        [str(ALDIS), "accounts", "--http=127.0.0.1:0", "--tls-cert=tls/server.pem", "--tls-key=tls/server.key"],
        cwd=tmp_path, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = "".join(iter(process.stdout.readline, "ready\n"))
        found = re.search(r"^REST API +(https://127\.0\.0\.1:\d+)/docs\nweb chat +\1/\n$", said)
        assert found, said
        context = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
        with urllib.request.urlopen(found[1] + "/readyz", timeout=10, context=context) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_accounts_take_new_settings_and_refuse_wrong_ones(tmp_path: Path) -> None:
    make(tmp_path / "data" / "secrets.json")
    profile = tmp_path / "mine.yaml"

    def write(**extra: object) -> None:
        profile.write_text(json.dumps({
            "store": {"backend": "mysql", "url": empty_url}, "cluster": {"redis_url": NOBODY["cluster.redis_url"]},
            "http": {"bind": "127.0.0.1:0"}, **extra,
        }))  # fmt: skip

    empty_url = empty_database("aldis_roles").url
    write()
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(ALDIS), "accounts", "--config", str(profile)], cwd=tmp_path, env=environment(),
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None and "ready\n" in iter(process.stdout.readline, "")
        for extra, told in (
            ({"limts": {}}, "settings not reloaded: limts: unknown setting"),
            ({"accounts": {"max_friends": 5}}, "accounts has changed, which takes effect only at the next start"),
            ({"logging": {"format": "json"}}, '"settings reloaded"'),
        ):
            write(**extra)
            process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 10
            while told not in log.read_text():
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in log.read_text() and "hush" not in log.read_text()
    finally:
        process.kill()
        process.communicate()
