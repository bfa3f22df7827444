"""Several devices of one person in step, and what one of them may do to the others."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.web.browsing import Device
from tests.web.chatting import Chatting, MakeDevice, friends, new_user, no_doubles


@pytest.fixture
def three(device: MakeDevice) -> tuple[Chatting, Chatting, Chatting]:
    """Anna at her phone and her laptop, Bruno at his phone; all have the chat open."""
    phone, bruno = friends(device, wide=(False, False))
    laptop = Chatting(device(wide=True), phone.user, "Anna").login()
    laptop.open_chat("Bruno")
    return phone, laptop, bruno


def test_three_devices_show_the_same_conversation(three: tuple[Chatting, Chatting, Chatting]) -> None:
    phone, laptop, bruno = three
    phone.say("from the phone")
    laptop.sees("from the phone")
    laptop.say("from the laptop")
    bruno.sees("from the phone", "from the laptop")
    bruno.say("to both")
    for person in three:
        person.sees("from the phone", "from the laptop", "to both")
        order = [text for text in person.texts() if text in ("from the phone", "from the laptop", "to both")]
        assert order == ["from the phone", "from the laptop", "to both"]
    for own in (phone, laptop):
        own.tick("from the phone", "read")
        own.tick("from the laptop", "read")
    no_doubles(*three)


def test_unread_counts_and_reading_in_step(three: tuple[Chatting, Chatting, Chatting]) -> None:
    phone, laptop, bruno = three
    phone.back()
    laptop.page.keyboard.press("Escape")
    expect(laptop.page.get_by_role("region", name="Conversation: Bruno")).to_have_count(0)
    bruno.say("one", "two", "three")
    phone.unread("Bruno", 3)
    laptop.unread("Bruno", 3)
    expect(phone.page).to_have_title("(3) Aldis")
    laptop.open_chat("Bruno").sees("three")
    laptop.unread("Bruno", 0)
    phone.unread("Bruno", 0)
    expect(phone.page).to_have_title("Aldis")
    bruno.tick("three", "read")


def test_a_device_that_was_away_catches_up(three: tuple[Chatting, Chatting, Chatting]) -> None:
    phone, laptop, bruno = three
    with phone.device.watch.away():
        phone.device.cut()
        laptop.say("while you were gone")
        bruno.say("I answered")
        laptop.sees("I answered")
        phone.device.mend()
    phone.online()
    phone.sees("while you were gone", "I answered")
    no_doubles(*three)


def test_a_new_device_has_the_history(three: tuple[Chatting, Chatting, Chatting], device: MakeDevice) -> None:
    phone, _, bruno = three
    phone.say("said before")
    bruno.say("answered before")
    phone.sees("answered before")
    tablet = Chatting(device(wide=True), phone.user, "Anna").login()
    tablet.open_chat("Bruno").sees("said before", "answered before")
    tablet.tick("said before", "delivered", "read")
    no_doubles(tablet)


def test_a_device_that_is_removed_is_signed_out(three: tuple[Chatting, Chatting, Chatting]) -> None:
    phone, laptop, bruno = three
    phone.say("still in")
    laptop.sees("still in")
    laptop.settings("Devices")
    dialog = laptop.page.get_by_role("dialog")
    others = dialog.get_by_role("listitem").filter(has=laptop.page.get_by_role("button", name=re.compile("^Remove ")))
    expect(others).to_have_count(1)
    with phone.device.watch.excusing(r"status of 401"), phone.device.watch.away():
        others.get_by_role("button", name=re.compile("^Remove ")).click()
        dialog.get_by_role("button", name="Remove device").click()
        expect(others).to_have_count(0)
        phone.signed_out(re.compile("removed", re.I))
    laptop.close_sheet()
    laptop.say("without the phone")
    bruno.sees("without the phone")


def test_logging_out_wipes_the_browser(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    anna.say("a secret")
    bruno.sees("a secret")
    anna.settings("Log out")
    anna.page.get_by_role("dialog").get_by_role("button", name="Log out").click()
    expect(anna.page.get_by_label("User id")).to_be_visible()
    assert nothing_left(anna.device)
    again = Chatting(anna.device, anna.user, "Anna")
    again.login()
    again.open_chat("Bruno").sees("a secret")


def nothing_left(device: Device) -> bool:
    """No text of a message anywhere in the browser's database."""
    return bool(
        device.page.evaluate(
            """async () => {
                for (const { name } of await indexedDB.databases()) {
                    const database = await new Promise((good, bad) => {
                        const asked = indexedDB.open(name);
                        asked.onsuccess = () => good(asked.result);
                        asked.onerror = () => bad(asked.error);
                    });
                    for (const store of database.objectStoreNames) {
                        const all = await new Promise((good) => {
                            const asked = database.transaction(store).objectStore(store).getAll();
                            asked.onsuccess = () => good(asked.result);
                        });
                        if (/a secret/.test(JSON.stringify(all))) return false;
                    }
                    database.close();
                }
                return !/a secret/.test(JSON.stringify({ ...localStorage }));
            }"""
        )
    )


def test_a_new_key_is_used_and_what_was_said_before_stays_readable(three: tuple[Chatting, Chatting, Chatting]) -> None:
    phone, laptop, bruno = three
    bruno.say("under the first key")
    phone.sees("under the first key")
    laptop.page.get_by_role("button", name="About this conversation").click()
    dialog = laptop.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Key 1")
    dialog.get_by_role("button", name="New key").click()
    dialog.get_by_role("button", name="Make a new key").click()
    expect(dialog).to_contain_text("Key 2")
    laptop.close_sheet()
    for person in three:
        expect(person.page.locator("ol.rows")).to_contain_text("The key of this conversation was renewed (version 2).")
    laptop.say("under the second key")
    bruno.sees("under the first key", "under the second key")
    bruno.say("and back")
    phone.sees("under the first key", "under the second key", "and back")


def test_a_friendship_ends_and_a_block_holds(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    anna.say("hello")
    bruno.sees("hello")
    bruno.page.get_by_role("button", name="About this conversation").click()
    dialog = bruno.page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile("^Block")).first.click()
    dialog.get_by_role("group", name="Please confirm").get_by_role("button").first.click()
    expect(bruno.page.get_by_text("You have blocked")).to_be_visible()
    anna.say("can you hear me?")
    anna.tick("can you hear me?", "failed")
    if bruno.page.get_by_role("dialog").count():
        bruno.close_sheet()
    bruno.page.get_by_role("button", name="Unblock").click()
    bruno.page.get_by_role("textbox", name="Message to").wait_for()
    anna.page.get_by_role("button", name="Retry").click()
    bruno.sees("can you hear me?")
    anna.tick("can you hear me?", "read")


def test_a_wrong_password_and_a_taken_name_are_said_plainly(device: MakeDevice) -> None:
    anna = Chatting(device(), new_user("anna")).register()
    other = Chatting(device(wide=True), anna.user)
    with other.device.watch.excusing(r"status of (409|401)"):
        other.device.open()
        other.page.get_by_role("group", name="Log in or create").get_by_role("button", name="Create account").click()
        other.page.get_by_label("User id").fill(anna.user)
        other.page.get_by_label("Password", exact=True).fill("a good pass phrase")
        other.page.locator("form").get_by_role("button", name="Create account").click()
        expect(other.page.get_by_role("alert")).to_contain_text(re.compile("taken|already", re.I))
        other.page.get_by_role("group", name="Log in or create").get_by_role("button", name="Log in").click()
        other.page.get_by_label("Password", exact=True).fill("not the pass phrase")
        other.page.locator("form").get_by_role("button", name="Log in").click()
        expect(other.page.get_by_role("alert")).to_contain_text(re.compile("password|wrong", re.I))
