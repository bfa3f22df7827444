"""Names, texts and files of people who mean harm: nothing runs, everything is shown as what it is, text."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.web.chatting import MakeDevice
from tests.web.scenes import stage

PLACES = ["#/", "#/c/mallory", "#/c/mallory/info", "#/c/long", "#/c/long/info", "#/add"]


def test_nothing_runs(device: MakeDevice) -> None:
    shown = stage(device, wide=True)
    page = shown.page
    for place in PLACES:
        shown.scene("hostile", place).settled()
        assert page.evaluate("window.hacked") is None
        made = "script:not([src]), iframe, object, embed, [onerror], [onload], [onmouseover], #app svg a, base"
        expect(page.locator(made)).to_have_count(0)


def test_all_of_it_is_shown_as_text(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("hostile", "#/c/mallory")
    page = shown.page
    expect(shown.rows().filter(has_text="<script>window.hacked = 1</script>")).to_have_count(1)
    name = '<img src=x onerror="window.hacked = 2">'
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.locator(".file-name").filter(has_text=name)).to_be_visible()
    expect(page.locator(".failed-why")).to_have_text(name)
    expect(page.locator(".event").filter(has_text=name)).to_be_visible()
    shown.double(f"receive('mallory', {name!r})")
    expect(page.locator("#announcer").get_by_text(name)).to_be_attached()
    assert page.evaluate("window.hacked") is None


def test_only_addresses_of_the_web_become_links(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("hostile", "#/c/mallory")
    links = shown.page.locator(".messages a")
    hrefs = links.evaluate_all("all => all.map((a) => a.href)")
    assert hrefs == ["https://example.org/"], "one with a quotation mark behind it, none with a user name in it"
    expect(links.first).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(links.first).to_have_attribute("target", "_blank")


def test_a_name_cannot_be_turned_around(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("hostile", "#/c/mallory")
    expect(shown.page.locator(".file-name").filter(has_text="gpj.exe")).to_have_text("holidaygpj.exe")
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Save holidaygpj.exe").click()
    assert download.value.suggested_filename.endswith(".exe")
    assert "\u202e" not in download.value.suggested_filename


def test_large_texts_are_cut_and_wrapped(device: MakeDevice) -> None:
    shown = stage(device).scene("hostile", "#/c/long")
    page = shown.page
    assert page.locator(".messages").evaluate("box => box.scrollWidth <= box.clientWidth")
    expect(page.get_by_role("button", name="Show all")).to_have_count(3)
    heights = shown.rows().evaluate_all("all => all.map((one) => one.getBoundingClientRect().height)")
    assert max(heights) < 2_500
    page.get_by_role("button", name="Show all").nth(1).click()
    expect(page.get_by_role("button", name="Show all")).to_have_count(2)
    assert page.locator(".messages").evaluate("box => box.scrollWidth <= box.clientWidth")
