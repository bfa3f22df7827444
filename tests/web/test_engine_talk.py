"""Two people and three devices through the engine of the web chat: what is sent arrives, everywhere, and is ticked."""

from __future__ import annotations

import pytest

from tests.servers import PASSWORD, Aldis
from tests.web.browsing import MakeDevice
from tests.web.engines import Engine, Refused, login, two


def test_register_befriend_write_and_read(server: Aldis, device: MakeDevice) -> None:
    one, other = Engine(device()), Engine(device())
    assert one.state["phase"] == "signed-out"
    one.act("register", {"user": "anna", "password": PASSWORD, "name": "Anna A."})
    other.act("register", {"user": "bela", "password": PASSWORD, "name": ""})
    one.online(), other.online()
    assert len(one.page.workers) == 1, "time goes on in the background as well"
    one.until(lambda: one.state["me"]["name"] == "Anna A.")
    one.act("requestFriend", "bela")
    assert [asked["user"] for asked in one.state["requests"]["outgoing"]] == ["bela"]
    other.until(lambda: [(r["user"], r["name"]) for r in other.state["requests"]["incoming"]] == [("anna", "Anna A.")])
    other.act("accept", "anna")
    one.until(lambda: one.contact("bela") is not None)
    assert one.contact("bela")["state"] == "friends"  # type: ignore[index]
    one.send("bela", "hello", "again")
    other.until(lambda: other.texts("anna") == ["hello", "again"])
    one.until(lambda: one.ticks("bela") == ["delivered", "delivered"])
    contact = other.contact("anna")
    assert contact is not None
    assert (contact["unread"], contact["last"]["text"], other.state["unread"]) == (2, "again", 2)
    assert [told["text"] for told in other.notifications] == ["hello", "again"]
    other.act("visible", True)
    other.act("openConversation", "anna")
    one.until(lambda: one.ticks("bela") == ["read", "read"])
    other.until(lambda: other.state["unread"] == 0)
    one.send("bela", "third")
    one.until(lambda: one.ticks("bela") == ["read"] * 3)
    assert len(other.notifications) == 2, "what is on screen is no news"


def test_three_devices_stay_in_step(server: Aldis, device: MakeDevice) -> None:
    """Own sends appear everywhere, what one has read is read on the other, and one that was away gets it all."""
    alice, bob = two(server)
    phone, laptop, other = login(device(), alice), login(device(wide=True), alice), login(device(), bob)
    phone.send(bob, "from the phone")
    laptop.send(bob, "from the laptop")
    said = ["from the phone", "from the laptop"]
    for engine, peer in ((phone, bob), (laptop, bob), (other, alice)):
        engine.until(lambda engine=engine, peer=peer: sorted(engine.texts(peer)) == sorted(said))  # type: ignore[misc]
    # what was sent here stands last until the server has told its place
    phone.until(lambda: phone.texts(bob) == other.texts(alice))
    laptop.until(lambda: laptop.texts(bob) == other.texts(alice))
    phone.page.close()
    other.send(alice, "one", "two", "three")
    laptop.until(lambda: laptop.contact(bob)["unread"] == 3)  # type: ignore[index]
    laptop.act("visible", True)
    laptop.act("openConversation", bob)
    laptop.until(lambda: laptop.state["unread"] == 0)
    phone.page = phone.device.tab()
    phone.open().online()
    phone.until(lambda: phone.texts(bob)[-3:] == ["one", "two", "three"])
    phone.until(lambda: phone.state["unread"] == 0)
    other.until(lambda: other.ticks(alice) == ["read"] * 3)
    for engine in (phone, laptop):
        engine.until(lambda engine=engine: engine.ticks(bob) == ["delivered"] * 2)  # type: ignore[misc]


def test_a_new_device_reads_the_history_backwards(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    for start in range(0, 130, 10):
        one.send(bob, *(f"a{number}" for number in range(start, start + 10)))
        other.send(alice, f"b{start}")
    one.idle(), other.idle()
    one.until(lambda: len(one.texts(bob)) == 143)
    whole = one.texts(bob)
    fresh = login(device(wide=True), alice)
    fresh.until(lambda: (fresh.contact(bob)["last"] or {}).get("text") == whole[-1])  # type: ignore[index]
    assert fresh.state["unread"] == 0, "what came before this device is no news"
    fresh.act("openConversation", bob)
    while fresh.conversation(bob)["more"]:
        before = len(fresh.texts(bob))
        fresh.act("loadOlder", bob)
        assert len(fresh.texts(bob)) > before or not fresh.conversation(bob)["more"]
    assert fresh.texts(bob) == whole
    fresh.until(lambda: set(fresh.ticks(bob)) == {"delivered"})
    fresh.open().online()
    fresh.act("openConversation", bob)
    fresh.until(lambda: fresh.texts(bob) == whole[-100:])
    while fresh.conversation(bob)["more"]:
        fresh.act("loadOlder", bob)
    assert fresh.texts(bob) == whole, "from the database"


def test_typing_and_presence(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    one.until(lambda: one.contact(bob)["online"])  # type: ignore[index]
    other.act("typing", alice)
    one.until(lambda: one.contact(bob)["typing"])  # type: ignore[index]
    other.send(alice, "typed")
    one.until(lambda: one.texts(bob) == ["typed"] and not one.contact(bob)["typing"])  # type: ignore[index]
    other.page.close()
    one.until(lambda: not one.contact(bob)["online"] and one.contact(bob)["lastSeen"] > 0)  # type: ignore[index]


def test_notes_to_oneself_reach_the_other_device(server: Aldis, device: MakeDevice) -> None:
    alice, _ = two(server)
    one, other = login(device(), alice), login(device(wide=True), alice)
    one.send(alice, "buy milk")
    other.until(lambda: other.texts(alice) == ["buy milk"])
    one.until(lambda: one.texts(alice) == ["buy milk"] and one.ticks(alice) != ["waiting"])
    assert one.state["unread"] == other.state["unread"] == 0
    assert one.notifications == other.notifications == []


def test_who_may_not_write_is_told(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    with pytest.raises(Refused) as refused:
        one.send("nobody-here", "hi")
    assert refused.value.code == "not-friends"
    other.until(lambda: other.contact(alice)["online"])  # type: ignore[index]
    other.act("block", alice)
    one.send(bob, "are you there?")
    one.until(lambda: one.ticks(bob) == ["failed"])
    (item,) = one.items(bob)
    assert "does not take messages" in item["reason"]
    other.until(lambda: other.contact(alice)["state"] == "blocked")  # type: ignore[index]
    assert not other.contact(alice)["online"], "of whom one has blocked nothing is told any more"  # type: ignore[index]
    with pytest.raises(Refused) as refused:
        other.send(alice, "no")
    assert refused.value.code == "blocked"
    other.act("unblock", alice)
    one.act("retry", item["key"])
    other.until(lambda: other.texts(alice) == ["are you there?"])
    one.until(lambda: one.ticks(bob) == ["delivered"])
    assert [(again["key"], again["id"]) for again in one.items(bob)] == [(item["key"], item["id"])]
    other.act("unfriend", alice)
    one.until(lambda: one.contact(bob) is None)
    with pytest.raises(Refused) as refused:
        one.act("sendText", bob, "still there?")
    assert refused.value.code == "not-friends"


def test_a_failed_message_can_be_discarded(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    other.act("block", alice)
    one.send(bob, "into the wind")
    one.until(lambda: one.ticks(bob) == ["failed"])
    one.act("discard", one.items(bob)[0]["key"])
    one.until(lambda: one.items(bob) == [])
    one.open().online()
    assert one.items(bob) == []


def test_without_webcrypto_the_same_is_read(server: Aldis, device: MakeDevice) -> None:
    """A page that came without HTTPS to another machine has no WebCrypto, no locks and no service worker."""
    alice, bob = two(server)
    bare = device()
    bare.context.add_init_script(
        "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });"
        "Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined });"
        "Object.defineProperty(globalThis, 'isSecureContext', { get: () => false });"
    )
    one, other = login(bare, alice), login(device(), bob)
    assert (one.state["secure"], other.state["secure"]) == (False, True)
    one.send(bob, "Grüße ohne Schloss 💡")
    other.until(lambda: other.texts(alice) == ["Grüße ohne Schloss 💡"])
    other.send(alice, "Grüße zurück")
    one.until(lambda: one.texts(bob)[-1] == "Grüße zurück")
    stored = server.rest("GET", f"/v1/messages?peer={bob}", token=server.login(alice, "setup"))
    assert all(told["message"]["enc"]["alg"] == "A256GCM" for told in stored["messages"]), "nothing went out in plain"
