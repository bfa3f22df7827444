"""Files through the engine of the web chat: there and back with the same bytes, over lines that break."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.servers import PASSWORD, Aldis
from tests.web.browsing import MakeDevice
from tests.web.engines import Engine, Refused, login, two

_SEND = """async ([user, name, type, size]) => {
  const bytes = Uint8Array.from({ length: size }, (_, place) => (7 * place + (place >> 8)) % 251);
  await chat.sendFile(user, new File([bytes], name, { type }));
}"""


def pattern(size: int) -> str:
    return hashlib.sha256(bytes((7 * place + (place >> 8)) % 251 for place in range(size))).hexdigest()


def send(engine: Engine, user: str, name: str, type: str, size: int) -> None:
    engine.page.evaluate(_SEND, [user, name, type, size])


def the_file(engine: Engine, user: str) -> dict[str, Any]:
    """The newest item with a file."""
    return [item for item in engine.items(user) if item["file"]][-1]


def arrived(engine: Engine, user: str, name: str) -> dict[str, Any]:
    engine.until(lambda: any((item["file"] or {}).get("name") == name for item in engine.items(user)))
    return the_file(engine, user)


def content(engine: Engine, user: str, type: str) -> str:
    """The hash of the newest file, as it lies in the database: the page may show its address, not fetch it."""
    item = the_file(engine, user)
    assert item["file"]["state"] == "ready"
    assert item["file"]["url"].startswith("blob:")
    found, digest = engine.page.evaluate(
        """async (key) => {
      const { blob } = (await stored("blobs")).values.find((one) => one.key === key);
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      return [blob.type, Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")];
    }""",
        item["key"],
    )
    assert found == type
    return str(digest)


@pytest.mark.parametrize("size", [0, 65_536, 300_000])
def test_there_and_back(server: Aldis, device: MakeDevice, size: int) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    send(one, bob, "Ein Bild 💡.png", "image/png", size)
    sent = the_file(one, bob)
    assert sent["file"]["isImage"] and sent["file"]["url"], "the sender sees it at once"
    item = arrived(other, alice, "Ein Bild 💡.png")
    assert (item["file"]["size"], item["file"]["mime"], item["file"]["state"]) == (size, "image/png", "none")
    other.act("download", item["key"])
    assert content(other, alice, "image/png") == pattern(size)
    one.until(lambda: one.ticks(bob) == ["delivered"])
    token = server.login(alice, "setup")
    (told,) = server.rest("GET", f"/v1/messages?peer={bob}", token=token)["messages"]
    assert told["message"]["enc"]["alg"] == "A256GCM" and "Bild" not in str(told)
    again = other.open().online()
    again.act("openConversation", alice)
    again.until(lambda: (the_file(again, alice)["file"]["url"] or "").startswith("blob:"))
    assert content(again, alice, "image/png") == pattern(size), "it is kept"


def test_a_file_that_could_run_gets_no_type_to_run_with(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    for name, mime in (("page.html", "text/html"), ("picture.svg", "image/svg+xml")):
        send(one, bob, name, mime, 100)
        item = arrived(other, alice, name)
        assert not item["file"]["isImage"]
        other.act("download", item["key"])
        assert content(other, alice, "application/octet-stream") == pattern(100)


def test_the_line_breaks_while_a_file_goes_up_and_comes_down(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    size = 6_000_000
    with one.device.watch.away(), other.device.watch.away():
        cut = """(what) => new Promise((resolve) => {
          const look = () => {
            const item = chat.conversation(what.user).items.findLast((one) => one.file);
            const { state, progress } = item?.file ?? {};
            if (state === what.state && progress > what.least) resolve(progress);
            else if (what.over.includes(item?.file?.state)) resolve(null);
            else setTimeout(look, 1);
          };
          look();
        })"""
        one.page.route("**/v1/files?*", lambda route: route.abort())  # the upload breaks off
        send(one, bob, "film.bin", "application/octet-stream", size)
        one.send(bob, "a text does not wait for it")
        one.until(lambda: one.ticks(bob).count("delivered") == 1)
        one.until(lambda: the_file(one, bob)["file"]["state"] == "uploading")
        one.device.line.cut()
        one.device.line.mend()
        one.page.unroute("**/v1/files?*")
        item = arrived(other, alice, "film.bin")
        assert other.texts(alice) == ["a text does not wait for it", "film.bin"]
        slow = {"offline": False, "latency": 0, "downloadThroughput": 2_000_000, "uploadThroughput": -1}
        other.device.context.new_cdp_session(other.page).send("Network.emulateNetworkConditions", slow)
        ranges = []
        other.page.on("request", lambda asked: "/v1/files/" in asked.url and ranges.append(asked.headers.get("range")))
        other.page.evaluate("(key) => void chat.download(key)", item["key"])
        for least in (0.1, 0.4):
            place = {"user": alice, "state": "downloading", "least": least, "over": ["ready", "failed"]}
            assert other.page.evaluate(cut, place) is not None
            other.device.line.cut()
            other.device.line.mend()
        other.until(lambda: the_file(other, alice)["file"]["state"] == "ready")
    assert content(other, alice, "application/octet-stream") == pattern(size)
    begins = [int(asked[6:-1]) if asked else 0 for asked in ranges]
    assert begins[0] == 0 and begins[-1] > 0.4 * size, "it goes on where it broke off"
    assert all(begin % 65_552 == 0 for begin in begins)
    stored = server.rest("GET", f"/v1/messages?peer={bob}", token=server.login(alice, "setup"))["messages"]
    assert len(stored) == 2, "one message, however often its file went up"


def test_a_file_waits_for_the_network_and_outlives_the_page(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    with one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        send(one, bob, "kept.jpg", "image/jpeg", 100_000)
        assert one.state["waiting"] == 1
        one.new_page().device.line.mend()
        one.open().online().idle()
    item = arrived(other, alice, "kept.jpg")
    other.act("download", item["key"])
    assert content(other, alice, "image/jpeg") == pattern(100_000)


def test_a_file_that_is_gone(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    send(one, bob, "gone.pdf", "application/pdf", 1_000)
    item = arrived(other, alice, "gone.pdf")
    one.page.evaluate("""async () => {
      const { access } = (await stored("meta")).values.find((one) => one?.access);
      const { file } = (await stored("rows")).values.find((row) => row.file);
      await fetch(`/v1/files/${file.fileId}`, { method: "DELETE", headers: { Authorization: `Bearer ${access}` } });
    }""")
    with other.device.watch.excusing("status of 404"):
        with pytest.raises(Refused) as refused:
            other.act("download", item["key"])
        assert refused.value.code == "unknown-file"
        assert the_file(other, alice)["file"]["state"] == "gone"
        other.open().online()
        other.until(lambda: [found["file"]["state"] for found in other.items(alice)] == ["gone"])


def test_an_upload_can_be_cancelled_and_taken_up_again(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    held: list[Any] = []
    one.page.route("**/v1/files?*", lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks what it is given)
    with one.device.watch.excusing("net::ERR_"):
        send(one, bob, "later.txt", "text/plain", 5_000)
        one.until(lambda: len(held) == 1)
        item = the_file(one, bob)
        assert (item["status"], item["file"]["state"]) == ("sending", "uploading")
        one.act("cancelTransfer", item["key"])
        one.until(lambda: the_file(one, bob)["status"] == "failed")
        assert "ancelled" in the_file(one, bob)["reason"]
        one.page.unroute("**/v1/files?*")
    one.act("retry", item["key"])
    arrived(other, alice, "later.txt")
    one.until(lambda: one.ticks(bob) == ["delivered"])


def test_an_upload_that_waits_for_others_can_be_cancelled_too(server: Aldis, device: MakeDevice) -> None:
    """Three go up at once; the one behind them need not wait for its turn to be cancelled, nor takes anybody's."""
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    held: list[Any] = []
    others: list[Any] = []

    def hold(route: Any) -> None:
        (held if len(held) < 3 else others).append(route)
        if others:
            route.continue_()

    one.page.route("**/v1/files?*", hold)
    for number in range(5):
        send(one, bob, f"{number}.txt", "text/plain", 100)
    one.until(lambda: len(held) == 3)
    waiting = [item for item in one.items(bob) if item["file"]["name"] == "3.txt"]
    one.act("cancelTransfer", waiting[0]["key"])
    one.until(lambda: one.ticks(bob).count("failed") == 1)
    one.page.wait_for_timeout(300)
    assert others == [], "its place was none of the three"
    for route in held:
        route.continue_()
    other.until(lambda: sorted(other.texts(alice)) == ["0.txt", "1.txt", "2.txt", "4.txt"])


def test_an_upload_goes_on_in_the_tab_that_takes_the_chat(server: Aldis, device: MakeDevice) -> None:
    """It is cut off where it was begun, which is no cancelling: the file still waits to be sent, and is sent once."""
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    one.page.route("**/v1/files?*", lambda route: None)  # it never gets there
    with one.device.watch.excusing("net::ERR_"):
        send(one, bob, "moved.txt", "text/plain", 5_000)
        one.until(lambda: the_file(one, bob)["file"]["state"] == "uploading")
        second = Engine(one.device, one.device.tab())
        second.act("takeOver")
        second.online().idle()
    assert second.ticks(bob) in (["sent"], ["delivered"])
    item = arrived(other, alice, "moved.txt")
    other.act("download", item["key"])
    assert content(other, alice, "application/octet-stream") == pattern(5_000)


def test_an_upload_that_the_end_of_a_login_cuts_off_goes_on_after_the_next(server: Aldis, device: MakeDevice) -> None:
    """Nobody has cancelled it: it waits like everything else that was not sent."""
    alice, bob = two(server)
    one, other = login(device(), alice), login(device(), bob)
    one.page.route("**/v1/files?*", lambda route: None)  # it never gets there
    with one.device.watch.excusing("net::ERR_|status of 401|WebSocket"):
        send(one, bob, "kept.txt", "text/plain", 5_000)
        one.until(lambda: the_file(one, bob)["file"]["state"] == "uploading")
        server.rest("DELETE", f"/v1/devices/{one.state['me']['device']}", token=server.login(alice, "setup"))
        one.until(lambda: one.state["phase"] == "signed-out")
        one.page.unroute("**/v1/files?*")
        one.act("login", {"user": alice, "password": PASSWORD})
        one.online().idle()
    item = arrived(other, alice, "kept.txt")
    other.act("download", item["key"])
    assert content(other, alice, "application/octet-stream") == pattern(5_000)


def test_what_is_written_without_a_network_tries_no_upload_the_more_often(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one = login(device(), alice)
    asked: list[str] = []
    one.page.on("request", lambda request: "/v1/files?" in request.url and asked.append(request.url))
    with one.device.watch.away():
        one.device.line.cut()
        one.until(lambda: one.state["link"]["state"] != "online")
        send(one, bob, "waits.bin", "application/octet-stream", 1_000)
        one.send(bob, *(f"text {number}" for number in range(20)))
        one.page.wait_for_timeout(1_000)
        asked.clear()
        one.page.wait_for_timeout(11_000)
        assert 1 <= len(asked) <= 4, "one attempt every five seconds"


def test_a_note_with_a_file_reaches_the_other_device(server: Aldis, device: MakeDevice) -> None:
    alice, _ = two(server)
    one, other = login(device(), alice), login(device(wide=True), alice)
    send(one, alice, "note.webp", "image/webp", 70_000)
    item = arrived(other, alice, "note.webp")
    other.act("download", item["key"])
    assert content(other, alice, "image/webp") == pattern(70_000)


def test_what_the_server_takes_no_files_of_is_told(server: Aldis, device: MakeDevice) -> None:
    alice, bob = two(server)
    one, _ = login(device(), alice), login(device(), bob)

    def full(route: Any) -> None:
        problem = '{"type":"urn:aldis:problem:storage-full","title":"Full","status":507}'
        route.fulfill(status=507, content_type="application/problem+json", body=problem)

    one.page.route("**/v1/files?*", full)
    with one.device.watch.excusing("status of 507"):
        send(one, bob, "big.zip", "application/zip", 1_000)
        one.until(lambda: the_file(one, bob)["status"] == "failed")
    assert "no room left" in the_file(one, bob)["reason"]
