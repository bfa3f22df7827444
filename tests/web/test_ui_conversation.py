"""How a conversation behaves: places in it, drafts, files, what is pressed and what comes meanwhile."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import JSHandle, Page, expect

from tests.web.browsing import eventually
from tests.web.chatting import MakeDevice
from tests.web.scenes import Stage, stage

PICTURE = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
    b"\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82"
)


def place_of(page: Page, text: str) -> float:
    """Where the bubble with this text stands in the window, in pixels from above."""
    row = page.locator(".messages li[data-key]").filter(has_text=text)
    return float(row.evaluate("row => row.getBoundingClientRect().top"))


def first_seen(page: Page) -> str:
    """The number of the first message that can be seen."""
    found = page.evaluate(
        """() => {
          const top = document.querySelector('.messages').getBoundingClientRect().top;
          const rows = [...document.querySelectorAll('.messages li.row')];
          return rows.find((one) => one.getBoundingClientRect().top >= top).textContent;
        }"""
    )
    match = re.search(r"message -?\d+:", found)
    assert match, found
    return match[0]


def scroll(shown: Stage, by: int) -> None:
    shown.page.locator(".messages").evaluate("(box, by) => { box.scrollTop += by }", by)
    shown.settled()


@pytest.mark.parametrize("clock", ["04:37", "12:00"])
def test_loading_older_messages_moves_nothing(device: MakeDevice, clock: str) -> None:
    """Where the days begin among the messages, and so what the page draws at once, is a matter of the time of day."""
    beginning = stage(device)
    beginning.page.clock.set_fixed_time(f"2026-05-04T{clock}:00+02:00")
    shown = beginning.scene("history", "#/c/bob")
    page = shown.page
    loads = 0
    for _ in range(120):  # 49 times at noon, 61 at 04:37, when the first day is nine messages long
        before = len(shown.calls("loadOlder"))
        page.locator(".messages").evaluate("box => { box.scrollTop -= 250 }")
        text = first_seen(page)
        at = place_of(page, text)
        page.wait_for_timeout(260)
        assert abs(place_of(page, text) - at) <= 1.5
        loads += len(shown.calls("loadOlder")) - before
        if page.get_by_text("This is the beginning").is_visible():
            break
    expect(page.get_by_text("This is the beginning")).to_be_visible()
    assert loads == 3, "140 older ones in pages of 50"
    expect(shown.rows().filter(has_text="message -139:")).to_be_visible()


def test_a_window_moves_over_five_thousand_messages(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("many", "#/c/bob")
    page = shown.page
    expect(page.locator(".messages li.row")).not_to_have_count(0)
    for _ in range(25):
        scroll(shown, -3_000)
        assert page.locator(".messages li.row").count() <= 300
    far = first_seen(page)
    number = int(far.split()[1].rstrip(":"))
    assert number < 4_700
    at = place_of(page, far)
    for text in ("one", "two", "three"):
        shown.double(f"receive('bob', '{text}')")
    newest = page.get_by_role("button", name="3 new messages")
    expect(newest).to_be_visible()
    assert abs(place_of(page, far) - at) <= 1.5
    newest.click()
    expect(shown.rows().filter(has_text="three")).to_be_in_viewport()
    expect(page.locator(".to-end.shown")).to_have_count(0)


def test_one_at_the_end_stays_there(device: MakeDevice) -> None:
    shown = stage(device).scene("everyday", "#/c/anna.berg")
    for number in range(6):
        shown.double(f"receive('anna.berg', 'number {number} of a few')")
        expect(shown.rows().filter(has_text=f"number {number} of")).to_be_in_viewport()
    shown.page.set_viewport_size({"width": 390, "height": 480})  # a keyboard comes up
    expect(shown.rows().filter(has_text="number 5 of")).to_be_in_viewport()
    shown.double("contact('anna.berg', {typing: true})")
    expect(shown.page.get_by_role("img", name="Anna Berg is typing")).to_be_in_viewport()


def test_one_begins_at_the_line_before_what_is_new(device: MakeDevice) -> None:
    shown = stage(device).scene("unread", "#/c/bob")
    expect(shown.page.locator(".new-line")).to_be_in_viewport()
    others = shown.page.locator(".new-line ~ li.theirs")
    expect(others).to_have_count(6)


def test_drafts_stay_with_their_conversation(device: MakeDevice) -> None:
    shown = stage(device).scene("everyday", "#/c/anna.berg")
    page = shown.page
    shown.field().fill("half a thought")
    page.get_by_role("button", name="Back to the list").click()
    expect(page.get_by_role("link", name="Anna Berg")).to_contain_text("Draft: half a thought")
    page.get_by_role("link", name="Mehmet Kaya").click()
    expect(shown.field()).to_have_value("")
    page.go_back()
    page.get_by_role("link", name="Anna Berg").click()
    expect(shown.field()).to_have_value("half a thought")
    page.reload()
    expect(shown.field()).to_have_value("half a thought")
    page.goto("about:blank")
    shown.scene("everyday", "#/settings/logout")
    page.get_by_role("dialog").get_by_role("button", name="Log out").click()
    expect(page.locator("form").get_by_role("button", name="Log in")).to_be_visible()
    assert page.evaluate("localStorage.getItem('aldis.drafts')") is None


def test_a_draft_goes_on_in_another_tab(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    page = shown.page
    shown.field().fill("begun here")
    shown.double("set({phase: 'elsewhere'})")
    expect(page.get_by_role("heading", name="another tab")).to_be_visible()
    stored = "() => localStorage.getItem('aldis.drafts') ?? ''"
    eventually(page, lambda: "begun here" in page.evaluate(stored), "the draft is kept")
    further = page.evaluate(stored).replace("begun here", "begun here, and gone on there")
    page.evaluate("(kept) => localStorage.setItem('aldis.drafts', kept)", further)
    page.get_by_role("button", name="Use it here").click()
    expect(shown.field()).to_have_value("begun here, and gone on there")


def test_the_day_is_another_one_after_midnight(device: MakeDevice) -> None:
    shown = stage(device, wide=True)
    page = shown.page
    page.clock.install(time="2026-05-04T23:50:00+02:00")
    shown.scene("everyday", "#/c/joris")
    shown.double("receive('joris', 'before midnight')")
    expect(shown.rows().filter(has_text="before midnight")).to_be_visible()
    expect(page.locator("li.day").last).to_have_text("Today")
    page.clock.fast_forward(20 * 60 * 1000)
    shown.double("receive('joris', 'after midnight')")
    expect(shown.rows().filter(has_text="after midnight")).to_be_visible()
    days = page.locator("li.day").all_inner_texts()
    assert days[-2:] == ["Yesterday", "Today"], days


def test_back_leads_where_one_came_from(device: MakeDevice) -> None:
    """What the button of a phone does; also from a notification, where nothing lies behind."""
    shown = stage(device).scene("everyday", "#/c/anna.berg/info")
    page = shown.page
    expect(page.get_by_role("dialog", name="Contact")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("region", name="Conversation: Anna Berg")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("list", name="Conversations")).to_be_visible()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Devices").click()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("location.hash") == "#/"
    assert page.evaluate("history.state.depth") == 0


def test_a_file_is_looked_at_before_it_goes(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    page = shown.page
    page.set_input_files(
        "input[type=file]",
        [
            {"name": "dot.png", "mimeType": "image/png", "buffer": PICTURE},
            {"name": "plan.txt", "mimeType": "text/plain", "buffer": b"a plan"},
        ],
    )
    sheet = page.get_by_role("dialog", name="Send 2 files?")
    expect(sheet.locator("img.thumb")).to_be_visible()
    sheet.get_by_role("button", name="Leave out plan.txt").click()
    assert shown.calls("sendFile") == []
    page.get_by_role("dialog", name="Send this file?").get_by_role("button", name="Send to Anna Berg").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert shown.calls("sendFile") == [["anna.berg", "dot.png"]]
    sent = page.locator(".messages li.mine").last
    expect(sent.get_by_role("button", name="Open the picture dot.png")).to_be_in_viewport()
    expect(sent.get_by_role("img", name="Read", exact=True)).to_be_visible()
    sent.get_by_role("button", name="Open the picture dot.png").click()
    box = page.get_by_role("dialog", name="Picture: dot.png")
    expect(box.get_by_role("img")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog", name="evening at the pier")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def _a_file_on_its_way(page: Page) -> JSHandle:
    return page.evaluate_handle(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(['x'], 'x.txt', {type: 'text/plain'}));
          return data;
        }"""
    )


def test_files_can_be_dropped_and_pasted(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/c/anna.berg")
    page = shown.page
    data = _a_file_on_its_way(page)
    pane = page.locator(".conversation")
    pane.dispatch_event("dragenter", {"dataTransfer": data})
    expect(page.get_by_text("Drop here to send to")).to_be_visible()
    pane.dispatch_event("drop", {"dataTransfer": data})
    expect(page.get_by_role("dialog", name="Send this file?")).to_contain_text("x.txt")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    paste = "new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})"
    shown.field().evaluate(f"(field, data) => field.dispatchEvent({paste})", data)
    expect(page.get_by_role("dialog", name="Send this file?")).to_contain_text("x.txt")
    assert shown.calls("sendFile") == []


@pytest.mark.parametrize("where", [".rail", "main", "body"])
def test_a_file_dropped_beside_a_conversation_does_not_replace_the_page(device: MakeDevice, where: str) -> None:
    shown = stage(device, wide=True).scene("everyday", "#/")
    data = _a_file_on_its_way(shown.page)
    taken = """(place, data) => ['dragover', 'drop'].map((name) =>
      !place.dispatchEvent(new DragEvent(name, {dataTransfer: data, bubbles: true, cancelable: true})))"""
    assert shown.page.locator(where).first.evaluate(taken, data) == [True, True]


def test_transfers_can_be_stopped_and_failures_mended(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("transfers", "#/c/anna.berg")
    page = shown.page
    page.get_by_role("button", name="Cancel fetching recording").click()
    page.get_by_role("button", name="Cancel sending survey.csv, 30 per cent done").click()
    expect(page.get_by_text("survey.csv")).to_have_count(0)
    assert len(shown.calls("cancelTransfer")) == 2
    expect(page.get_by_text("No longer on the server")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save map.pdf").click()
    assert download.value.suggested_filename == "map.pdf"
    shown.scene("ticks", "#/c/anna.berg")
    expect(page.get_by_text("They have not accepted you")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("button", name="Discard")).to_have_count(0)
    assert len(shown.calls("retry")) == 1


def test_the_link_is_told_plainly(device: MakeDevice) -> None:
    shown = stage(device).scene("offline", "#/c/lena")
    page = shown.page
    expect(page.get_by_text("No connection. 3 messages wait and will be sent.")).to_be_visible()
    page.get_by_role("button", name="Try now").click()
    assert shown.calls("tryNow") == [[]]
    shown.field().fill("a note without a network")
    shown.field().press("Enter")
    expect(page.locator(".messages li.mine").last.get_by_role("img", name="Waiting for a connection")).to_be_visible()
    expect(page.get_by_text("4 messages wait")).to_be_visible()
    shown.double("set({link: {state: 'online', since: Date.now(), retryAt: null, reason: null}, waiting: 0})")
    expect(page.get_by_text("No connection")).to_have_count(0)


def test_right_to_left(device: MakeDevice) -> None:
    shown = stage(device, wide=True)
    page = shown.page
    shown.scene("rtl", "#/c/noura")
    page.evaluate("document.documentElement.dir = 'rtl'")
    shown.settled()
    box = "one => one.getBoundingClientRect()"
    rail = page.get_by_role("region", name="Conversations", exact=True).evaluate(box)
    pane = page.locator(".conversation").evaluate(box)
    assert rail["left"] > pane["left"]
    mine, theirs = (page.locator(f".messages li.{who} .bubble").first.evaluate(box) for who in ("mine", "theirs"))
    assert mine["left"] < theirs["left"]
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert shown.device.barriers() == []
    send = page.get_by_role("button", name="Send", exact=True).evaluate(box)
    assert send["left"] < shown.field().evaluate(box)["left"]


def test_emoji_alone_are_large_and_time_stands_beside(device: MakeDevice) -> None:
    shown = stage(device).scene("everyday", "#/c/anna.berg")
    size = "one => parseFloat(getComputedStyle(one).fontSize)"
    assert shown.page.locator(".bubble.emoji .text").evaluate(size) > 35
    for text, large in (("👍🏽👨‍👩‍👧🇫🇮", True), ("12", False), ("ok 👍", False), ("😀" * 7, False)):
        shown.double(f"receive('anna.berg', '{text}')")
        bubble = shown.rows().last
        expect(bubble.locator(".text")).to_have_text(text)  # not the time beside it
        assert ("emoji" in (bubble.get_attribute("class") or "")) is large, text


def test_title_and_search_and_a_friend(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("everyday")
    page = shown.page
    expect(page).to_have_title("(14) Aldis")
    page.get_by_role("button", name="2 friend requests").click()
    page.get_by_role("button", name="Accept Noor Haddad").click()
    expect(page.get_by_role("button", name="Accept Noor Haddad")).to_have_count(0)
    field = page.get_by_label("User id of your friend")
    refusals = {"": "Type the user id", "two words": "no spaces", "lena": "That is you", "nobody": "Nobody here has"}
    for wrong, says in refusals.items():
        field.fill(wrong)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text(says)
    field.fill("ines")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("Asked ines.")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("searchbox").fill("noor")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Conversation: Noor Haddad")).to_be_visible()


NOTIFICATIONS = """
window.shown = [];
window.Notification = class {
  static permission = "granted";
  constructor(title, options) { Object.assign(this, {title, ...options}); window.shown.push(this); }
  close() {}
};
Object.defineProperty(document, "visibilityState", {get: () => window.unseen ? "hidden" : "visible"});
"""


def test_a_notification_tells_what_is_not_looked_at(device: MakeDevice) -> None:
    shown = stage(device, wide=True)
    page = shown.page
    shown.device.context.add_init_script(NOTIFICATIONS)
    shown.scene("everyday", "#/c/anna.berg")
    shown.double("receive('mehmet-k', 'while one looks')")
    assert page.evaluate("shown.length") == 0
    page.evaluate("window.unseen = true; document.dispatchEvent(new Event('visibilitychange'))")
    shown.double("receive('greenhouse', 'it is muted')")
    shown.double("receive('mehmet-k', 'are you there?')")
    eventually(page, lambda: page.evaluate("shown.length") == 1, "a notification")
    assert page.evaluate("[shown[0].title, shown[0].body]") == ["Mehmet Kaya", "are you there?"]
    expect(page).to_have_title("(17) Aldis")
    page.evaluate("window.unseen = false; shown[0].onclick()")
    expect(page.get_by_role("region", name="Conversation: Mehmet Kaya")).to_be_visible()
