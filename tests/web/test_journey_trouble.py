"""The network goes, the server dies, and nothing that was written is lost or comes twice."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.servers import Aldis
from tests.web.chatting import Chatting, MakeDevice, friends, no_doubles


def test_the_network_is_cut_and_restored(device: MakeDevice) -> None:
    anna, bruno = friends(device)
    anna.say("before")
    bruno.sees("before")
    with anna.device.watch.away():
        anna.device.cut()
        expect(anna.page.locator(".banner[data-link]")).to_be_visible()
        anna.say("in the tunnel 1", "in the tunnel 2", "in the tunnel 3")
        anna.tick("in the tunnel 1", "waiting")
        expect(anna.page.locator(".banner[data-link]")).to_contain_text("3 messages wait")
        bruno.say("meanwhile 1", "meanwhile 2")
        anna.device.mend()
    anna.online()
    bruno.sees("in the tunnel 1", "in the tunnel 2", "in the tunnel 3")
    anna.sees("meanwhile 1", "meanwhile 2")
    anna.tick("in the tunnel 3", "read")
    bruno.tick("meanwhile 2", "read")
    said = [text for text in bruno.texts() if "tunnel" in text]
    assert said == ["in the tunnel 1", "in the tunnel 2", "in the tunnel 3"]
    no_doubles(anna, bruno)


def test_what_was_written_without_a_network_survives_the_page(device: MakeDevice) -> None:
    """The page is killed with its outbox full; opened again still without a network, and then with it."""
    anna, bruno = friends(device, wide=(True, True))
    anna.page.evaluate("navigator.serviceWorker.ready.then(() => 1)")
    with anna.device.watch.away():
        anna.device.cut()
        anna.say("kept 1", "kept 2")
        anna.page.close()
        anna.page = anna.device.page = anna.device.tab()
        anna.device.open()
        anna.page.get_by_role("region", name="Conversations").wait_for()
        anna.open_chat("Bruno").sees("kept 1", "kept 2")
        anna.tick("kept 2", "waiting")
        anna.device.mend()
    anna.online()
    bruno.sees("kept 1", "kept 2")
    anna.tick("kept 2", "read")
    no_doubles(anna, bruno)


def test_the_line_breaks_again_and_again_while_two_talk(device: MakeDevice) -> None:
    """The connection is torn with messages on their way: what was sent, and not acknowledged, is sent again with its
    id, and stored once."""
    anna, bruno = friends(device, wide=(True, True))
    said: list[str] = []
    with anna.device.watch.away(), bruno.device.watch.away():
        for round in range(6):
            for number in range(3):
                said.append(f"round {round} word {number}")
                anna.say(said[-1])
            torn = (anna, bruno)[round % 2]
            torn.device.line.cut()
            torn.device.line.mend()
    for text in said:
        bruno.sees(text)
    anna.tick(said[-1], "read")
    assert [text for text in bruno.texts() if text.startswith("round")] == said
    assert [text for text in anna.texts() if text.startswith("round")] == said


@pytest.mark.parametrize("wide", [(False, True)])
def test_the_server_is_killed_in_mid_conversation(device: MakeDevice, server: Aldis, wide: tuple[bool, bool]) -> None:
    anna, bruno = friends(device, wide=wide)
    anna.say("before")
    bruno.sees("before")
    with anna.device.watch.away(), bruno.device.watch.away():
        anna.say("on its way 1", "on its way 2")
        server.kill()
        anna.say("while it is dead")
        bruno.say("here as well")
        expect(anna.page.locator(".banner[data-link]")).to_be_visible()
        server.start()
        anna.online()
        bruno.online()
    texts = ["on its way 1", "on its way 2", "while it is dead"]
    bruno.sees("before", *texts)
    anna.sees("here as well")
    anna.tick("while it is dead", "read")
    bruno.tick("here as well", "read")
    assert [text for text in bruno.texts() if text in texts] == texts
    no_doubles(anna, bruno)


def test_a_link_that_is_dead_and_does_not_say_so_is_noticed(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    with anna.device.watch.away():
        anna.device.line.silence()
        anna.say("into nothing")
        expect(anna.page.locator(".banner[data-link]")).to_be_visible(timeout=120_000)
        anna.device.mend()
    bruno.sees("into nothing")
    anna.tick("into nothing", "read")
    no_doubles(anna, bruno)


def test_two_tabs_are_one_device(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    second = anna.device.tab()
    second.goto("/")
    second.get_by_role("button", name="Use it here").click()
    moved = Chatting(anna.device, anna.user, anna.name)
    moved.page = second
    moved.inside()
    expect(anna.page.get_by_role("heading", name="another tab")).to_be_visible()
    moved.open_chat("Bruno").say("from the second tab")
    bruno.sees("from the second tab")
