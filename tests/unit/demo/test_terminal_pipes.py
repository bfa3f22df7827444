"""Lines in and out without a server: when the reading ends, what counts as answered, and what is said to a terminal."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from aldis.mobile_client_demo.rest import Refused
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal import main as chat
from aldis.mobile_client_demo.terminal.look import Look
from aldis.mobile_client_demo.terminal.pipes import DONE, FAILED, WAITING, Pipes
from aldis.mobile_client_demo.terminal.state import Line


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield Pipes("ada", "bob", listen=False, as_json=False, look=Look(), out=io.StringIO())
    for number, handler in handlers:
        signal.signal(number, handler)


class Engine:
    """Takes every line, and `answers` it if it may."""

    def __init__(self, pipes: Pipes, *, answers: bool = True) -> None:
        self.pipes, self.answers, self.sent = pipes, answers, list[str]()

    def perform(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.Send)
        self.sent.append(effect.text)
        id = f"p-{len(self.sent)}"
        self.pipes.post(e.Queued("bob", Line(f"o{id}", True, 1, effect.text, id=id)))
        if self.answers:
            self.pipes.post(e.Settled("bob", id, len(self.sent)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_for_a_line(pipes: Pipes, number: int) -> None:
    """As at a keyboard, or behind a program that says nothing now."""
    read, write = os.pipe()
    os.write(write, b"one\n")
    engine = Engine(pipes)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), number))
    unstuck = threading.Timer(8, lambda: os.write(write, b"two\n"))
    timer.start()
    unstuck.start()
    with open(read, encoding="utf-8") as lines:
        assert pipes.run(engine, lines, 5) == DONE  # type: ignore[arg-type]
    assert unstuck.is_alive(), "only the next line ended it"
    unstuck.cancel()
    os.close(write)
    assert engine.sent == ["one\n".strip()]


def test_what_an_earlier_run_has_left_answers_no_line_of_this_one(pipes: Pipes) -> None:
    pipes.post(e.Queued("bob", Line("oold-1", True, 1, "old", id="old-1")))
    pipes.post(e.Settled("bob", "old-1", 7))
    assert pipes.run(Engine(pipes, answers=False), ["new\n"], 0.6) == WAITING  # type: ignore[arg-type]


def test_input_that_is_no_text_is_said_and_is_a_failure(pipes: Pipes, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(pipes)
    lines = io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8")
    assert pipes.run(engine, lines, 5) == FAILED  # type: ignore[arg-type]
    assert engine.sent == [] and "not utf-8" in capsys.readouterr().err


def test_a_servers_words_move_no_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise Refused("POST /v1/login", 401, "no", "\x1b]0;root\x07\x1b[2J\x9b1A\u202e", True)

    account = SimpleNamespace(user="ada", device="tty", keep=None)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setattr(chat, "_chat", lambda _: chat._logged_in(SimpleNamespace(login=refuse), account, "x"))
    assert chat.main([]) == chat.WRONG
    monkeypatch.setattr(chat, "_chat", refuse)
    assert chat.main([]) == chat.FAILED
    said = capsys.readouterr().err
    assert "is not let in" in said and not set(said) & set("\x1b\x07\x9b\u202e")
