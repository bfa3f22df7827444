"""Pages, servers and connections die in the middle of it: every text is there once, and in order."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page

from scripts.processes import program
from tests.people import Person
from tests.servers import PASSWORD, Aldis, running
from tests.web.browsing import Device, MakeDevice
from tests.web.engines import Engine, login, open_chat, two

_NO_PUBACK = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  const first = new Uint8Array(data.buffer ?? data)[0];
  if (window.mute && first === 0x40) return;
  send.call(this, data);
};"""
"""A page whose acknowledgements of items do not leave while `mute` is true."""

_NO_DISK = """
const begin = IDBDatabase.prototype.transaction;
IDBDatabase.prototype.transaction = function (stores, mode, ...more) {
  if (window.full && mode === "readwrite") throw new DOMException("no room", "QuotaExceededError");
  return begin.call(this, stores, mode, ...more);
};"""


def test_a_page_killed_between_storing_and_acknowledging(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    reading = device()
    reading.context.add_init_script(_NO_PUBACK)
    one, other = login(reading, alice), login(device(), bob)
    other.send(alice, "acknowledged")
    other.until(lambda: other.ticks(alice) == ["delivered"])
    one.page.evaluate("() => { window.mute = true; }")
    other.send(alice, *(f"stored {number}" for number in range(5)))
    one.until(lambda: len(one.texts(bob)) == 6)
    other.idle()
    assert other.ticks(alice)[1:] == ["sent"] * 5, "what was not acknowledged is not delivered"
    one.new_page().open().online()
    other.until(lambda: other.ticks(alice) == ["delivered"] * 6)
    assert one.texts(bob) == ["acknowledged", *(f"stored {number}" for number in range(5))]
    assert one.contact(bob)["unread"] == 6  # type: ignore[index]
    assert one.notifications == [], "what comes a second time is no news"


def test_what_cannot_be_stored_is_not_acknowledged(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    full = device()
    full.context.add_init_script(_NO_DISK)
    one, other = login(full, alice), login(device(), bob)
    one.page.evaluate("() => { window.full = true; }")
    other.send(alice, "for later")
    one.until(lambda: "could not be stored" in (one.state["link"]["reason"] or ""))
    other.idle()
    assert other.ticks(alice) == ["sent"]
    assert one.texts(bob) == []
    one.page.evaluate("() => { window.full = false; }")
    one.act("tryNow")
    one.until(lambda: one.texts(bob) == ["for later"])
    other.until(lambda: other.ticks(alice) == ["delivered"])
    assert [told["text"] for told in one.notifications] == ["for later"]


def test_a_browser_without_any_room_says_so(device: MakeDevice) -> None:
    full = device()
    full.context.add_init_script(_NO_DISK + "window.full = true;")
    one = Engine(full)
    assert one.state["phase"] == "unusable"
    assert "no room" in one.state["reason"]


def _killed_with_messages_on_their_way(server: Aldis, engine: Engine, user: str) -> None:
    """The server stands still, so that what is published is not answered, and dies."""
    engine.idle()
    server.process.send_signal(signal.SIGSTOP)
    engine.send(user, "into the dying server")
    engine.until(lambda: engine.ticks(user)[-1] == "sending")
    server.kill()


def test_a_server_killed_again_and_again_while_both_write(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    said: dict[str, list[str]] = {alice: [], bob: []}
    with one.device.watch.away(), other.device.watch.away():
        for round in range(3):
            for number in range(8):
                for engine, peer, me in ((one, bob, alice), (other, alice, bob)):
                    said[me].append(f"{me} {round}.{number}")
                    engine.send(peer, said[me][-1])
                if number == 4:
                    _killed_with_messages_on_their_way(server, one, bob)
            server.start()
            one.act("tryNow"), other.act("tryNow")
        one.idle(), other.idle()
        one.until(lambda: len(one.texts(bob)) == 51)
        other.until(lambda: len(other.texts(alice)) == 51)
    for engine, peer in ((one, bob), (other, alice)):
        for me, texts in said.items():
            assert [text for text in engine.texts(peer) if text.startswith(f"{me} ")] == texts
    assert one.texts(bob) == other.texts(alice), "both see one order"
    one.until(lambda: set(one.ticks(bob)) == {"delivered"})


def test_an_outbox_survives_the_page_and_keeps_its_ids(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    texts = [f"written offline {number}" for number in range(30)]
    with one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        one.send(bob, *texts)
        assert (one.state["waiting"], set(one.ticks(bob))) == (30, {"waiting"})
        ids = [item["id"] for item in one.items(bob)]
        one.new_page().device.line.mend()
        # the page comes from the server, but its MQTT does not get through
        one.page.add_init_script("window.WebSocket = class { constructor() { throw new Error('no way'); } };")
        one.open()
        one.until(lambda: one.texts(bob) == texts)
        assert (one.state["waiting"], set(one.ticks(bob))) == (30, {"waiting"})
        one.new_page().open().online()
    one.idle()
    other.until(lambda: len(other.texts(alice)) == 30)
    assert other.texts(alice) == texts
    assert [item["id"] for item in other.items(alice)] == [item["id"] for item in one.items(bob)] == ids


def test_connections_that_break_with_messages_on_their_way(server: Aldis, device: MakeDevice) -> None:
    """Each send may be committed without the page knowing: it comes again under its id."""
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    texts = [f"word {number}" for number in range(60)]
    with one.device.watch.away(), other.device.watch.away():
        for place, text in enumerate(texts):
            one.send(bob, text)
            if place % 12 == 5:
                (one, other)[place % 24 < 12].device.line.cut()
                one.device.line.mend(), other.device.line.mend()
            if place % 12 == 9:
                one.act("tryNow"), other.act("tryNow")
        one.idle()
        other.until(lambda: len(other.texts(alice)) == 60)
    assert other.texts(alice) == one.texts(bob) == texts
    assert len({item["id"] for item in other.items(alice)}) == 60


def test_a_page_killed_while_it_sends(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    texts = []
    for round in range(4):
        new = [f"{round}.{number}" for number in range(15)]
        one.page.evaluate("([peer, texts]) => Promise.all(texts.map((text) => chat.sendText(peer, text)))", [bob, new])
        texts += new
        one.new_page().open()
    one.online().idle()
    other.until(lambda: len(other.texts(alice)) == 60)
    assert other.texts(alice) == one.texts(bob) == texts


def test_a_receipt_that_gets_lost_is_asked_for_again(server: Aldis, device: MakeDevice) -> None:
    """`sent` comes at QoS 0; without it nobody knows the message's place."""
    alice, bob = two(server)
    deaf = device()
    deaf.context.add_init_script("""
      const parse = JSON.parse;
      window.lost = 0;
      JSON.parse = (text, ...more) => {
        const made = parse(text, ...more);
        if (made?.type === "sent" && window.lost < 3) {
          window.lost += 1;
          return { type: "nothing" };
        }
        return made;
      };""")
    one, other = login(deaf, alice), login(device(), bob)
    one.send(bob, "first", "second", "third")
    one.idle()
    assert one.page.evaluate("() => lost") == 3
    other.until(lambda: other.texts(alice) == ["first", "second", "third"])
    assert one.texts(bob) == ["first", "second", "third"]
    one.until(lambda: one.ticks(bob) == ["delivered"] * 3)


_ALL_AT_ONCE = """
window.sent = {};
let held = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  const found = [...new TextDecoder().decode(data).matchAll(/"id":"([0-9a-f]{32})"/g)];
  if (!found.length) return send.call(this, data);
  for (const [, id] of found) (sent[id] ??= []).push(performance.now());
  if (held === null) return send.call(this, data);
  held.push(...new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength));
  if (Object.keys(sent).length < 12) return;
  send.call(this, Uint8Array.from(held));
  held = null;
};"""
"""A page whose first twelve messages leave in one piece, so that the server has read all when it stops."""


def test_who_sends_too_fast_goes_on_more_slowly(tmp_path: Path, browser: Browser) -> None:
    """What the server does not take for its rate is sent again, and not at once: the acknowledgement is no answer."""
    with running(tmp_path, settings={"limits.publish_burst": 3, "limits.publishes_per_second": 2}) as server:
        alice, bob = two(server)
        device = Device(browser, "http://{}:{}".format(*server.http), wide=True)
        device.context.add_init_script(_ALL_AT_ONCE)
        one = login(device, alice)
        texts = [f"fast {number:02}" for number in range(12)]
        write = "([peer, texts]) => Promise.all(texts.map((text) => chat.sendText(peer, text)))"
        one.page.evaluate(write, [bob, texts])
        one.idle()
        assert sorted(one.texts(bob)) == texts
        sent = one.page.evaluate("() => Object.values(sent)")
        assert max(map(len, sent)) > 1, "some came too fast"
        assert all(later - earlier > 1_500 for times in sent for earlier, later in itertools.pairwise(times))
        device.close()


def test_a_dead_link_is_noticed_when_somebody_looks(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    with one.device.watch.away():
        one.device.line.silence()
        other.send(alice, "hello?")
        one.act("visible", True)
        one.until(lambda: one.state["link"]["state"] != "online", patience=15)
        one.device.line.mend()
        one.act("tryNow")
        one.until(lambda: one.texts(bob) == ["hello?"])


def test_a_dead_link_is_noticed_when_the_browser_doubts_it(server: Aldis, device: MakeDevice) -> None:
    alice, _ = two(server)
    one = login(device(), alice)
    one.page.evaluate("() => dispatchEvent(new Event('offline'))")
    one.page.wait_for_timeout(6_000)
    assert one.state["link"]["state"] == "online", "a doubt alone ends nothing"
    with one.device.watch.away():
        one.device.line.silence()
        one.page.evaluate("() => dispatchEvent(new Event('offline'))")
        one.until(lambda: one.state["link"]["state"] != "online", patience=15)
        one.device.line.mend()


def _chromium(user_data: Path) -> list[psutil.Process]:
    """The processes of the browser that keeps its data there."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(str(user_data) in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_whole_browser_is_killed(tmp_path: Path, browser: Browser) -> None:
    """kill -9 for all of its processes, while messages come and go; then the same profile is opened again."""
    with running(tmp_path / "server") as server:
        alice, bob = two(server)
        address = "http://{}:{}".format(*server.http)
        profile = tmp_path / "profile"

        def start() -> Page:
            context = browser.browser_type.launch_persistent_context(
                str(profile), executable_path=program("chromium"), base_url=address,
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            )  # fmt: skip
            page = context.new_page()
            open_chat(page)
            return page

        page = start()
        page.evaluate("(who) => chat.login(who)", {"user": alice, "password": PASSWORD})
        robot = Person(server, bob).online("robot")
        incoming, outgoing = [], []
        for round in range(3):
            for number in range(40):
                incoming.append(f"in {round}.{number}")
                robot.send(robot.chat_packet(alice, {"id": f"{round}-{number}", "body": incoming[-1]}))
            new = [f"out {round}.{number}" for number in range(10)]
            page.evaluate("([peer, texts]) => Promise.all(texts.map((text) => chat.sendText(peer, text)))", [bob, new])
            outgoing += new
            for process in _chromium(profile):
                process.send_signal(signal.SIGKILL)
            page = start()
        shown = "(peer) => chat.conversation(peer).items.map((item) => item.text)"
        page.evaluate("(peer) => chat.openConversation(peer)", bob)
        deadline = time.monotonic() + 40
        while page.evaluate("() => chat.state.waiting") or len(page.evaluate(shown, bob)) < 150:
            assert time.monotonic() < deadline, page.evaluate(shown, bob)
            page.evaluate("(peer) => chat.loadOlder(peer)", bob)
            page.wait_for_timeout(50)
        items = page.evaluate(shown, bob)
        assert [text for text in items if text.startswith("in")] == incoming
        assert [text for text in items if text.startswith("out")] == outgoing
        page.context.close()
