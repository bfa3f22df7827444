"""Everything without a mouse, and what a screen reader is told."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.web.chatting import MakeDevice
from tests.web.scenes import stage


def test_a_walk_through_by_keys_alone(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday")
    page, key = shown.page, shown.page.keyboard

    key.press("Control+k")
    expect(page.get_by_role("searchbox")).to_be_focused()
    key.type("meh")
    expect(page.get_by_role("list", name="Conversations").get_by_role("link")).to_have_count(1)
    key.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    key.press("ArrowDown")
    expect(page.get_by_role("link", name="Anna Berg")).to_be_focused()
    key.press("ArrowDown")
    expect(page.get_by_role("link", name="Joris de Wit")).to_be_focused()
    key.press("End")
    expect(page.get_by_role("link", name="Yuki Tanaka")).to_be_focused()
    key.press("Home")
    key.press("Enter")

    expect(page.get_by_role("region", name="Conversation: Anna Berg")).to_be_visible()
    expect(shown.field()).to_be_focused()
    key.type("first line")
    key.press("Shift+Enter")
    key.type("second line")
    assert shown.calls("sendText") == []
    key.press("Enter")
    expect(shown.field()).to_have_value("")
    assert shown.calls("sendText") == [["anna.berg", "first line\nsecond line"]]

    key.press("Alt+ArrowDown")
    expect(page.get_by_role("region", name="Conversation: Joris de Wit")).to_be_visible()
    key.press("Alt+ArrowUp")
    expect(page.get_by_role("region", name="Conversation: Anna Berg")).to_be_visible()

    key.press("Control+/")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    key.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(shown.field()).to_be_focused()
    key.press("Escape")
    expect(page.get_by_role("heading", name="Choose a conversation")).to_be_visible()


_AT_ONCE = """
new MutationObserver((_, observer) => {
  if (document.querySelector(".shell:not([aria-busy])") === null) return;
  observer.disconnect();
  dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true, cancelable: true }));
}).observe(document, { childList: true, subtree: true });
"""


def test_keys_work_as_soon_as_there_is_something_to_see(device: MakeDevice) -> None:
    on = stage(device, wide=True)
    on.page.add_init_script(_AT_ONCE)
    expect(on.scene("everyday").page.get_by_role("searchbox")).to_be_focused()


def test_keys_may_be_faster_than_the_drawing(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    shown.page.evaluate("""() => {
        const how = {altKey: true, bubbles: true, cancelable: true};
        for (const key of [...Array(4).fill("ArrowDown"), "ArrowUp"])
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key, ...how}));
    }""")
    expect(shown.page.get_by_role("region", name="Conversation: Greenhouse")).to_be_visible()


def test_a_sheet_holds_the_focus_and_gives_it_back(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    page, key = shown.page, shown.page.keyboard
    about = page.get_by_role("button", name="About this conversation")
    about.focus()
    key.press("Enter")
    sheet = page.get_by_role("dialog", name="Contact")
    expect(sheet).to_be_visible()
    inside = "[document.body, ...document.querySelectorAll('dialog *')].includes(document.activeElement)"
    for _ in range(14):
        key.press("Tab")
        # beyond the last one the browser's own bar comes, and then the first again: never the page below
        assert page.evaluate(inside)
    key.press("Escape")
    expect(sheet).to_have_count(0)
    expect(about).to_be_focused()


def test_settings_by_keys(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/settings")
    page, key = shown.page, shown.page.keyboard
    page.get_by_role("radio", name="Automatic").focus()
    key.press("ArrowRight")
    key.press("ArrowRight")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Devices").press("Enter")
    expect(page.get_by_role("heading", name="Devices")).to_be_focused()
    page.get_by_role("button", name="Remove Phone").press("Enter")
    expect(page.get_by_role("button", name="Remove device")).to_be_focused()
    key.press("Enter")
    expect(page.get_by_role("button", name="Remove Phone")).to_have_count(0)
    assert shown.calls("removeDevice") == [["phone-lena"]]
    key.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_every_focus_can_be_seen(device: MakeDevice) -> None:
    """Something around what has the focus: an outline, of at least two pixels."""
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    page = shown.page
    page.get_by_role("button", name="Add a friend").focus()
    outline = """() => {
      const style = getComputedStyle(document.activeElement);
      return [document.activeElement.outerHTML.slice(0, 80), style.outlineStyle, parseFloat(style.outlineWidth)];
    }"""
    seen = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        element, style, width = page.evaluate(outline)
        if element.startswith("<body"):
            break
        seen.add(element)
        assert style == "solid" and width >= 2, element
    assert len(seen) >= 8


def test_what_a_screen_reader_is_told(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    said = shown.page.locator("#announcer")
    expect(said).to_have_attribute("aria-live", "polite")
    shown.double("receive('anna.berg', 'on the screen')")
    expect(said).to_contain_text("on the screen")
    shown.double("receive('mehmet-k', 'beside it')")
    expect(said).to_contain_text("New message from Mehmet Kaya: beside it")
    shown.double("set({link: {state: 'offline', since: Date.now(), retryAt: null, reason: null}})")
    expect(said).to_contain_text("No connection")
    shown.double("set({link: {state: 'online', since: Date.now(), retryAt: null, reason: null}})")
    expect(said).to_contain_text("Connected")
    shown.scene("ticks", "#/c/anna.berg")
    names = ["Read", "Delivered", "Sent: safe on the server", "Sending", "Waiting for a connection", "Not sent"]
    expect(shown.page.locator(".messages .ticks")).to_have_count(len(names))
    for name in names:
        expect(shown.page.locator(".messages").get_by_role("img", name=name, exact=True)).to_be_visible()
    expect(shown.rows().first).to_contain_text("You: This one is read.")


def test_who_wants_no_motion_gets_none(device: MakeDevice) -> None:
    shown = stage(device).scene("everyday", "#/c/joris")
    slow = """() => document.getAnimations().filter((one) => {
      const {duration, iterations} = one.effect.getComputedTiming();
      return duration > 10 || iterations > 1;
    }).map((one) => one.effect.target.className)"""
    assert shown.page.evaluate(slow) == []
    shown.page.emulate_media(reduced_motion="no-preference")
    shown.scene("everyday", "#/c/joris")
    assert shown.page.evaluate(slow) != []


def test_forms_tell_a_password_manager_what_they_are(device: MakeDevice) -> None:
    shown = stage(device).scene("signed-out", "")
    page = shown.page
    user, password = page.get_by_label("User id"), page.get_by_label("Password", exact=True)
    expect(user).to_have_attribute("autocomplete", "username")
    expect(password).to_have_attribute("autocomplete", "current-password")
    expect(password).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show the password").click()
    expect(password).to_have_attribute("type", "text")
    page.get_by_role("button", name="Create account").first.click()
    expect(password).to_have_attribute("autocomplete", "new-password")
    page.locator("form").get_by_role("button", name="Create account").click()
    expect(user).to_be_focused()
    expect(user).to_have_attribute("aria-invalid", "true")
    user.fill("not a name")
    password.fill("short")
    page.locator("form").get_by_role("button", name="Create account").click()
    expect(page.get_by_text(re.compile("no spaces"))).to_be_visible()
    expect(page.get_by_text(re.compile("At least 8 characters"))).to_be_visible()
    assert shown.calls("register") == []
