"""What the page looks like to two people who use it: the key screens, without a barrier, on a phone and on a desktop,
light and dark. `make screenshots` keeps them in docs/images for the README; otherwise nothing is left behind."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.people import Person
from tests.servers import PASSWORD, Aldis
from tests.web.chatting import Chatting, MakeDevice

OTHERS = {
    "noor.haddad": ("Noor Haddad", ["The tickets are in your inbox", "Platform 4, 9:12", "Bring the good coffee!"]),
    "greenhouse": ("Greenhouse", ["Window 2 opened, 27.4 °C"]),
    "emil": ("Emil Sørensen", ["See you on Thursday 👋"]),
    "tomasz": ("Tomasz", ["Sure, whenever you like."]),
}
"""Who else has written, and what; the last in the list wrote first."""
READ = ("emil", "tomasz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = os.environ.get("SCREENSHOTS")
    return Path(wanted) if wanted else tmp_path_factory.mktemp("screens")


def keep(page: Page, folder: Path, name: str) -> None:
    """The picture in both themes. Large plain areas make it small without taking colours out of it."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        page.mouse.move(0, 0)
        page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        page.evaluate("document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => done())))")
        shot = page.screenshot(animations="disabled", caret="hide")
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        assert len(picture.getcolors(1_000_000) or []) > 20, "it shows something"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{name}-{theme}.png", optimize=True)
    page.emulate_media(color_scheme="light")


def a_photo(page: Page) -> bytes:
    """The picture beside the door, by night, as somebody's photograph."""
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    shot = page.screenshot(animations="disabled", clip={"x": 0, "y": 120, "width": 560, "height": 400})
    page.emulate_media(color_scheme="light")
    picture = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert("RGB").save(picture, "JPEG", quality=88)
    return picture.getvalue()


def acquaintances(server: Aldis, user: str) -> None:
    """People who have written before, by clients of another kind."""
    me = Person(server, user)
    for name, (shown, texts) in reversed(OTHERS.items()):
        server.rest("POST", "/v1/users", {"user_id": name, "password": PASSWORD, "name": shown})
        other = Person(server, name)
        other.befriend(me)
        with other.online() as stock:
            for number, text in enumerate(texts):
                stock.say(me, {"id": number, "body": text})


def test_the_key_screens(device: MakeDevice, server: Aldis, folder: Path) -> None:
    mara = Chatting(device(scale=2), "mara", "Mara Lind")
    jonas = Chatting(device(wide=True, scale=1.5), "jonas", "Jonas Brandt")
    jonas.device.open()
    jonas.page.get_by_label("User id").wait_for()
    photo = a_photo(jonas.page)
    mara.device.open()
    mara.page.get_by_label("User id").wait_for()
    keep(mara.page, folder, "door-phone")

    mara.register()
    laptop = Chatting(device(wide=True, scale=1.5), "mara", "Mara Lind").login()
    acquaintances(server, "mara")
    jonas.register()
    mara.ask("jonas")
    jonas.accept("Mara Lind")
    for name in READ:
        mara.open_chat(OTHERS[name][0])
        mara.sees(OTHERS[name][1][-1])
        mara.back()
    mara.open_chat("Jonas Brandt")
    jonas.open_chat("Mara Lind")
    jonas.say("Are you up at the lighthouse already?")
    mara.say("Since six! The light is wonderful this morning")
    mara.attach({"name": "lighthouse.jpg", "mimeType": "image/jpeg", "buffer": photo})
    expect(jonas.page.get_by_role("img", name="lighthouse.jpg")).to_be_visible()
    jonas.say("Oh, that one goes on the wall.", "Shall I bring the spare bulb? The old one flickers 💡")
    mara.say("Yes please, and something warm to drink")
    jonas.tick("Oh, that one goes on the wall.", "read")
    mara.tick("Yes please, and something warm to drink", "read")
    jonas.attach({"name": "ferry-times.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n" + b" " * 182_000})
    expect(mara.page.get_by_text("ferry-times.pdf").last).to_be_visible()
    jonas.say("Next ferry is at 9:40, see you then")
    mara.sees("Next ferry is at 9:40, see you then")
    jonas.tick("Next ferry is at 9:40, see you then", "read")

    keep(mara.page, folder, "conversation-phone")
    mara.back()
    mara.unread("Noor Haddad", 3)
    keep(mara.page, folder, "list-phone")
    for person in (mara, jonas):
        assert person.device.barriers() == []

    laptop.open_chat("Jonas Brandt").sees("Next ferry is at 9:40, see you then")
    expect(laptop.page.get_by_role("img", name="lighthouse.jpg")).to_be_visible()
    laptop.unread("Noor Haddad", 3)
    jonas.page.get_by_role("textbox", name="Message to").press_sequentially("On my w")
    laptop.head("typing …")
    keep(laptop.page, folder, "chat-desktop")
    assert laptop.device.barriers() == []
