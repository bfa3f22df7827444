"""What the terminal chat keeps: folders, logins, the lock, and the archive of what was said."""

from __future__ import annotations

import json
import queue
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.rest import Login, Refused, Relation
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.archive import Archive, line_of
from aldis.mobile_client_demo.terminal.deeds import Deeds
from aldis.mobile_client_demo.terminal.home import Home, InUse, default_folder
from aldis.mobile_client_demo.terminal.places import Place, beside, mqtt_place, server_url
from aldis.mobile_client_demo.terminal.screen import listing
from aldis.mobile_client_demo.terminal.state import Line
from aldis.mobile_client_demo.terminal.transfers import Transfers, safe_name, target_of

SERVER = "http://127.0.0.1:8000"


def line(mid: int = 0, text: str = "hi", *, mine: bool = False, id: str = "", problem: str = "") -> Line:
    return line_of(mine=mine, mid=mid, id=id, ts=1_000 + mid, kind="text", body=text, problem=problem)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "messages.db")


def test_where_platforms_keep_data(tmp_path: Path) -> None:
    assert default_folder({}, "linux", tmp_path) == tmp_path / ".local/share/aldis/chat"
    assert default_folder({"XDG_DATA_HOME": "/x"}, "linux", tmp_path) == Path("/x/aldis/chat")
    assert default_folder({"XDG_DATA_HOME": "x"}, "linux", tmp_path) == tmp_path / ".local/share/aldis/chat"
    assert default_folder({}, "darwin", tmp_path) == tmp_path / "Library/Application Support/aldis/chat"
    assert default_folder({"LOCALAPPDATA": "/l"}, "win32", tmp_path) == Path("/l/aldis/chat")


def test_a_login_is_kept_for_this_user_alone(tmp_path: Path) -> None:
    account = Home(tmp_path).account(SERVER, "ann", "pc")
    assert account.login() is None
    login = Login("ann", "pc", "access", "refresh")
    account.keep(login)
    kept = Home(tmp_path).account(SERVER, "ann", "").login()
    assert kept == login and kept is not None and kept.refresh_key == login.refresh_key
    for path in (account.folder / "login.json", account.folder):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    account.keep(None)
    assert Home(tmp_path).account(SERVER, "ann", "pc").login() is None


def test_the_device_is_chosen_once_and_users_and_servers_stay_apart(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.account(SERVER, "ann", "")
    assert first.device.startswith("terminal-") and Home(tmp_path).account(SERVER, "ann", "").device == first.device
    places = {home.account(SERVER, user, "pc").folder for user in ("ann", "..", ".", "a/b", "a%2Fb")}
    places.add(home.account("https://other", "ann", "pc").folder)
    assert len(places) == 6 and all(place.is_relative_to(tmp_path) and ".." not in place.parts for place in places)


def test_two_chats_on_one_device_are_kept_apart(tmp_path: Path) -> None:
    first = Home(tmp_path).account(SERVER, "ann", "pc")
    first.lock()
    with pytest.raises(InUse, match=r"another aldis chat \(process \d+\) is running as ann on pc"):
        Home(tmp_path).account(SERVER, "ann", "pc").lock()
    Home(tmp_path).account(SERVER, "ann", "other").lock()


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"user": 3}', b"\xff\xfe\0"])
def test_a_file_that_is_no_good_is_put_aside_and_said(tmp_path: Path, content: bytes) -> None:
    account = Home(tmp_path).account(SERVER, "ann", "pc")
    (account.folder / "login.json").write_bytes(content)
    assert account.login() is None
    (note,) = account.notes
    (kept,) = account.folder.glob("login.json.broken-*")
    assert "login.json" in note and kept.name in note and kept.read_bytes() == content


def test_a_message_is_kept_once_and_counts_as_unread_until_it_is_shown(archive: Archive, tmp_path: Path) -> None:
    assert archive.arrived("bob", line(3)) and not archive.arrived("bob", line(3))
    archive.take("bob", [line(1), line(2), line(4)])
    assert archive.arrived("bob", line(4)), "the history had it before the inbox"
    assert not archive.arrived("bob", line(5, mine=True))
    (bob,) = archive.contacts()
    assert (bob.user, bob.unread) == ("bob", 2)
    archive.shown("bob", 4)
    assert archive.contacts()[0].unread == 0 and not archive.arrived("bob", line(2))
    archive.close()
    again = Archive(tmp_path / "messages.db")
    assert [one.mid for one in again.lines("bob")] == [1, 2, 3, 4, 5] and again.contacts()[0].shown == 4
    assert [one.mid for one in again.lines("bob", below=4, limit=2)] == [2, 3]
    assert stat.S_IMODE((tmp_path / "messages.db").stat().st_mode) == 0o600


def test_a_message_of_mine_waits_until_it_is_answered(archive: Archive) -> None:
    archive.take("bob", [line(id="p-1", mine=True), line(id="p-2", mine=True), line(id="p-3", mine=True)])
    archive.settled("p-1", mid=7)
    archive.settled("p-2", failed="rate")
    archive.take("bob", [line(8, id="p-3", mine=True), line(9)])
    assert archive.waiting() == []
    assert {(one.id, one.mid, one.failed) for one in archive.lines("bob")} == {
        ("p-1", 7, ""), ("p-2", 0, "rate"), ("p-3", 8, ""), ("", 9, "")
    }  # fmt: skip


def test_the_answer_may_come_after_the_history_has_told_of_it(archive: Archive) -> None:
    """As after another outbox was begun: then its id does not show that it is of this device."""
    archive.take("bob", [line(id="old-1", mine=True), line(7, mine=True), line(8)])
    archive.settled("old-1", mid=7)
    assert archive.waiting() == []
    assert [(one.mid, one.id) for one in archive.lines("bob")] == [(7, "old-1"), (8, "")]


def test_an_unreadable_message_becomes_readable_and_never_the_reverse(archive: Archive) -> None:
    for one in (line(1, "", problem="no key"), line(1, "secret"), line(1, "", problem="no key")):
        archive.take("bob", [one])
    assert [(one.text, one.problem) for one in archive.lines("bob")] == [("secret", "")]


def test_people_who_are_gone_stay_only_with_what_they_said(archive: Archive) -> None:
    archive.people([("bob", "Bob", "friend"), ("eve", "", "asks")])
    archive.take("bob", [line(1)])
    archive.people([("carol", "", "friend")])
    assert {(one.user, one.standing) for one in archive.contacts()} == {("bob", "past"), ("carol", "friend")}


def test_where_mqtt_is() -> None:
    assert [str(one) for one in beside("http://[::1]:8000")] == ["mqtt://[::1]:1883"]
    assert beside("https://chat.example.org") == [
        Place("chat.example.org", 8883, True), Place("chat.example.org", 1883, True)
    ]  # fmt: skip
    assert mqtt_place("h:99", "https://x") == Place("h", 99, True)
    assert mqtt_place("mqtt://h", "https://x") == Place("h", 1883, False)
    assert mqtt_place("mqtts://[::1]", "http://x").address == "[::1]:8883"
    assert server_url("chat.example.org:8000/") == "http://chat.example.org:8000"
    for wrong in ("ftp://x", "http://", "http://x:99999"):
        with pytest.raises(ValueError):
            server_url(wrong)
    for wrong in ("", ":1883", "h:0", "h:x", "tcp://h:1", "h:1/x"):
        with pytest.raises(ValueError):
            mqtt_place(wrong, "http://x")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        (".bashrc", "_bashrc"), ("-rf", "_rf"), ("~root", "_root"), ("a/b\\c", "a_b_c"), ("\x1b[2Jx", "�[2Jx"),
        ("invoice\u202efdp.exe", "invoice�fdp.exe"), ("", "file"), ("\u200b", "file"), ("photo.jpg", "photo.jpg"),
    ],
)  # fmt: skip
def test_names_of_others_have_no_power_here(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_file_never_goes_over_another(tmp_path: Path) -> None:
    file = FileMessage("f", "a.tar.gz", 1, "", 1, "", None)
    assert target_of(file, str(tmp_path)) == tmp_path / "a.tar.gz"
    for name in ("a.tar.gz", "a.tar (2).gz"):
        (tmp_path / name).touch()
    assert target_of(file, str(tmp_path)) == tmp_path / "a.tar (3).gz"
    assert target_of(file, str(tmp_path / "else")) == tmp_path / "else"
    long = safe_name("x" * 500 + ".jpeg")
    assert len(long.encode()) <= 240 and long.endswith(".jpeg")


def test_two_files_of_one_name_that_are_fetched_at_once_do_not_meet(tmp_path: Path) -> None:
    going, told, through = threading.Barrier(3, timeout=5), [], threading.Semaphore(0)

    class Slow:
        def call(self, work: object) -> None:
            going.wait()  # both are under way before either has a file
            raise Refused("GET", 404, "gone", "", True)

    def post(event: e.Event) -> None:
        told.append(event)
        if isinstance(event, e.Moved) and event.ended:
            through.release()

    transfers = Transfers(Slow(), post)  # type: ignore[arg-type]
    for mark in "ab":
        transfers.save(FileMessage(mark, "photo.jpg", 1, "", 1, "", None), str(tmp_path))
    assert transfers._targets == {tmp_path / "photo.jpg", tmp_path / "photo (2).jpg"}
    going.wait()
    assert all(through.acquire(timeout=5) for _ in "ab")
    assert not transfers._targets and sum(isinstance(one, e.Told) for one in told) == 2


def test_a_home_that_there_is_not_and_any_other_fault_are_told(tmp_path: Path) -> None:
    class Broken:
        def call(self, work: object) -> None:
            raise ValueError("nobody has thought of this")

    events: queue.Queue[e.Event] = queue.Queue()
    transfers = Transfers(Broken(), events.put)  # type: ignore[arg-type]
    file = FileMessage("f", "a", 1, "", 1, "", None)
    transfers.send("bob", "~nobody-of-that-name/x", lambda _: None)
    transfers.save(file, "~nobody-of-that-name/x")
    for _ in range(2):
        told = events.get(timeout=5)
        assert isinstance(told, e.Told) and told.bad and "there is no such home" in told.text
    assert listing("~nobody-of-that-name/") == []
    transfers.save(file, str(tmp_path))
    assert isinstance(events.get(timeout=5), e.Moved) and isinstance(events.get(timeout=5), e.Moved)
    told = events.get(timeout=5)
    assert isinstance(told, e.Told) and "nobody has thought of this" in told.text


def test_a_file_message_of_which_no_line_can_be_made_is_a_line_that_says_so(archive: Archive) -> None:
    for name in ("file_id", "name", "mime", "sha256"):
        fields = {"file_id": "f", "name": "n", "mime": "m", "sha256": "s", "size": 1, "stored": 1} | {name: "\ud800"}
        half = line_of(mine=False, mid=1, id="", ts=1, kind="file", body=json.dumps(fields))
        assert half.file is None and "half a character" in half.problem
        archive.arrived("bob", half)
    assert [one.mid for one in archive.lines("bob")] == [1]


def deeds_of_ada(relations: Callable[[object], list[Relation]]) -> tuple[Deeds, list[e.People]]:
    """With a server on which nobody asks for anything, and what they post."""
    rest = SimpleNamespace(relations=relations, call=lambda *_: {"incoming": [], "outgoing": [], "next": None})
    access, told = SimpleNamespace(call=lambda work: work(rest, None)), list[e.People]()
    return Deeds("ada", access, lambda: None, told.append), told  # type: ignore[arg-type]


def test_a_friend_whose_account_is_gone_is_no_friend_any_more() -> None:
    relations = [
        Relation("bob", "friends", None, "Bob"), Relation("gone", "friends", None, "", deleted=True),
        Relation("pest", "blocked", None, "", deleted=True),
    ]  # fmt: skip
    deeds, told = deeds_of_ada(lambda _: relations)
    deeds.tell_people()
    assert told == [e.People({
        "ada": ("", "self"), "bob": ("Bob", "friend"), "gone": ("", "past"), "pest": ("", "blocked")
    })]  # fmt: skip


def test_of_two_readings_of_the_people_the_newer_is_told_last() -> None:
    """The first is slow; the second, begun after a notice, would overtake it."""
    states = iter([[], [Relation("bob", "friends", None, "Bob")]])
    first, released = threading.Event(), threading.Event()

    def relations(_: object) -> list[Relation]:
        found = next(states)
        if not found:
            first.set()
            released.wait(5)
        return found

    deeds, told = deeds_of_ada(relations)
    readings = [threading.Thread(target=deeds.tell_people) for _ in range(2)]
    readings[0].start()
    assert first.wait(5)
    readings[1].start()
    readings[1].join(0.1)
    released.set()
    for one in readings:
        one.join(5)
    assert ["bob" in people.everybody for people in told] == [False, True]
