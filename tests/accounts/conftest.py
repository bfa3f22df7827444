"""The running server that the tests of the REST API talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aldis.accounts_api import passwords
from aldis.config.files import Files as FilesSettings
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.talking import Talk, talking
from tests.accounts.world import World


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash takes next to nothing here. A module in which its cost matters has a fixture of this name that does
    nothing."""
    monkeypatch.setattr(passwords, "PASSES", 1)
    monkeypatch.setattr(passwords, "MEMORY_KIB", 8)


@pytest.fixture
def settings() -> AccountsSettings:
    return AccountsSettings()


@pytest.fixture(params=["sqlite", "mysql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, settings: AccountsSettings) -> AsyncIterator[World]:
    world = World(tmp_path, settings, back_end=request.param)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


@pytest.fixture
async def talk(world: World, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking(world, tmp_path, request.node.callspec.params["world"]) as talk:
        yield talk


@pytest.fixture
def files() -> FilesSettings:
    return FilesSettings()


@pytest.fixture
async def small(tmp_path: Path, settings: AccountsSettings, files: FilesSettings) -> AsyncIterator[World]:
    """A server on SQLite whose files are as the test module's fixture `files` says."""
    world = World(tmp_path, settings, files=files)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
