"""A real server, a real browser, and people with devices. What goes wrong in a page fails its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from scripts.processes import program
from tests.servers import Aldis, running
from tests.web.browsing import Device

LIMIT = 300
"""Seconds for one test in a browser; it waits for what it sees, so on an idle machine it needs a tenth."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/web/" in item.nodeid and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while it is there, asyncio's own tests could not run in this thread."""
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """As `aldis up` starts it. A test that kills it starts it again."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def device(browser: Browser, server: Aldis) -> Iterator[Callable[..., Device]]:
    """Makes devices: `device(wide=True)`. None of them may have met anything wrong."""
    made: list[Device] = []

    def make(*, wide: bool = False, **more: Any) -> Device:
        one = Device(browser, "http://{}:{}".format(*server.http), wide=wide, **more)
        made.append(one)
        return one

    yield make
    wrong = [line for one in made for line in one.watch.wrong]
    for one in made:
        one.close()
    assert wrong == [], "\n".join(wrong)
