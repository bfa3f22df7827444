"""The engine of the web chat in a real browser, without the page around it: a bare document of the same server, under
the same policy, that imports `engine/chat.js`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from tests.servers import PASSWORD, Aldis
from tests.web.browsing import PATIENCE, Device

_numbers = itertools.count(1)

BARE = "/vendor/README.md"
"""A document of the server without scripts of its own."""

_OPEN = """async () => {
  const { Chat } = await import("/engine/chat.js");
  window.chat = new Chat();
  window.told = [];
  window.stored = async (store) => {
    const answer = (request) => new Promise((good, bad) => {
      request.onsuccess = () => good(request.result);
      request.onerror = () => bad(request.error);
    });
    const database = await answer(indexedDB.open("aldis"));
    const found = database.transaction(store).objectStore(store);
    const [keys, values] = await Promise.all([answer(found.getAllKeys()), answer(found.getAll())]);
    database.close();
    return { keys, values };
  };
  chat.addEventListener("message", (event) => told.push(event.detail));
  await chat.open();
}"""

_ACT = """async ([name, values]) => {
  try {
    return { value: await chat[name](...values) };
  } catch (error) {
    if (error.name !== "ChatError") throw error;
    return { code: error.code, message: error.message, retryAfter: error.retryAfter ?? null };
  }
}"""


class Refused(Exception):
    """A `ChatError`; `code` is its word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def open_chat(page: Page) -> None:
    """The engine, as `window.chat`, in a bare document; `window.stored(store)` reads its database."""
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.goto(BARE)
    page.evaluate(_OPEN)


class Engine:
    """One tab with a chat in it."""

    def __init__(self, device: Device, page: Page | None = None) -> None:
        self.device = device
        self.page = page or device.page
        self.open()

    def open(self) -> Engine:
        """Loads the document anew, and with it the engine: what it knew in memory is gone."""
        open_chat(self.page)
        return self

    def new_page(self) -> Engine:
        """The page is killed, and another one is there in the same browser; `open` is still to come."""
        self.page.close()
        self.page = self.device.tab()
        return self

    def act(self, name: str, *values: Any) -> Any:
        """Raises `Refused`."""
        answer = self.page.evaluate(_ACT, [name, list(values)])
        if "code" in answer:
            raise Refused(answer["code"], answer["message"])
        return answer.get("value")

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.page.evaluate("() => chat.state"))

    def contact(self, user: str) -> dict[str, Any] | None:
        return next((one for one in self.state["contacts"] if one["user"] == user), None)

    def conversation(self, user: str) -> dict[str, Any]:
        return dict(self.page.evaluate("(user) => chat.conversation(user)", user))

    def items(self, user: str) -> list[dict[str, Any]]:
        """What people have said, without the notices of the server."""
        return [one for one in self.conversation(user)["items"] if one["kind"] != "notice"]

    def texts(self, user: str) -> list[str]:
        return [one["text"] for one in self.items(user)]

    def ticks(self, user: str) -> list[str]:
        return [one["status"] for one in self.items(user) if one["mine"]]

    @property
    def notifications(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate("() => told"))

    def until(self, what: Callable[[], bool], patience: float = PATIENCE / 1000) -> None:
        """Waits until it is so."""
        deadline = time.monotonic() + patience
        while not what():
            assert time.monotonic() < deadline, f"it did not come about: {self.state}"
            self.page.wait_for_timeout(30)

    def online(self) -> Engine:
        self.until(lambda: self.state["link"]["state"] == "online")
        return self

    def send(self, user: str, *texts: str) -> None:
        for text in texts:
            self.act("sendText", user, text)

    def idle(self) -> None:
        """Everything composed here is on the server."""
        self.until(lambda: self.state["waiting"] == 0)


def login(device: Device, user: str) -> Engine:
    engine = Engine(device)
    engine.act("login", {"user": user, "password": PASSWORD})
    return engine.online()


def two(server: Aldis) -> tuple[str, str]:
    """Two friends whom nobody has met yet, on a server that several tests share."""
    number = next(_numbers)
    alice, bob = f"alice{number}", f"bob{number}"
    friends(server, alice, bob)
    return alice, bob


def friends(server: Aldis, *users: str) -> None:
    """Registered, and all friends with one another."""
    server.register(*users)
    for place, one in enumerate(users):
        for other in users[place + 1 :]:
            server.befriend(one, other)
