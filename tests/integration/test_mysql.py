"""The whole server on a real MariaDB."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.databases import new_name
from tests.mariadb import shared_server
from tests.servers import ALDIS, Aldis, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    database = new_name("aldis_demo")
    shared_server().ask(f"CREATE DATABASE {database}")
    with running(tmp_path_factory.mktemp("node"), "node", {"store.url": shared_server().url(database)}) as server:
        yield server


def test_the_demo_keeps_every_promise(server: Aldis) -> None:
    played = subprocess.run(
        [
            *(ALDIS, "demo", "--messages", "100"),
            *("--mqtt", f"127.0.0.1:{server.mqtt[1]}", "--http", f"http://127.0.0.1:{server.http[1]}"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "BROKEN" not in played.stdout
    assert list((server.data).glob("*.db*")) == [], "nothing is kept in a file beside the secrets"
