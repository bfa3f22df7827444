"""Browsers in which people use the page: each device is a context of its own, with its own storage and its own line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.integration.stock import CLIENTS, installed
from tests.web.line import Line

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}

PATIENCE = 40_000
"""Milliseconds for anything that a page does: a loaded machine is slow, and a wait that is over returns at once."""

expect.set_options(timeout=PATIENCE)

_AWAY = re.compile(
    r"net::ERR_|WebSocket connection to '[^']*' failed|WebSocket is (closed before|already in CLOSING or CLOSED)"
    r"|Failed to load resource: net::"
)
"""What the browser itself writes when there is no network or no server; no page can keep it from that."""

_WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("policy violated:", event.violatedDirective, event.blockedURI, event.sourceFile, event.lineNumber));
"""


class Watch:
    """What goes wrong in a page: lines of the console, exceptions that nobody caught, violations of the policy."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._excused: list[re.Pattern[str]] = []

    def page(self, page: Page) -> None:
        page.on("console", self._line)
        page.on("pageerror", lambda error: self._note(f"exception: {error.message}\n{error.stack}"))
        page.on("crash", lambda _: self._note("the page has crashed"))

    @contextmanager
    def away(self) -> Iterator[None]:
        """While there is no network or no server."""
        with self.excusing(_AWAY):
            yield

    @contextmanager
    def excusing(self, pattern: re.Pattern[str] | str) -> Iterator[None]:
        """While the browser will write this by itself: an answer of 409, say."""
        self.excuse(pattern)
        yield
        # what was written at the end of that time may not have reached us yet, so the excuse stays

    def excuse(self, pattern: re.Pattern[str] | str) -> None:
        self._excused.append(re.compile(pattern))

    def _line(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            where = message.location
            self._note(f"{message.type}: {message.text} ({where.get('url', '')}:{where.get('lineNumber', '')})")

    def _note(self, line: str) -> None:
        if not any(pattern.search(line) for pattern in self._excused):
            self.wrong.append(line)


class Device:
    """One browser of one person. `page` is the tab that is looked at."""

    def __init__(self, browser: Browser, address: str, *, wide: bool, dark: bool = False, **more: Any) -> None:
        self.address, self.wide = address, wide
        self.watch = Watch()
        self.line = Line().start()
        self.context: BrowserContext = browser.new_context(
            viewport=DESKTOP if wide else PHONE,  # type: ignore[arg-type]
            has_touch=not wide,
            device_scale_factor=more.pop("scale", 1),
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
            proxy={"server": self.line.address},
            base_url=address,
            accept_downloads=True,
            **more,
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(_WATCH)
        self.page = self.tab()

    def tab(self) -> Page:
        page = self.context.new_page()
        self.watch.page(page)
        return page

    def open(self, path: str = "/") -> Device:
        self.page.goto(path)
        return self

    def close(self) -> None:
        self.context.close()
        self.line.stop()

    # The line

    def cut(self) -> None:
        """No network: the page is told as a browser tells it, and the connections break."""
        self.context.set_offline(True)
        self.line.cut()

    def mend(self) -> None:
        self.line.mend()
        self.context.set_offline(False)

    # What is wrong with it

    def barriers(self) -> list[str]:
        """What axe-core finds in the page as it is: rule, what it means, where."""
        installed()
        source = (CLIENTS / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
        # the page's policy lets nobody put a script into it, a test no more than anybody
        self.page.evaluate(source)
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {json.dumps([node['html'][:200] for node in one['nodes']])}"
            for one in found["violations"]
        ]


MakeDevice = Callable[..., Device]
"""The fixture `device`."""


def eventually(page: Page, condition: Callable[[], object], what: str) -> None:
    """Looks again until it is so, for whatever `expect` has no words for. The page goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE / 1_000
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        page.wait_for_timeout(50)
