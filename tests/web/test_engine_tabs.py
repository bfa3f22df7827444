"""Tabs that share a browser: one of them has the chat, and the others know it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import PASSWORD, Aldis
from tests.web.browsing import Device, MakeDevice
from tests.web.engines import BARE, Engine, Refused, login, two


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without locks"])
def test_two_tabs(server: Aldis, device: MakeDevice, locks: bool) -> None:
    alice, bob = two(server)
    shared = device()
    if not locks:
        shared.context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined });")
    first, other = login(shared, alice), login(device(), bob)
    second = Engine(shared, shared.tab())
    assert (first.state["phase"], second.state["phase"]) == ("ready", "elsewhere")
    second.act("takeOver")
    second.online()
    first.until(lambda: first.state["phase"] == "elsewhere")
    with pytest.raises(Refused):
        first.act("sendText", bob, "from the wrong tab")
    second.send(bob, "from the second tab")
    other.until(lambda: other.texts(alice) == ["from the second tab"])
    first.act("takeOver")
    first.online().until(lambda: first.texts(bob) == ["from the second tab"])
    assert second.state["phase"] == "elsewhere"
    first.page.close()
    third = Engine(shared, shared.tab()).online()
    other.send(alice, "to the third")
    third.until(lambda: third.texts(bob) == ["from the second tab", "to the third"])


def _deaf_to_each_other(shared: Device, user: str) -> tuple[Engine, Engine]:
    """Two tabs of one browser without locks and channels: the second takes the chat, and the first is not asked."""
    shared.context.add_init_script("""
      delete window.BroadcastChannel;
      Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined });""")
    return login(shared, user), Engine(shared, shared.tab()).online()


def test_a_tab_that_does_not_answer_is_not_waited_for(server: Aldis, device: MakeDevice) -> None:
    """A frozen tab wakes up and finds that it has lost the chat: what it tries to write is refused by the database."""
    alice, bob = two(server)
    shared = device()
    first, second = _deaf_to_each_other(shared, alice)
    with pytest.raises(Refused) as refused:
        first.act("sendText", bob, "too late")
    assert refused.value.code == "elsewhere"
    first.until(lambda: first.state["phase"] == "elsewhere")
    second.send(bob, "in time")
    second.idle()
    assert second.texts(bob) == ["in time"]


def test_tabs_that_cannot_hear_each_other_do_not_fight(server: Aldis, device: MakeDevice) -> None:
    """Without locks two tabs that are opened at the same moment both take the chat. The one that was first is thrown
    out by the server; it does not come back, but finds out why."""
    alice, bob = two(server)
    shared = device()
    first, second = _deaf_to_each_other(shared, alice)
    first.until(lambda: first.state["phase"] == "elsewhere")
    second.online().send(bob, "in peace")
    second.idle()
    assert second.texts(bob) == ["in peace"]


def test_a_tab_that_is_just_being_closed_is_waited_for(device: MakeDevice) -> None:
    """Its lock goes a moment after it. Here it is let go of when somebody asks who has the chat."""
    shared = device()
    shared.page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    shared.page.goto(BARE)
    shared.page.evaluate("""() => {
      const going = new Promise((gone) => {
        window.channel = new BroadcastChannel("aldis-chat");
        channel.onmessage = gone;
      });
      return new Promise((held) => void navigator.locks.request("aldis-chat", () => { held(); return going; }));
    }""")
    assert Engine(shared, shared.tab()).state["phase"] == "signed-out"


def test_a_chat_that_is_taken_while_it_begins(server: Aldis, device: MakeDevice) -> None:
    """The tab that was still logging in does not believe that it is ready."""
    alice, _ = two(server)
    shared = device()
    first = Engine(shared)
    second = Engine(shared, shared.tab())
    assert second.state["phase"] == "elsewhere"
    shared.watch.excuse("WebSocket is closed before the connection is established")  # if it was that far
    held: list[Any] = []
    first.page.route("**/v1/relations*", lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks it)
    who = {"user": alice, "password": PASSWORD}
    first.page.evaluate("(who) => { window.login = chat.login(who); }", who)
    first.until(lambda: bool(held))
    second.act("takeOver")
    second.online()
    first.until(lambda: first.state["phase"] == "elsewhere")
    for route in held:
        route.continue_()
    first.page.evaluate("() => login")
    assert (first.state["phase"], first.state["me"]) == ("elsewhere", None)
