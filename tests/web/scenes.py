"""The page on a double of its engine: every state at once, without waiting for a server to bring it about."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.web.browsing import Device

DOUBLE = Path(__file__).with_name("double")

_ENGINE = re.compile(r"/engine/|/keep\.js")


def _instead(route: Route) -> None:
    """The double where it has a file of that name, what the server has otherwise."""
    file = DOUBLE / route.request.url.rsplit("/", 1)[1]
    if file.exists():
        route.fulfill(path=file, content_type="text/javascript")
    else:
        route.continue_()


class Stage:
    """One page that shows scenes of the double. It comes from the real server, under its real policy."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.page: Page = device.page
        # what the service worker keeps would come past the double
        device.context.route(_ENGINE, _instead)

    def scene(self, name: str, place: str = "#/") -> Stage:
        self.page.goto("about:blank")
        self.page.goto(f"/?scene={name}{place}")
        expect(self.page.locator(".shell, .door, .notice-screen")).to_be_visible()
        if name not in ("starting",):
            expect(self.page.locator("[aria-busy=true].shell")).to_have_count(0)
        return self

    def double(self, expression: str) -> Any:
        """Moves something behind the page's back: `receive('bob', 'hi')`."""
        return self.page.evaluate(f"window.double.{expression}")

    def calls(self, name: str) -> list[list[Any]]:
        """What the page has asked of the engine under this name."""
        return [given for called, *given in self.double("calls") if called == name]

    def field(self) -> Any:
        return self.page.get_by_role("textbox", name="Message to")

    def rows(self) -> Any:
        return self.page.locator(".messages li[data-key] .bubble")

    def settled(self) -> Stage:
        """After what was begun is drawn: two frames and what they have put off."""
        twice = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)))"
        self.page.evaluate(f"() => new Promise((done) => {twice})")
        return self


def stage(device: Callable[..., Device], **how: Any) -> Stage:
    """A page for scenes on a device of the fixture `device`."""
    return Stage(device(service_workers="block", **how))
