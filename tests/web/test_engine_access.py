"""Logins that end, keys that change, a server that begins anew."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.people import Person
from tests.servers import PASSWORD, Aldis, running
from tests.web.browsing import Device, MakeDevice
from tests.web.engines import Refused, friends, login, two

_numbers = itertools.count(1)

_KEYS = ("eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=", "Z13VdO13iTELPS52gfN5C0ZsdzsVIf7PNld5WDcepS8=")
"""Public keys of two devices."""

_RELATIONS = re.compile(r"/v1/relations(\?.*)?$")
"""The list of all relations."""

_UNAUTHORISED = "status of 401|WebSocket"
"""What the browser writes when a token is refused."""


def test_a_short_lived_token_is_renewed(tmp_path: Path, browser: Browser) -> None:
    """Each connection and each call finds a token that is good; the login goes on through many of them, one refresh
    at a time, and through a reload."""
    with running(tmp_path, settings={"accounts.access_token_lifetime": 2}) as server:
        alice, bob = two(server)
        device = Device(browser, "http://{}:{}".format(*server.http), wide=True)
        with device.watch.excusing(_UNAUTHORISED):
            one = login(device, alice)
            other = Person(server, bob).online("robot")
            for round in range(4):
                one.page.wait_for_timeout(2_200)
                refreshes: list[str] = []
                count = lambda asked: "/v1/token/refresh" in asked.url and refreshes.append(asked.url)  # noqa: B023, E731
                one.page.on("request", count)
                one.page.evaluate("() => Promise.all([1, 2, 3, 4].map(() => chat.devices()))")
                one.page.remove_listener("request", count)
                assert len(refreshes) == 1, "one at a time, for all who wait for it"
                one.device.line.cut(), one.device.line.mend()
                one.act("tryNow")
                one.online()
                one.send(bob, f"round {round}")
                one.idle()
            one.open().online()
            other.chats(4)
            one.until(lambda: one.ticks(bob) == ["delivered"] * 4)
        device.close()


def test_a_refresh_whose_answer_got_lost_is_asked_for_again(tmp_path: Path, browser: Browser) -> None:
    with running(tmp_path, settings={"accounts.access_token_lifetime": 2}) as server:
        alice, _ = two(server)
        device = Device(browser, "http://{}:{}".format(*server.http), wide=True)
        with device.watch.excusing(f"{_UNAUTHORISED}|net::ERR_FAILED"):
            one = login(device, alice)
            one.page.wait_for_timeout(2_200)
            lost = []

            def lose(route: object) -> None:
                route.fetch()  # type: ignore[attr-defined]
                lost.append(route)
                route.abort()  # type: ignore[attr-defined]

            device.context.route("**/v1/token/refresh", lose)
            with pytest.raises(Refused) as refused:
                one.act("devices")
            assert refused.value.code == "offline"
            assert lost
            device.context.unroute("**/v1/token/refresh")
            one.open().online()
            assert [found["current"] for found in one.act("devices") if found["loggedIn"]].count(True) == 1
        device.close()


def test_a_login_that_is_ended_from_elsewhere(server: Aldis, device: MakeDevice) -> None:
    """What was written and not sent is kept for the same person, and sent once, after the next login."""
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    one.send(bob, "before")
    other.until(lambda: other.texts(alice) == ["before"])
    with one.device.watch.excusing(_UNAUTHORISED), one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        one.send(bob, "kept 1", "kept 2")
        server.rest("DELETE", f"/v1/devices/{one.state['me']['device']}", token=server.login(alice, "setup"))
        one.device.line.mend()
        one.act("tryNow")
        one.until(lambda: one.state["phase"] == "signed-out")
        assert "Log in again" in one.state["reason"]
        assert one.state["contacts"] == []
        one.act("login", {"user": alice, "password": PASSWORD})
    one.online().idle()
    other.until(lambda: other.texts(alice) == ["before", "kept 1", "kept 2"])
    one.until(lambda: one.texts(bob) == ["before", "kept 1", "kept 2"])


def test_somebody_else_logs_in_after_it(server: Aldis, device: MakeDevice) -> None:
    """Nothing of the one before is there for them, and nothing of it is sent."""
    alice, bob = two(server)
    carol = f"carol{next(_numbers)}"
    friends(server, carol)
    one, other = login(device(), alice), login(device(), bob)
    with one.device.watch.excusing(_UNAUTHORISED), one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        one.send(bob, "never sent")
        server.rest("DELETE", f"/v1/devices/{one.state['me']['device']}", token=server.login(alice, "setup"))
        one.device.line.mend()
        one.act("tryNow")
        one.until(lambda: one.state["phase"] == "signed-out")
        one.act("login", {"user": carol, "password": PASSWORD})
    one.online()
    assert (one.state["waiting"], one.texts(bob)) == (0, [])
    assert other.texts(alice) == []


def test_logout_leaves_nothing(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    other.send(alice, "secret words")
    one.until(lambda: one.texts(bob) == ["secret words"])
    one.act("logout")
    assert (one.state["phase"], one.state["me"], one.state["contacts"]) == ("signed-out", None, [])
    kept = {
        name: one.page.evaluate("(name) => stored(name)", name)
        for name in ("meta", "rows", "conversations", "keys", "blobs")
    }
    assert [name for name, found in kept.items() if found["values"] and name != "meta"] == []
    assert set(kept["meta"]["keys"]) <= {"holder", "place", "order"}
    assert alice not in json.dumps(kept["meta"]) and bob not in json.dumps(kept)
    one.open()
    assert one.state["phase"] == "signed-out"
    one.act("login", {"user": alice, "password": PASSWORD})
    one.online().until(lambda: one.texts(bob) == ["secret words"])
    assert one.state["unread"] == 0, "this device had taken it already"


def test_devices_are_shown_named_and_removed(server: Aldis, device: MakeDevice) -> None:
    alice, _ = two(server)
    phone, laptop = login(device(), alice), login(device(wide=True), alice)
    theirs = phone.state["me"]["device"]
    laptop.until(lambda: {found["name"] for found in laptop.act("devices") if found["loggedIn"]} >= {"Chrome on Linux"})
    laptop.act("renameDevice", theirs, "Phone")
    found = {one["device"]: one for one in laptop.act("devices")}
    assert (found[theirs]["name"], found[theirs]["current"], found[theirs]["loggedIn"]) == ("Phone", False, True)
    with phone.device.watch.excusing(_UNAUTHORISED):
        laptop.act("removeDevice", theirs)
        phone.until(lambda: phone.state["phase"] == "signed-out")
    assert theirs not in {one["device"] for one in laptop.act("devices")}
    laptop.act("removeDevice", laptop.state["me"]["device"])
    assert laptop.state["phase"] == "signed-out"


def test_password_and_account(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    with one.device.watch.excusing("status of 40"):
        with pytest.raises(Refused) as refused:
            one.act("changePassword", "wrong words here", "another good phrase")
        assert refused.value.code == "wrong-login"
        assert one.state["phase"] == "ready", "a wrong password ends nothing"
        one.act("changePassword", PASSWORD, "another good phrase")
        one.act("logoutEverywhere")
        with pytest.raises(Refused) as refused:
            one.act("login", {"user": alice, "password": PASSWORD})
        assert (refused.value.code, one.state["phase"]) == ("wrong-login", "signed-out")
        one.act("login", {"user": alice, "password": "another good phrase"})
        with pytest.raises(Refused) as refused:
            one.act("register", {"user": bob, "password": PASSWORD, "name": ""})
        assert refused.value.code == "user-taken"
    one.online()
    one.act("deleteAccount", "another good phrase")
    assert one.state["phase"] == "signed-out"
    other.until(lambda: other.contact(alice)["state"] == "deleted")  # type: ignore[index]
    with pytest.raises(Refused) as refused:
        other.send(alice, "to nobody")
    assert refused.value.code == "deleted"


def test_a_key_is_renewed_while_a_message_waits(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    one.send(bob, "under the first")
    one.idle()
    with one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        one.send(bob, "waits")
        other.act("rotateKey", alice)
        other.send(alice, "under the second")
        one.device.line.mend()
        one.act("tryNow")
        one.online().idle()
    one.until(lambda: "under the second" in one.texts(bob))
    other.until(lambda: sorted(other.texts(alice)) == ["under the first", "under the second", "waits"])
    assert other.contact(alice)["keyVersion"] == one.contact(bob)["keyVersion"] == 2  # type: ignore[index]
    stored = server.rest("GET", f"/v1/messages?peer={bob}&after=0", token=server.login(alice, "setup"))["messages"]
    assert sorted(told["message"]["enc"]["v"] for told in stored) == [1, 2, 2]
    for engine, peer in ((one, bob), (other, alice)):
        said = [item["text"] for item in engine.conversation(peer)["items"] if item["kind"] == "notice"]
        assert any("renewed (version 2)" in text for text in said)
    fresh = login(device(wide=True), alice)
    fresh.act("openConversation", bob)
    fresh.until(lambda: sorted(fresh.texts(bob)) == ["under the first", "under the second", "waits"])


def test_a_sealed_conversation_is_for_apps(server: Aldis, device: MakeDevice) -> None:
    """The page takes no part in it: it shows what it cannot read as such, sends nothing, and nothing in plain."""
    alice, bob = two(server)
    one = login(device(), alice)
    one.send(bob, "still in the open")
    one.idle()
    devices = []
    for user, peer, public in ((alice, bob, _KEYS[0]), (bob, alice, _KEYS[1])):
        token = server.login(user, "app")
        server.rest("PUT", "/v1/device-key", {"public_key": public}, token)
        server.rest("PUT", f"/v1/relations/{peer}/sealed", token=token)
        wrapped = b64encode(bytes([1, *range(80)])).decode()  # the server cannot tell what is in it
        devices.append({"user_id": user, "device_id": "app", "public_key": public, "wrapped": wrapped})
    token = server.login(alice, "app")
    body = {"version": 2, "check": "82tqZSc/6+Pb7m6PDQwK+p0te2hInBEfIgi5IDX8S2w=", "keys": devices}
    server.rest("POST", f"/v1/relations/{bob}/sealed-keys", body, token)
    one.until(lambda: one.contact(bob)["sealed"])  # type: ignore[index]
    with pytest.raises(Refused) as refused:
        one.act("sendText", bob, "not like this")
    assert refused.value.code == "sealed"
    robot = Person(server, bob).online("robot")
    enc = {"alg": "A256GCM", "v": 2, "nonce": "ZGVmZ2hpamtsbW5v"}
    robot.say(alice, {"id": "s-1", "enc": enc, "body": "D2kd2rp2M75IDTLIlgAfniq2cn/5AdOCOEMN/OsTlslGTrUAIQikQyJXBw=="})
    one.until(lambda: len(one.items(bob)) == 2)
    item = one.items(bob)[1]
    assert (item["kind"], item["text"]) == ("unreadable", "")
    assert "sealed" in item["reason"]
    with one.device.watch.excusing("status of 409"), pytest.raises(Refused) as refused:
        one.act("rotateKey", bob)
    assert refused.value.code == "relation-sealed"
    server.rest("DELETE", f"/v1/relations/{alice}/sealed", token=server.login(bob, "app2"))
    server.rest("POST", f"/v1/relations/{alice}/rotate-key", token=server.login(bob, "app2"))
    one.until(lambda: one.contact(bob)["keyVersion"] == 3)  # type: ignore[index]
    one.act("sendText", bob, "nobody here has agreed")
    one.until(lambda: one.ticks(bob) == ["delivered", "failed"] or one.ticks(bob) == ["sent", "failed"])
    assert "was sealed" in one.items(bob)[-1]["reason"]
    one.act("rotateKey", bob)
    one.act("retry", one.items(bob)[-1]["key"])
    one.idle()
    assert one.items(bob)[-1]["status"] in ("sent", "delivered")


def test_a_change_that_comes_while_the_lists_are_on_their_way(server: Aldis, device: MakeDevice) -> None:
    """What is on its way already knows nothing of it, so the lists are read once more."""
    alice, bob = two(server)
    one = login(device(), alice)
    token = server.login(bob, "app")
    held: list[Any] = []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    one.page.route(_RELATIONS, hold)
    server.rest("POST", f"/v1/relations/{alice}/rotate-key", token=token)
    one.until(lambda: len(held) == 1)
    server.rest("POST", f"/v1/relations/{alice}/rotate-key", token=token)
    one.until(lambda: "version 3" in one.conversation(bob)["items"][-1]["text"])  # it knows that there is something new
    ((old, answer),) = held
    old.fulfill(response=answer)
    one.until(lambda: one.contact(bob)["keyVersion"] == 3)  # type: ignore[index]


def test_a_change_that_cannot_be_read_at_once(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one = login(device(), alice)
    refused: list[Any] = []

    def refuse(route: Any) -> None:
        refused.append(route)
        route.fulfill(status=503, json={"status": 503, "title": "no"})

    with one.device.watch.excusing("status of 503"):
        one.page.route(_RELATIONS, refuse)
        server.rest("POST", f"/v1/relations/{alice}/rotate-key", token=server.login(bob, "app"))
        one.until(lambda: len(refused) > 0)
        one.page.unroute(_RELATIONS)
        one.until(lambda: one.contact(bob)["keyVersion"] == 2)  # type: ignore[index]


def test_a_server_that_begins_anew(tmp_path: Path, browser: Browser) -> None:
    """All of its data is gone, and the same people register again: no old number hides a new message."""
    with running(tmp_path) as server:
        alice, bob = two(server)
        address = "http://{}:{}".format(*server.http)
        devices = [Device(browser, address, wide=True) for _ in range(2)]
        one, other = login(devices[0], alice), login(devices[1], bob)
        other.send(alice, *(f"old {number}" for number in range(20)))
        one.until(lambda: len(one.texts(bob)) == 20)
        one.act("visible", True)
        one.act("openConversation", bob)
        one.until(lambda: one.state["unread"] == 0)
        one.act("openConversation", None)
        with ExitStack() as stack:
            for device in devices:
                stack.enter_context(device.watch.away())
                stack.enter_context(device.watch.excusing(_UNAUTHORISED))
            server.kill()
            one.send(bob, "from the time between")
            shutil.rmtree(server.data)
            server.start()
            one.act("tryNow"), other.act("tryNow")
            for engine in (one, other):
                engine.until(lambda engine=engine: engine.state["phase"] == "signed-out")  # type: ignore[misc]
            friends(server, alice, bob)
            one.act("login", {"user": alice, "password": PASSWORD})
            other.act("login", {"user": bob, "password": PASSWORD})
        one.online().idle(), other.online()
        other.send(alice, "new 1", "new 2")
        one.until(lambda: one.texts(bob) == ["from the time between", "new 1", "new 2"])
        other.until(lambda: other.texts(alice) == ["from the time between", "new 1", "new 2"])
        assert one.contact(bob)["unread"] == 2  # type: ignore[index]
        one.until(lambda: one.ticks(bob) == ["delivered"])
        assert [line for device in devices for line in device.watch.wrong] == []
        for device in devices:
            device.close()


def test_what_others_send_cannot_stop_an_inbox(server: Aldis, device: MakeDevice) -> None:
    """Bodies of any kind, ciphertext that does not open, files that are none: each is a row of its own, and the next
    message comes."""
    alice, bob = two(server)
    one = login(device(), alice)
    robot = Person(server, bob).online("robot")
    enc = {"alg": "A256GCM", "v": 1, "nonce": "ZGVmZ2hpamtsbW5v"}
    hostile = [
        {"body": 7}, {"body": None}, {"body": ["a", {"b": 1}]}, {}, {"body": ""}, {"type": "file", "body": "{}"},
        {"type": "file", "body": {"file_id": "x"}}, {"type": "file", "body": '{"file_id":"x","stored":-1}'},
        {"type": "poll", "body": "which?"}, {"enc": enc, "body": "AAAA"}, {"enc": enc, "body": 5},
        {"enc": "yes", "body": "x"},
        {"enc": {**enc, "v": 99}, "body": "AAAA"}, {"enc": {**enc, "v": "1"}, "body": "AAAA"}, {"enc": [], "body": "x"},
        {"id": "constructor", "body": "<img src=x onerror=alert(1)>"}, {"body": "__proto__", "__proto__": {"x": 1}},
    ]  # fmt: skip
    for document in hostile:
        robot.say(alice, document)
    robot.say(alice, b"\xff\xfe no text at all")
    robot.say(alice, b"just a text")
    with one.device.watch.excusing("status of 404"):
        one.until(lambda: len(one.items(bob)) == len(hostile) + 2)
    assert one.texts(bob)[-1] == "just a text"
    kinds = [item["kind"] for item in one.items(bob)]
    assert set(kinds) <= {"text", "unreadable"}
    assert kinds[9:15] == ["unreadable"] * 6
    assert all(item["reason"] for item in one.items(bob) if item["kind"] == "unreadable")
    robot.until(lambda: robot.receipts("delivered"))
