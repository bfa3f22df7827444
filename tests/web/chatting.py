"""What a person does with the page, by the words on it: roles and labels as a screen reader has them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.servers import PASSWORD
from tests.web.browsing import Device, MakeDevice

_numbers = itertools.count(1)

TICKS = {
    "waiting": "Waiting for a connection",
    "sent": "Sent: safe on the server",
    "delivered": "Delivered",
    "read": "Read",
    "failed": "Not sent",
}


def new_user(name: str) -> str:
    """A user id that nobody has yet on a server that several tests share."""
    return f"{name.lower()}{next(_numbers)}"


class Chatting:
    """One person at one device. Every action waits until the page shows what it has done."""

    def __init__(self, device: Device, user: str, name: str = "") -> None:
        self.device = device
        self.user = user
        self.name = name or user
        self.page: Page = device.page

    # Coming in

    def register(self) -> Chatting:
        self.device.open()
        self.page.get_by_role("group", name="Log in or create").get_by_role("button", name="Create account").click()
        self._fill(password=PASSWORD)
        if self.name != self.user:
            self.page.get_by_label("Name").fill(self.name)
        self.page.locator("form").get_by_role("button", name="Create account").click()
        return self.inside()

    def login(self, password: str = PASSWORD) -> Chatting:
        self.device.open()
        self._fill(password=password)
        self.page.locator("form").get_by_role("button", name="Log in").click()
        return self.inside()

    def _fill(self, password: str) -> None:
        self.page.get_by_label("User id").fill(self.user)
        self.page.get_by_label("Password", exact=True).fill(password)

    def inside(self) -> Chatting:
        expect(self.page.get_by_role("region", name="Conversations")).to_be_visible()
        self.online()
        return self

    def online(self) -> Chatting:
        """Connected, as far as the page says."""
        expect(self.page.locator(".banner[data-link]")).to_have_count(0)
        return self

    # Friends

    def ask(self, other: str) -> None:
        self.page.get_by_role("button", name="Add a friend").first.click()
        self.page.get_by_label("User id of your friend").fill(other)
        self.page.get_by_role("button", name="Ask", exact=True).click()
        expect(self.page.get_by_text(re.compile(r"^Asked"))).to_be_visible()
        self.close_sheet()

    def accept(self, name: str) -> None:
        self.page.get_by_role("button", name="friend request").click()
        self.page.get_by_role("button", name=f"Accept {name}").click()
        expect(self.page.get_by_role("button", name=f"Accept {name}")).to_have_count(0)
        self.close_sheet()

    def close_sheet(self) -> None:
        self.page.get_by_role("button", name="Close").click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    # The list

    def row(self, title: str) -> Locator:
        return self.page.get_by_role("list", name="Conversations").get_by_role("link").filter(has_text=title)

    def open_chat(self, title: str) -> Chatting:
        self.row(title).click()
        expect(self.page.get_by_role("region", name=f"Conversation: {title}")).to_be_visible()
        return self

    def back(self) -> None:
        """To the list, on a phone."""
        self.page.get_by_role("button", name="Back to the list").click()
        expect(self.page.get_by_role("list", name="Conversations")).to_be_visible()

    def unread(self, title: str, count: int) -> None:
        badge = self.row(title).locator(".badge")
        if count == 0:
            expect(badge).to_have_count(0)
        else:
            word = "unread message" if count == 1 else "unread messages"
            expect(badge).to_contain_text(f"{count} {word}")

    # The conversation

    def say(self, *texts: str) -> None:
        field = self.page.get_by_role("textbox", name="Message to")
        for text in texts:
            field.fill(text)
            self.page.get_by_role("button", name="Send", exact=True).click()
            expect(self.bubble(text)).to_be_visible()

    def bubble(self, text: str) -> Locator:
        return self.page.locator("li.row").filter(has=self.page.get_by_text(text, exact=True))

    def sees(self, *texts: str) -> None:
        """Each of them once."""
        for text in texts:
            expect(self.bubble(text)).to_have_count(1)
            expect(self.bubble(text)).to_be_visible()

    def texts(self) -> list[str]:
        """What is in the page of the conversation, in its order."""
        return self.page.locator("li.row p.text").all_inner_texts()

    def tick(self, text: str, *statuses: str) -> None:
        """The message has come so far, or further where several are named."""
        names = "|".join(re.escape(TICKS[status]) for status in statuses)
        expect(self.bubble(text).get_by_role("img", name=re.compile(f"^({names})"))).to_have_count(1)

    def head(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator(".who-line")).to_have_text(text)

    def attach(self, *files: dict[str, Any]) -> None:
        """Sends files that lie in memory: `name`, `mimeType`, `buffer`."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Send a file").click()
        chooser.value.set_files(list(files))  # type: ignore[arg-type]
        self.page.get_by_role("button", name="Send to").click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def saved(self, name: str) -> bytes:
        """The file as the page gives it to the browser for keeping; it is fetched first if it is not here."""
        fetch = self.page.get_by_role("button", name=re.compile(f"^Fetch {re.escape(name)}"))
        save = self.page.get_by_role("button", name=f"Save {name}")
        expect(fetch.or_(save)).to_be_visible()
        if fetch.count():
            fetch.click()
        with self.page.expect_download() as download:
            save.click()
        path = download.value.path()
        assert download.value.suggested_filename == name
        return Path(path).read_bytes()

    # The settings

    def settings(self, page: str) -> None:
        self.page.get_by_role("button", name="Settings").click()
        self.page.get_by_role("button", name=re.compile(f"^{page}( Where.*)?$")).click()
        expect(self.page.get_by_role("dialog", name=page, exact=True)).to_be_visible()

    def signed_out(self, reason: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_role("button", name="Log in").last).to_be_visible()
        expect(self.page.locator(".door-reason")).to_have_text(reason)


def friends(device: MakeDevice, *, wide: Iterable[bool] = (False, True)) -> list[Chatting]:
    """Two people at a device each, who have become friends through the page and have each other's chat open."""
    first, second = (
        Chatting(device(wide=is_wide), new_user(name), name)
        for is_wide, name in zip(wide, ("Anna", "Bruno"), strict=True)
    )
    first.register()
    second.register()
    first.ask(second.user)
    second.accept(first.name)
    first.open_chat(second.name)
    second.open_chat(first.name)
    return [first, second]


def no_doubles(*people: Chatting) -> None:
    for person in people:
        texts = person.texts()
        assert len(texts) == len(set(texts)), texts
