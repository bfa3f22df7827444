"""`aldis keys` beside a running server, and servers that were given the wrong master key."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import clustered, entrances
from tests.people import people
from tests.servers import ALDIS, Aldis, RestError, environment, running


def keys(server: Aldis, *words: str, code: int = 0) -> str:
    """What `aldis keys …` says."""
    command = [str(ALDIS), "keys", *words, "--data", str(server.data)]
    done = subprocess.run(
        command, env=environment(server.settings), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def secrets(server: Aldis) -> dict[str, Any]:
    return json.loads((server.data / "secrets.json").read_text())


def starts_not(server: Aldis) -> str:
    """The reason that `aldis up` gives."""
    done = subprocess.run(
        server.command, env=environment(server.settings), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def wrapped(server: Aldis) -> list[tuple[Any, ...]]:
    with sqlite3.connect(server.data / "aldis.db") as connection:
        return connection.execute("SELECT * FROM im_relation_key ORDER BY user_id1, user_id2, version").fetchall()


def test_a_rotation_beside_a_running_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ada, bob = people(server, "ada", "bob")
        path = f"/v1/relations/{bob.user}"
        for _ in range(3):
            ada.rest("POST", f"{path}/rotate-key")
        before = ada.rest("GET", f"{path}/keys")["keys"]
        old = secrets(server)["master_key"]
        (listed,) = keys(server, "list").splitlines()
        assert re.fullmatch(r"[0-9a-f]{16}  wraps, 4 relation keys", listed)
        failures: list[str] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                if ada.rest("GET", f"{path}/keys")["keys"][:4] != before:
                    failures.append("other keys")

        reader = threading.Thread(target=read)
        reader.start()
        try:
            said = keys(server, "rotate-master")
        finally:
            stop.set()
            reader.join()
        assert failures == [] and "wrapped again: 4" in said
        found = secrets(server)
        assert found["master_key"] == old and len(found["more_master_keys"]) == 1
        assert (server.data / "secrets.json").stat().st_mode & 0o777 == 0o600
        new = re.findall(r"from now on ([0-9a-f]{16}) wraps", said)[0]
        assert {row[3] for row in wrapped(server)} == {new}
        made = ada.rest("POST", f"{path}/rotate-key")["keys"]
        assert {row[3] for row in wrapped(server)} == {new}
        assert bob.rest("GET", f"/v1/relations/{ada.user}/keys")["keys"] == before + made
        assert "is in use" in keys(server, "forget-master", new, code=1)
        keys(server, "forget-master", listed[:16])
        left = secrets(server)
        assert "more_master_keys" not in left and left["master_key"] == found["more_master_keys"][0]
        assert keys(server, "list") == f"{new}  wraps, 5 relation keys\n"
        assert ada.rest("GET", f"{path}/keys")["keys"] == before + made
        server.stop()
        server.start()
        assert ada.rest("GET", f"{path}/keys")["keys"] == before + made
        for secret in (old, left["master_key"], before[0]["key"]):
            assert secret not in said + server.log


def test_a_wrong_master_key_is_said_at_the_start_and_destroys_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ada, _ = people(server, "ada", "bob")
        before = ada.rest("GET", "/v1/relations")
        server.stop()
        rows = wrapped(server)
        right = server.data / "secrets.json"
        shutil.copy2(right, tmp_path / "kept")
        document = json.loads(right.read_text())
        document["master_key"] = base64.b64encode(b"w" * 32).decode()
        right.write_text(json.dumps(document))
        reason = starts_not(server)
        assert re.search(r"aldis: .*wrapped under the master key [0-9a-f]{16}; this server has [0-9a-f]{16}", reason)
        assert document["master_key"] not in reason and document["signing_key"] not in reason
        assert "wrapped under the master key" in keys(server, "rotate-master", code=1)
        assert wrapped(server) == rows
        shutil.copy2(tmp_path / "kept", right)
        server.start()
        assert ada.rest("GET", "/v1/relations") == before


def test_a_master_key_from_the_environment(tmp_path: Path) -> None:
    first, second = (base64.b64encode(letter * 32).decode() for letter in (b"1", b"2"))
    with running(tmp_path, settings={"accounts.keys.master": first}) as server:
        ada, _ = people(server, "ada", "bob")
        before = ada.rest("GET", "/v1/relations")
        assert "accounts.keys.master" in keys(server, "add-master", code=1)
        assert "no new master key" in keys(server, "rotate-master", code=1)
        server.stop()
        server.settings["accounts.keys.master"] = f"{first},{second}"
        server.start()
        assert "wrapped again: 1" in keys(server, "rotate-master")
        assert ada.rest("GET", "/v1/relations") == before
        server.stop()
        server.settings["accounts.keys.master"] = second
        server.start()
        assert ada.rest("GET", "/v1/relations") == before
        server.stop()
        for wrong in ("SECRET", f"{second},", first[:-4], "A" * 44):
            server.settings["accounts.keys.master"] = wrong
            command = [*server.command]
            done = subprocess.run(
                command, env=environment(server.settings), capture_output=True, text=True, check=False
            )
            assert done.returncode == 2 and "accounts.keys.master" in done.stderr and wrong not in done.stderr
        server.settings["accounts.keys.master"] = first
        assert "wrapped under the master key" in starts_not(server)
        for secret in (first, second):
            assert secret not in server.log


def test_in_a_cluster_every_process_has_the_new_key_first(tmp_path: Path) -> None:
    """The accounts process has a copy of the secrets file. While it lacks the new key, it says so and loses nothing."""
    with clustered(tmp_path, nodes=1) as cluster:
        accounts, copy = cluster.accounts, tmp_path / "copy.json"
        shutil.copy2(cluster.secrets, copy)
        accounts.settings["accounts.secret_file"] = copy
        accounts.restart()
        (entrance,) = entrances(cluster)
        ada, bob = people(entrance, "ada", "bob")
        path = f"/v1/relations/{bob.user}"
        before = ada.rest("GET", f"{path}/keys")["keys"]

        def keys(act: str, code: int = 0) -> str:
            settings = {**accounts.settings, "accounts.secret_file": cluster.secrets}
            settings |= {"store.url": cluster.mysql.url(), "store.password_file": cluster.mysql.password_file}
            settings["cluster.redis_url"] = cluster.redis.url()
            done = subprocess.run(
                [str(ALDIS), "keys", act, "--config", "accounts"],
                env=environment(settings),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout + done.stderr

        assert "`aldis keys add-master` makes one" in keys("rotate-master", code=1)
        assert "Give every process of the cluster its copy" in keys("add-master")
        assert "wrapped again: 1" in keys("rotate-master")
        with pytest.raises(RestError, match="503"):
            ada.rest("GET", f"{path}/keys")
        with pytest.raises(RestError, match="503"):
            ada.rest("POST", f"{path}/rotate-key")
        assert "wrapped under the master key" in accounts.log.read_text()
        shutil.copy2(cluster.secrets, copy)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert ada.rest("GET", f"{path}/keys")["keys"] == before
                break
            except RestError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        made = ada.rest("POST", f"{path}/rotate-key")["keys"]
        assert bob.rest("GET", f"/v1/relations/{ada.user}/keys")["keys"] == before + made
        listed = keys("list").splitlines()
        assert sorted(line.split("  ")[1] for line in listed) == ["old, 0 relation keys", "wraps, 2 relation keys"]
