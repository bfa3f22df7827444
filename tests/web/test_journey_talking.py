"""Two people meet and talk: everything through the page, on a real server."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.people import people
from tests.servers import PASSWORD, Aldis
from tests.web.chatting import Chatting, MakeDevice, friends, new_user, no_doubles


def test_from_nothing_to_a_message_that_was_read(device: MakeDevice) -> None:
    anna = Chatting(device(), new_user("anna"), "Anna").register()
    bruno = Chatting(device(wide=True), new_user("bruno"), "Bruno").register()
    anna.ask(bruno.user)
    bruno.accept("Anna")
    anna.open_chat("Bruno").say("Hello Bruno", "Are you there?")
    anna.tick("Hello Bruno", "delivered")
    bruno.unread("Anna", 2)
    expect(bruno.row("Anna")).to_contain_text("Are you there?")
    bruno.open_chat("Anna").sees("Hello Bruno", "Are you there?")
    anna.tick("Hello Bruno", "read")
    anna.tick("Are you there?", "read")
    bruno.unread("Anna", 0)
    bruno.say("Yes!")
    anna.sees("Yes!")
    bruno.tick("Yes!", "read")
    no_doubles(anna, bruno)


def test_typing_presence_and_last_seen(device: MakeDevice) -> None:
    anna, bruno = friends(device)
    anna.head("Online")
    bruno.page.get_by_role("textbox", name="Message to").press_sequentially("Hel")
    anna.head(re.compile("typing"))
    bruno.page.get_by_role("textbox", name="Message to").fill("")
    anna.head("Online")
    with bruno.device.watch.away():
        bruno.device.cut()
        anna.head(re.compile(r"^Last seen|^Seen", re.I))
        bruno.device.mend()
    anna.head("Online")


def test_an_unsent_word_stays_and_enter_sends(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    field = anna.page.get_by_role("textbox", name="Message to")
    field.fill("half")
    anna.page.reload()
    anna.inside()
    anna.open_chat("Bruno")
    expect(field).to_have_value("half")
    field.press("End")
    field.press_sequentially(" and whole")
    field.press("Shift+Enter")
    field.press_sequentially("second line")
    field.press("Enter")
    bruno.sees("half and whole\nsecond line")


def test_what_others_send_is_text_and_nothing_else(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, False))
    hostile = '<img src=x onerror="alert(1)"> <b>bold</b> &amp; {{x}} javascript:alert(1)'
    anna.say(hostile)
    bruno.sees(hostile)
    assert bruno.page.locator(".row img").count() == 0


def test_history_comes_as_one_scrolls_back(device: MakeDevice, server: Aldis) -> None:
    ann, ben = people(server, "ann", "ben")
    with ben.online() as stock:
        for number in range(1, 181):
            stock.say(ann, {"id": number, "body": f"message {number}"})
    reader = Chatting(device(), ann.user).login()
    reader.open_chat(ben.user)
    reader.sees("message 180")
    messages = reader.page.get_by_role("region", name="Messages:")

    def first_is_there() -> bool:
        return reader.bubble("message 1").count() == 1

    for _ in range(60):
        if first_is_there():
            break
        messages.evaluate("(box) => box.scrollTo(0, 0)")
        expect(reader.page.locator("ol.rows")).to_have_attribute("aria-busy", "false")
    expect(reader.bubble("message 1")).to_have_count(1)
    shown = [int(text.split()[1]) for text in reader.texts() if text.startswith("message ")]
    assert shown == sorted(set(shown)), "in order, none of them twice"


def test_the_same_history_is_there_without_asking_the_server_again(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    anna.say("one", "two", "three")
    bruno.sees("one", "two", "three")
    with bruno.device.watch.away():
        bruno.device.cut()
        bruno.page.reload()
        bruno.page.get_by_role("region", name="Conversations").wait_for()
        bruno.open_chat("Anna").sees("one", "two", "three")
        bruno.device.mend()
    bruno.online()
    no_doubles(bruno)


def test_a_friend_deletes_the_account(device: MakeDevice) -> None:
    anna, bruno = friends(device)
    bruno.say("Good bye")
    anna.sees("Good bye")
    anna.say("So soon?")
    bruno.sees("So soon?")
    bruno.settings("Delete account")
    bruno.page.get_by_label("Type your user id").fill(bruno.user)
    bruno.page.get_by_label("Password", exact=True).fill(PASSWORD)
    bruno.page.get_by_role("button", name="Delete my account").click()
    expect(bruno.page.get_by_role("button", name="Log in").last).to_be_visible()

    page = anna.page
    anna.head("Account deleted")
    expect(page.locator("main").get_by_text("Bruno has deleted the account.", exact=True)).to_be_visible()
    expect(page.get_by_text("What you have written to each other stays here.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message to")).to_have_count(0)
    anna.sees("Good bye", "So soon?")
    assert anna.device.barriers() == []
    page.get_by_role("button", name="About this conversation").click()
    sheet = page.get_by_role("dialog", name="Contact")
    expect(sheet.get_by_role("button", name="Block")).to_have_count(0)
    sheet.get_by_role("button", name="Remove friend").click()
    sheet.get_by_role("button", name="Remove friend").last.click()
    expect(page.get_by_role("list", name="Conversations").get_by_text(bruno.user)).to_have_count(0)
