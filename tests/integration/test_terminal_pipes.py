"""`aldis chat` without a terminal: lines in, lines out, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aldis.mobile_client_demo.bot import Bot
from tests.integration.bots import bodies, collecting, friends, how, own_server, until
from tests.integration.chats import piped, words
from tests.servers import PASSWORD, Aldis, running

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def listening(server: Aldis, folder: Path, user: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words(server, folder, user, "--listen", *more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"CHAT_PASSWORD": PASSWORD, "LANG": "C.UTF-8"},
    )  # fmt: skip


def test_every_line_is_sent_once_and_in_order(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Bot(**how(server, tmp_path, bob)) as bot:
        got = collecting(bot)
        lines = [f"line {number} 漢" for number in range(60)]
        done = piped(server, tmp_path, ada, "--to", bob, text="\n".join(lines) + "\n\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        until(lambda: len(got) == 60)
        assert bodies(got) == lines and all(message.encrypted for message in got)


def test_a_line_that_is_refused_is_an_exit_code(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    stranger = piped(server, tmp_path, ada, "--to", "nobody", text="x\n")
    assert stranger.returncode == 1 and "not taken" in stranger.stderr and "Traceback" not in stranger.stderr
    wrong = piped(server, tmp_path, bob, "--to", ada, text="x\n", password="wrong")
    assert wrong.returncode == 2 and "is not let in" in wrong.stderr and "wrong\n" not in wrong.stderr
    nobody = piped(server, tmp_path, bob, "--to", ada, text="x\n", password="")
    assert nobody.returncode == 2 and "set CHAT_PASSWORD" in nobody.stderr
    assert piped(server, tmp_path, ada).returncode == 2, "a full screen needs a terminal"


def test_what_could_not_be_sent_waits_for_the_next_time(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        assert piped(server, tmp_path, "ada", "--to", "echo", text="first\n").returncode == 0
        server.kill()
        late = piped(server, tmp_path, "ada", "--to", "echo", "--timeout", "2", text="second\nthird\n")
        assert late.returncode == 3 and "no answer for 2 lines: kept" in late.stderr
        server.start()
        with Bot(**how(server, tmp_path, "echo")) as bot:
            got = collecting(bot)
            assert piped(server, tmp_path, "ada", "--to", "echo", text="fourth\n").returncode == 0
            until(lambda: bodies(got) == ["first", "second", "third", "fourth"])
        server.stop()


def test_what_arrives_is_printed_and_then_acknowledged(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Bot(**how(server, tmp_path, bob)) as bot:
        first = bot.send(ada, "two\nlines \x1b[2J\u202e", encrypted=True)
        second = bot.send(ada, {"level": 3}, "alert")
        listener = listening(server, tmp_path, ada)
        assert listener.stdout is not None and listener.stderr is not None
        said = [listener.stdout.readline() for _ in range(3)]
        assert said[0].endswith(f" {bob}: two\n") and said[1] == "    lines �[2J�\n"
        assert said[2].endswith(f'{bob}: (alert) {{"level": 3}}\n')
        first.delivered.wait(20)
        second.delivered.wait(20)
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(20) == 0 and "Traceback" not in listener.stderr.read()
        listener = listening(server, tmp_path, ada, "--json")
        assert listener.stdout is not None
        bot.send(ada, "ü\x1b")
        row = listener.stdout.readline()
        assert row.isascii() and "\x1b" not in row
        answer = json.loads(row)
        assert (answer["from"], answer["to"], answer["type"], answer["body"]) == (bob, ada, "text", "ü\x1b")
        listener.send_signal(signal.SIGINT)
        assert listener.wait(20) == 0


def test_what_nobody_has_read_comes_again(server: Aldis, tmp_path: Path) -> None:
    ada, bob = friends(server)
    with Bot(**how(server, tmp_path, bob)) as bot:
        listener = listening(server, tmp_path, ada, "--json")
        assert listener.stdout is not None and listener.stderr is not None
        bot.send(ada, "one").delivered.wait(20)
        listener.stdout.close()
        second = bot.send(ada, "two")
        assert listener.wait(20) == 1 and "Traceback" not in listener.stderr.read()
        assert not second.delivered
        again = listening(server, tmp_path, ada, "--json")
        assert again.stdout is not None
        assert json.loads(again.stdout.readline())["body"] == "two"
        second.delivered.wait(20)
        again.terminate()
        assert again.wait(20) == 0
