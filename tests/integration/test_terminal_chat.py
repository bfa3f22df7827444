"""`aldis chat` as people use it: on pseudo-terminals, against a real `aldis up`, read off their screens."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aldis.mobile_client_demo.bot import Bot
from tests.integration.bots import friends, how, until
from tests.integration.chats import CTRL_C, CTRL_N, ESCAPE, PAGE_DOWN, PAGE_UP, Chat
from tests.servers import PASSWORD, Aldis, running

BLUE = ("blue", "brightblue", "5c5cff")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_two_people_talk_and_ticks_turn(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada) as first:
        first.open(bob)
        first.say("Grüße, 漢字 and 👍")
        first.until(lambda: re.search("👍.* ✓$", first.text, re.M), "one tick")
        with Chat(server, tmp_path, bob) as second:
            first.until(lambda: re.search("👍.* ✓✓$", first.text, re.M), "two ticks")
            assert first.colour("✓✓") not in BLUE, "delivered, and not read"
            first.shows(f"{bob} · online")
            second.until(lambda: re.search(rf"● {ada} +1$", "\n".join(second.columns(0, 28)), re.M), "one unread")
            second.open(ada)
            second.shows("Grüße, 漢字 and 👍", time.strftime("%-d %B %Y", time.gmtime()))
            first.until(lambda: first.colour("✓✓") in BLUE, "the ticks are blue")
            second.type("I am")
            first.shows("typing…")
            second.type(" here\r")
            first.shows("I am here")
            first.shows_not("typing…")
            second.type("two\x0alines\r")
            first.until(lambda: [row[-5:] for row in first.rows if row.endswith(("two", "lines"))], "two lines")
            second.type(CTRL_C)
            assert second.wait() == 0 and second.is_clean
        first.shows("last seen")


def test_someone_registers_without_an_echo_and_makes_a_friend(server: Aldis, tmp_path: Path) -> None:
    server.register("gina")
    nothing = {"CHAT_PASSWORD": ""}
    with Chat(server, tmp_path, "newcomer", "--register", environment=nothing, online=False) as new:
        for prompt in ("New password of newcomer: ", "The same again: "):
            new.shows(prompt.strip())
            new.type(f"{PASSWORD}\r")
        new.shows("● online")
        assert PASSWORD.encode() not in new.raw
        new.say("/add gina")
        new.shows("gina was asked", "asked, no answer yet")
        with Chat(server, tmp_path, "gina") as gina:
            gina.shows("wants to be a friend: /accept")
            gina.type("/accept\r")
            gina.shows("newcomer is a friend now")
            new.shows("gina is a friend now")
            new.open("gina")
            new.say("thank you")
            gina.shows("thank you")
    account = next((tmp_path / "newcomer-chat").rglob("login.json"))
    assert account.stat().st_mode & 0o077 == 0


def test_a_file_goes_there_and_back(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    (tmp_path / "my photo.jpg").write_bytes(os.urandom(3_000_000))
    with Chat(server, tmp_path, ada) as first, Chat(server, tmp_path, bob) as second:
        first.open(bob)
        first.type("/send my\t")
        first.shows("/send my photo.jpg")
        first.type("\r")
        second.open(ada)
        second.shows("[1] my photo.jpg, 3.0 MB – /save 1")
        first.until(lambda: re.search(r"my photo.jpg, 3.0 MB ✓✓", first.text), "two ticks")
        second.type("/save 1 got.jpg\r")
        second.shows("saved as got.jpg")
        second.type("/send got.jpg\r")
        first.shows("[2] got.jpg")
        first.type(f"/save 2 {tmp_path}/back.jpg\r")
        first.shows("saved as")
    sums = {
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("my photo.jpg", "got.jpg", "back.jpg")
    }
    assert len(sums) == 1
    assert not list(tmp_path.glob("*.part"))


def test_the_history_is_loaded_on_the_way_up(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Bot(**how(server, tmp_path, bob)) as bot:
        for number in range(130):
            bot.send(ada, f"message {number:03}", encrypted=number % 2 == 0)
        until(lambda: not bot.waiting())
    with Bot(**how(server, tmp_path, ada)) as other:  # takes it all, so that a new device has to ask
        until(lambda: other._core._disk.handled >= 130)
    with Chat(server, tmp_path, ada) as chat:
        chat.open(bob)
        chat.shows("message 129")
        for _ in range(40):
            chat.type(PAGE_UP)
            time.sleep(0.1)
            if "message 000" in chat.text:
                break
        chat.shows("message 000", "scrolled back")
        numbers = [int(row[-3:]) for row in chat.columns(29) if "message" in row]
        assert numbers == [*range(len(numbers))] and len(numbers) > 20
        for _ in range(40):
            chat.type(PAGE_DOWN)
            if "message 129" in chat.text:
                break
            time.sleep(0.05)
        chat.shows("message 129")


def test_another_size_and_one_pane_on_40_columns(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada, columns=40, rows=12) as chat, Bot(**how(server, tmp_path, bob)) as bot:
        assert "│" not in chat.text and bob in chat.text, "the list alone"
        bot.send(ada, "word " * 20)
        chat.until(lambda: chat.row(bob).rstrip().endswith("1"), "one unread")
        chat.type("\x1b[B")
        chat.type("\x1b[A")
        chat.type("\r")
        chat.shows(f"{bob}>", "word word")
        assert all(len(row) <= 40 for row in chat.rows) and len([row for row in chat.rows if "word" in row]) > 2
        chat.type(ESCAPE)
        chat.shows("notes to yourself")
        chat.type(ESCAPE)
        chat.resize(110, 35)
        chat.shows("│", "notes to yourself", "word word")
        chat.resize(40, 8)
        chat.shows_not("│")
        chat.shows("word word", "● online")
        chat.type("x" * 90)
        chat.until(lambda: chat.text.count("x") > 50, "the input is wrapped")
        chat.resize(20, 4)
        chat.resize(100, 30)
        chat.shows("notes to yourself", "x" * 60)


HOSTILE = (
    "\x1b[2J\x1b[31mred\x07", "\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07", "\x9b2J\x90q\x9c", "a\rb\bc\x00d\x7f",
    "abc\u202efdp.exe", "pay\u200bpal\ufeff", "Z" + "\u0300" * 40, "\ud83d\ude00 👩\u200d👧 🇩🇪", "\u2066x\u2069\u061c",
    "x" * 5_000, "漢" * 300, "\n" * 50 + "end of lines",
)  # fmt: skip


FORBIDDEN = "\x1b\\[2J|\x1b\\]|[\x07\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"


def test_hostile_texts_and_names_change_nothing_but_the_text(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    token = server.login(bob, "tool")
    with Chat(server, tmp_path, ada) as chat, Bot(**how(server, tmp_path, bob)) as bot:
        chat.open(bob)
        sent = [text.encode("utf-16", "surrogatepass").decode("utf-16") for text in HOSTILE]
        for text in sent:
            before = chat.raw
            bot.send(ada, text).read.wait(20)
            time.sleep(0.2)
            new = chat.raw[len(before) :]
            assert not re.search(FORBIDDEN, new.decode(errors="ignore")), ascii(text)
            assert chat.rows[0].startswith(f"{ada} ") and "● online" in chat.text
            assert set(chat.columns(28, 29)[:20]) == {"│"}, chat.text
        bot.send(ada, {"body": "\x1b[2J"}, type="\x1b[2Jkind").read.wait(20)
        bad = {
            "file_id": "../../x",
            "name": "../\x1b[2J.bashrc",
            "mime": "x",
            "size": 3,
            "stored": 3,
            "sha256": "0" * 64,
        }
        bot.send(ada, __import__("json").dumps(bad), type="file").read.wait(20)
        chat.shows("[1] �[2J.bashrc")
        chat.type("/save 1\r")
        chat.shows("it is not there any more")
        assert b"\x1b[2Jkind" not in chat.raw and b"\x1b[2J.bash" not in chat.raw
    server.rest("GET", "/v1/account", token=token)
    assert not (tmp_path / ".bashrc").exists()


@pytest.mark.parametrize("kind", ["ascii", "no colours", "16 colours"])
def test_poor_terminals(server: Aldis, tmp_path: Path, kind: str) -> None:
    ada, bob = friends(server)
    environment = {
        "ascii": {"LC_ALL": "C"}, "no colours": {"NO_COLOR": "1"}, "16 colours": {"TERM": "linux"}
    }[kind]  # fmt: skip
    with Chat(server, tmp_path, ada, environment=environment) as chat, Bot(**how(server, tmp_path, bob)) as bot:
        bot.on_message(bot.read)
        chat.open(bob)
        chat.say("can you see it")
        chat.until(lambda: chat.colour("can you see it") and "see it" in chat.text, "the text")
        if kind == "ascii":
            chat.shows("see it ++ read", "* online")
            assert chat.raw.isascii()
        elif kind == "no colours":
            chat.shows("see it ✓✓ read")
            assert not re.search(rb"\x1b\[[0-9;]*[349]\d(;|m)", chat.raw)
        else:
            chat.until(lambda: chat.colour("✓✓") in BLUE, "blue")
            assert b"38;5" not in chat.raw and b"38;2" not in chat.raw
        chat.type(CTRL_C)
        assert chat.wait() == 0 and chat.is_clean


def test_commands_about_people_devices_and_keys(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada) as chat, Bot(**how(server, tmp_path, bob)) as bot:
        chat.open(bob)
        chat.type("/rotate\r")
        chat.shows(f"the key with {bob} is now version 2")
        chat.type("/devices\r")
        chat.shows("Your devices", "this one, logged in", "setup")
        chat.type(ESCAPE)
        chat.type("/kick setup\r")
        chat.shows("setup is logged out and removed")
        chat.type("/block\r")
        chat.shows(f"{bob} is blocked")
        chat.say("not now")
        chat.shows("you have blocked this person: /unblock", "> not now")
        chat.type(CTRL_C)
        chat.type("/unblock\r")
        chat.shows("is not blocked any more")
        bot.register_key()
        chat.type("/seal\r")
        chat.shows("it is sealed when")
        chat.type("/verify\r")
        chat.shows("Safety number with")
        number = bot.safety_number(ada)
        assert number.split()[0] in chat.text and number.split()[-1] in chat.text
        chat.type(ESCAPE)
        bot.confirm(ada, number)
        chat.type(f"/verify {number}\r")
        chat.shows("are confirmed")
        assert bot.seal(ada)
        chat.type("/seal\r")
        chat.shows("is sealed")
        got: list[str] = []
        bot.on_message(lambda message: got.append(message.body))
        chat.say("for us alone")
        until(lambda: got == ["for us alone"])
        assert bot.send(ada, "sealed answer", encrypted=True).content["enc"]["v"] == 3
        chat.shows("sealed answer")
        with Bot(**how(server, tmp_path, bob, "new")) as unknown:
            unknown.register_key()
            bot.confirm(ada, bot.safety_number(ada))
            chat.shows("compare the safety number")
        chat.type("/remove\r")
        chat.shows("is no friend any more")


def test_notes_to_oneself_and_copies_from_other_devices(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with (
        Chat(server, tmp_path, ada) as chat, Chat(server, tmp_path, ada, "--data", str(tmp_path / "b")) as other,
        Bot(**how(server, tmp_path, bob)) as bot,
    ):  # fmt: skip
        handle = bot.send(ada, "to both")
        chat.shows("to both")
        other.shows("to both")
        other.open(bob)
        handle.read.wait(20)
        other.say("from the other")
        chat.shows("me: from the other")
        chat.until(lambda: "unread" not in chat.text, "read on the other device")
        chat.type(CTRL_N)
        chat.type(f"/chat {ada}\r")
        chat.say("remember the milk")
        other.shows("remember the milk")
