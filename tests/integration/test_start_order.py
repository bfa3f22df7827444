"""In which order things start does not matter; what waiting cannot heal is told at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aldis.accounts_api.secrets_file import make
from aldis.bridge.schema import REVISION
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.compose_store import StartFailed, migrate_when_there, open_store
from aldis.broker.ports import StoreUnavailable
from aldis.config.settings import Settings, load
from tests.databases import new_name
from tests.mariadb import USER, MariaDb, new_server, shared_server
from tests.servers import ALDIS, environment

NOBODY = "redis://127.0.0.1:1"
"""There is no Redis in these tests: a process of a cluster starts without it."""


def on(url: str, **store: Any) -> Settings:
    return load("mysql", {"store": {"url": url, **store}})


@pytest.fixture
def name() -> str:
    """A database without tables."""
    name = new_name("aldis_order")
    shared_server().ask(f"CREATE DATABASE {name}")
    return name


@pytest.fixture(scope="module")
def late() -> Iterator[MariaDb]:
    server = new_server()
    yield server
    server.stop()


async def opened(settings: Settings) -> None:
    store = await open_store(settings, WriteTurn(), migrating=False)
    await store.close()


async def test_tables_that_come_later(name: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = on(shared_server().url(name))
    opening = asyncio.create_task(opened(settings))
    with caplog.at_level(logging.WARNING, "aldis.broker.compose_store"):
        await asyncio.sleep(1.2)
        assert not opening.done()
        assert await migrate_when_there(settings) == REVISION
        await asyncio.wait_for(opening, 10)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["waiting for the database: the database has no tables yet: run `aldis migrate`"]


@pytest.mark.alone
async def test_tables_that_do_not_come(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(StartFailed, match=r"no tables yet: run `aldis migrate` \(waited 1 s\)"):
        await opened(on(shared_server().url(name), wait_at_start=1))
    assert 1 <= time.monotonic() - begun < 5


@pytest.mark.alone
async def test_a_database_that_is_ahead(name: str) -> None:
    settings = on(shared_server().url(name))
    await migrate_when_there(settings)
    shared_server().ask("UPDATE alembic_version SET version_num = '7777'", name)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="newer version"):
        await opened(settings)
    with pytest.raises(StartFailed, match="newer version"):
        await migrate_when_there(settings)
    assert time.monotonic() - begun < 5


@pytest.mark.alone
@pytest.mark.parametrize("wrong", ["password", "database", "tls"])
async def test_what_waiting_does_not_heal(name: str, wrong: str) -> None:
    settings = {
        "password": on(f"mysql://{USER}:nonsense@127.0.0.1:{shared_server().port}/{name}"),
        "database": on(shared_server().url("aldis_misspelt")),
        "tls": on(shared_server().url(name), tls={}),
    }[wrong]
    told = {"password": "Access denied", "database": "Unknown database", "tls": "TLS is required"}[wrong]
    begun = time.monotonic()
    with pytest.raises(StartFailed, match=told) as refused:
        await migrate_when_there(settings)
    assert "nonsense" not in str(refused.value)
    with pytest.raises(StoreUnavailable, match=told):
        await opened(settings)
    assert time.monotonic() - begun < 5


def processes(tmp_path: Path, url: str, *commands: str) -> Iterator[subprocess.Popen[str]]:
    if not (tmp_path / "secrets.json").exists():
        make(tmp_path / "secrets.json")
    settings = {"store.url": url, "cluster.redis_url": NOBODY, "accounts.secret_file": tmp_path / "secrets.json"}
    ports = {
        "node": ["--mqtt=127.0.0.1:0", "--ws=127.0.0.1:0", "--http=127.0.0.1:0"],
        "accounts": ["--http=127.0.0.1:0"],
    }
    for command in commands:
        yield subprocess.Popen(
            [str(ALDIS), command, "--config", "accounts" if command == "accounts" else "node", *ports.get(command, [])],
            env=environment(settings),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_everything_before_its_database(tmp_path: Path, late: MariaDb) -> None:
    """Node, accounts and migration start while nothing is there; then the server comes, then the database."""
    name = new_name("aldis_late")
    migrate, node, accounts = processes(tmp_path, late.url(name), "migrate", "node", "accounts")
    try:
        time.sleep(2)
        assert [one.poll() for one in (migrate, node, accounts)] == [None, None, None]
        late.start("--skip-networking")
        late.ask(f"CREATE DATABASE {name}")
        late.stop()
        late.start()
        assert migrate.communicate(timeout=30)[0].endswith(f"the database is at revision {REVISION}\n")
        for one in (node, accounts):
            assert one.stdout is not None
            assert "ready\n" in iter(one.stdout.readline, "")
        for one in (node, accounts):
            one.send_signal(signal.SIGTERM)
        for one in (node, accounts):
            log = one.communicate(timeout=20)[1]
            assert one.returncode == 0, log
            assert log.count("waiting for the database") == 1 and "Traceback" not in log, log
            assert "could not be told" not in log, "one line now and then, not one for each attempt"
    finally:
        for one in (migrate, node, accounts):
            one.kill()
            one.communicate()


@pytest.mark.alone
@pytest.mark.parametrize("command", ["node", "accounts"])
def test_who_waits_can_be_stopped(tmp_path: Path, command: str) -> None:
    (waiting,) = processes(tmp_path, "mysql://aldis@127.0.0.1:1/aldis", command)
    try:
        assert waiting.stderr is not None
        assert any("waiting for the database" in line for line in waiting.stderr)
        begun = time.monotonic()
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(10) == 0
        assert time.monotonic() - begun < 3
    finally:
        waiting.kill()
        waiting.communicate()
