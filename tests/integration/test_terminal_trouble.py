"""`aldis chat` when something goes wrong: servers killed, logins ended, disks full, files broken, terminals gone."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aldis.mobile_client_demo.bot import Bot
from tests.integration.bots import friends, how, own_server
from tests.integration.chats import CTRL_C, CTRL_X, Chat, SlowLine, piped, words
from tests.secure import Papers
from tests.servers import PASSWORD, Aldis, running
from tests.terminals import Terminal

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def account_of(folder: Path, user: str) -> Path:
    (login,) = (folder / f"{user}-chat").rglob("login.json")
    return login.parent


def test_the_server_is_killed_in_mid_conversation(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        with Chat(server, tmp_path, "ada") as first, Chat(server, tmp_path, "echo") as second:
            first.open("echo")
            second.open("ada")
            first.say("before")
            second.shows("before")
            server.kill()
            first.shows("○ offline", "next try in")
            for text in ("one", "two", "three"):
                first.say(text)
            second.say("from the other side")
            first.shows("3 waiting to be sent", "three …")
            server.start()
            second.shows("three", timeout=60)
            first.shows("from the other side", timeout=60)
            first.until(lambda: re.search("three ✓✓", first.text), "ticks")
            said = [row.split()[-1] for row in second.columns(29) if re.match(r"\d\d:\d\d ada", row)]
            assert said == ["before", "one", "two", "three"], "each once, in order"
        page = server.rest("GET", "/v1/messages?peer=echo&after=0", token=server.login("ada", "check"))
        assert len(page["messages"]) == 5
        server.stop()


def test_killed_with_messages_in_the_outbox_while_the_server_is_gone(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        with Chat(server, tmp_path, "ada") as chat:
            chat.open("echo")
            chat.say("early")
            chat.until(lambda: "early ✓" in chat.text, "the tick")
        server.kill()
        with Chat(server, tmp_path, "ada", online=False) as chat:
            chat.shows("○ offline", "echo")
            chat.open("echo")
            chat.shows("early ✓")
            chat.say("written offline")
            chat.shows("written offline …", "waiting to be sent")
            chat.process.kill()
        with Chat(server, tmp_path, "ada", online=False) as chat:
            chat.shows("○ offline")
            chat.open("echo")
            chat.shows("written offline …")
            server.start()
            chat.until(lambda: "written offline ✓" in chat.text, "the tick", timeout=60)
        page = server.rest("GET", "/v1/messages?peer=echo&after=0", token=server.login("ada", "check"))
        assert len(page["messages"]) == 2, "once"
        server.stop()


def test_no_server_at_the_first_start(server: Aldis, tmp_path: Path) -> None:
    nobody = ("--server", "http://127.0.0.1:1", "--mqtt", "127.0.0.1:1")
    done = piped(server, tmp_path, "ada", "--to", "bob", *nobody, text="x\n")
    assert done.returncode == 1 and "does not answer" in done.stderr and "Traceback" not in done.stderr


def test_a_device_that_was_kicked_logs_in_again_and_goes_on(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada, environment={"CHAT_PASSWORD": ""}, online=False) as chat:
        chat.shows(f"Password of {ada}:")
        chat.type(f"{PASSWORD}\r")
        chat.comes_online()
        chat.open(bob)
        device = account_of(tmp_path, ada).name
        token = server.login(ada, "other")
        server.rest("DELETE", f"/v1/devices/{device}", token=token)
        chat.shows("is over", "to log in again:")
        assert chat.is_clean or chat.raw.endswith(b": "), "the password is asked for on the normal screen"
        chat.type(f"{PASSWORD}\r")
        chat.comes_online()
        chat.open(bob)
        chat.say("still me")
        chat.until(lambda: "still me ✓" in chat.text, "the tick")
        assert PASSWORD.encode() not in chat.raw


def test_an_access_token_that_has_expired_is_renewed_from_the_kept_login(tmp_path: Path) -> None:
    with running(tmp_path / "server", settings={"accounts.access_token_lifetime": 2}) as server:
        ada, bob = friends(server)
        with Chat(server, tmp_path, ada) as chat:
            chat.type(CTRL_C)
            chat.wait()
        time.sleep(2.5)
        first = (account_of(tmp_path, ada) / "login.json").read_text()
        with Chat(server, tmp_path, ada, environment={"CHAT_PASSWORD": "wrong, and never asked for"}) as chat:
            chat.open(bob)
            chat.say("hello")
            chat.until(lambda: "hello ✓" in chat.text, "the tick")
        assert (account_of(tmp_path, ada) / "login.json").read_text() != first


def test_a_second_chat_on_the_same_files(server: Aldis, tmp_path: Path) -> None:
    ada, _ = friends(server)
    with Chat(server, tmp_path, ada):
        done = piped(server, tmp_path, ada, "--listen")
        assert done.returncode == 1 and re.search(r"another aldis chat \(process \d+\) is running as", done.stderr)
        assert "Traceback" not in done.stderr


def test_a_full_disk_takes_nothing_and_loses_nothing(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada) as chat, Bot(**how(server, tmp_path, bob)) as bot:
        chat.open(bob)
        chat.say("fits")
        chat.until(lambda: "fits ✓" in chat.text, "the tick")
        process = psutil.Process(chat.process.pid)
        process.rlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        chat.say("does not fit")
        chat.shows("not taken: the disk is full", "> does not fit")
        handle = bot.send(ada, "while it is full")
        chat.shows("trying again")
        assert not handle.delivered
        process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        handle.delivered.wait(40)
        chat.shows("while it is full", "● online")
        chat.type("\r")
        chat.until(lambda: re.search("does not fit ✓", chat.text), "the tick")
        assert "\n".join(chat.columns(29)).count("while it is full") == 1


@pytest.mark.parametrize("name", ["login.json", "outbox.db", "messages.db", "device.json", "last.json"])
def test_files_that_are_broken(server: Aldis, tmp_path: Path, name: str) -> None:
    ada, bob = friends(server)
    with Chat(server, tmp_path, ada) as chat:
        chat.open(bob)
        chat.say("said before")
        chat.until(lambda: "said before ✓" in chat.text, "the tick")
        chat.type(CTRL_C)
        chat.wait()
    (broken,) = (tmp_path / f"{ada}-chat").rglob(name)
    for end in ("-wal", "-shm"):
        broken.with_name(name + end).unlink(missing_ok=True)
    broken.write_bytes(b"not at all what it was" * 400)
    with Chat(server, tmp_path, ada) as chat:
        chat.until(lambda: list(broken.parent.glob(f"{name}.broken-*")), "the file is put aside")
        chat.open(bob)
        chat.shows("said before")
        chat.say("said after")
        chat.until(lambda: "said after ✓" in chat.text, "the tick")


@pytest.mark.parametrize("end", ["ctrl-c", "term", "hup", "crash", "closed"])
def test_the_terminal_is_left_as_it_was(server: Aldis, tmp_path: Path, end: str) -> None:
    ada, _ = friends(server)
    if end == "crash":
        program = (
            "import sys\nfrom aldis.mobile_client_demo.terminal import main, screen\nwhole = screen.upper\n"
            "def upper(state, *more):\n    if state.notices: raise LookupError('on purpose')\n"
            "    return whole(state, *more)\nscreen.upper = upper\nsys.exit(main.main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, *words(server, tmp_path, ada)[2:]]
        chat = Terminal(command, environment={"CHAT_PASSWORD": PASSWORD})
        chat.shows("Ctrl-C leave")
    else:
        chat = Chat(server, tmp_path, ada)
    try:
        if end == "ctrl-c":
            chat.type("half a text")
            chat.shows("half a text")
            chat.type(CTRL_C)
            chat.shows_not("half a text")
            chat.type(CTRL_C)
        elif end == "crash":
            chat.type("/nonsense\r")
        else:
            chat.process.send_signal(signal.SIGTERM if end == "term" else signal.SIGHUP)
        code = chat.wait()
        assert chat.is_clean, chat.raw[-300:]
        assert code == (1 if end == "crash" else 0)
        if end == "crash":
            assert "LookupError: on purpose" in chat.text and "Press ENTER" not in chat.text
    finally:
        chat.close()


def test_a_terminal_that_is_gone(server: Aldis, tmp_path: Path) -> None:
    ada, _ = friends(server)
    chat = Chat(server, tmp_path, ada)
    chat.hang_up()
    assert chat.process.wait(20) in (0, 1)
    log = (account_of(tmp_path, ada) / "log").read_text()
    assert "Traceback" not in log, log
    kept = sqlite3.connect(account_of(tmp_path, ada) / "outbox.db")
    assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept.close()


def test_a_transfer_shows_a_bar_is_cancelled_and_goes_on_where_it_stopped(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    content = os.urandom(2_000_000)
    (tmp_path / "film.mp4").write_bytes(content)
    slow = SlowLine(server.http, 400_000)
    way = ("--server", "http://{}:{}".format(*slow.address))
    with Chat(server, tmp_path, ada, *way) as first, Chat(server, tmp_path, bob, *way) as second:
        second.open(ada)
        first.open(bob)
        first.type("/send film.mp4\r")
        first.shows("↑ film.mp4", "█░", "of 2.0 MB", "%")
        first.type(CTRL_X)
        first.shows("film.mp4: cancelled")
        first.shows_not("█░")
        slow.rate = 100_000_000
        first.type("/send film.mp4\r")
        second.shows("[1] film.mp4")
        slow.rate = 400_000
        (tmp_path / "taken").mkdir()
        second.type("/save 1 taken\r")
        second.until(lambda: re.search(r"↓ film.mp4.* [2-9]\d% ", second.text), "a third")
        second.type("/cancel\r")
        second.shows("goes on where it stopped")
        (part,) = (tmp_path / "taken").glob("film.mp4.*.part")
        had = part.stat().st_size
        slow.rate = 100_000_000
        second.type("/save 1 taken\r")
        second.shows("saved as")
        assert (tmp_path / "taken" / "film.mp4").read_bytes() == content and not part.exists() and had > 100_000
    slow.close()


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    with running(tmp_path / "server", settings=papers.settings("listeners.default", "http")) as server:
        server.authority = papers.ca
        ada, bob = friends(server)
        with Chat(server, tmp_path, ada, "--cafile", str(papers.ca)) as chat:
            chat.open(bob)
            chat.say("over TLS")
            chat.until(lambda: "over TLS ✓" in chat.text, "the tick")
        done = piped(server, tmp_path, ada, "--device", "other", "--cafile", str(ROOT / "README.md"), "--to", bob)
        assert done.returncode == 2 and "no certificate" in done.stderr
        done = piped(server, tmp_path / "untrusting", ada, "--to", bob, text="x")
        assert done.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_the_server_does_not_import_it() -> None:
    program = (
        "import sys, aldis.broker.cli, aldis.broker.compose, aldis.accounts_api.app\n"
        "print([name for name in ('prompt_toolkit', 'paho', 'aldis.mobile_client_demo') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
