"""The chat without a terminal: lines in, lines out, an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from aldis.mobile_client_demo.bot import NotTaken
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.conversation import REASONS
from aldis.mobile_client_demo.terminal.engine import Engine
from aldis.mobile_client_demo.terminal.look import Look
from aldis.mobile_client_demo.terminal.state import Line

DONE, FAILED, NOT_LET_IN, WAITING = 0, 1, 2, 3
AHEAD = 500
"""Lines that are read before the server has answered the first of them."""


class _Left(Exception):
    """A signal came while we waited for a line."""


class Pipes:
    """`post` is for the engine; then `run`."""

    def __init__(self, me: str, to: str, *, listen: bool, as_json: bool, look: Look, out: TextIO) -> None:
        self._me, self._to, self._listen, self._json, self._look, self._out = me, to, listen, as_json, look, out
        self._changed = threading.Condition()
        self._entered = self._answered = self._failed = 0
        self._queued: set[str] = set()
        self._over = ""
        self._leave = self._reading = False
        self._deaf = False

    # From the engine, in any thread

    def post(self, event: e.Event) -> None:
        match event:
            case e.Arrived(peer, line, _) if self._listen and self._to in ("", peer):
                self._print(peer, line)
            case e.Queued(_, line) if self._entered:  # before that it is of an earlier run
                with self._changed:
                    self._queued.add(line.id)
            case e.Settled(peer, id, _, failed):
                self._settled(peer, id, failed)
            case e.NotQueued(why, _):
                self._complain(why)
                self._count(failed=True)
            case e.Over(why):
                with self._changed:
                    self._over = why
                    self._changed.notify_all()
            case e.Told(text, bad) if bad or self._listen:
                self._complain(text)

    def _settled(self, peer: str, id: str, failed: str) -> None:
        with self._changed:
            if id not in self._queued:
                return  # of an earlier run
            self._queued.discard(id)
        if failed:
            self._complain(f"{peer}: {REASONS.get(failed, failed)}")
        self._count(failed=bool(failed))

    def _count(self, *, failed: bool) -> None:
        with self._changed:
            self._answered += 1
            self._failed += failed
            self._changed.notify_all()

    def _print(self, peer: str, line: Line) -> None:
        """On its way out when it returns: only then it counts as taken."""
        try:
            self._out.write(self._as_json(peer, line) if self._json else self._as_text(peer, line))
            self._out.flush()
        except (OSError, ValueError) as error:
            with self._changed:
                self._deaf = self._leave = True
                self._changed.notify_all()
            raise NotTaken(f"nobody reads what arrives: {error}") from error

    def _as_text(self, peer: str, line: Line) -> str:
        said = line.text
        if line.problem:
            said = f"(cannot be read here: {line.problem})"
        elif line.file is not None:
            said = f"(file: {line.file.name}, {line.file.size} bytes)"
        elif line.kind != "text":
            said = f"({line.kind}) {said}"
        who = f"me to {peer}" if line.mine else peer
        text = self._look.lines(said).replace("\n", "\n    ")
        return f"{self._look.moment(line.ts):%Y-%m-%d %H:%M:%S} {self._look.line(who)}: {text}\n"

    def _as_json(self, peer: str, line: Line) -> str:
        """One line of ASCII, whatever is in it."""
        sender, recipient = (self._me, peer) if line.mine else (peer, self._me)
        row: dict[str, object] = {"from": sender, "to": recipient, "mid": line.mid, "ts": line.ts, "type": line.kind}
        if line.problem:
            row["problem"] = line.problem
        elif line.file is not None:
            row["file"] = {"name": line.file.name, "size": line.file.size, "mime": line.file.mime}
        else:
            row["body"] = line.text
        return json.dumps(row) + "\n"

    def _complain(self, text: str) -> None:
        print(f"aldis chat: {self._look.line(text)}", file=sys.stderr, flush=True)

    # In the main thread

    def run(self, engine: Engine, lines: Iterable[str], timeout: float) -> int:
        """Sends every line, and waits until each is answered, or nothing was for `timeout` seconds; with `listen` it
        goes on until SIGINT or SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop())
        if self._to:
            for text in self._read(lines):
                if self._over:
                    break
                if text.strip():
                    self._entered += 1
                    engine.perform(e.Send(self._to, text.rstrip("\r\n")))
                    self._wait(AHEAD, timeout)
            done = self._wait(0, timeout)
        else:
            done = True
        while self._listen and not self._leave and not self._over:
            with self._changed:
                self._changed.wait(0.5)
        return self._code(done)

    def _read(self, lines: Iterable[str]) -> Iterator[str]:
        """Until the end, or a signal: Python itself would go on waiting for the next line after one."""
        reading = iter(lines)
        while True:
            try:
                self._reading = True
                text = None if self._leave else next(reading, None)
                self._reading = False
            except _Left:
                return
            except UnicodeDecodeError as error:
                self._reading = False
                self._complain(f"the input is not {error.encoding}: {error.reason}")
                self._entered += 1
                self._count(failed=True)
                return
            if text is None:
                return
            yield text

    def _stop(self) -> None:
        self._leave = True  # the lock may be held by the very thread that the signal has interrupted
        if self._reading:
            self._reading = False
            raise _Left

    def _wait(self, most: int, timeout: float) -> bool:
        """Until at most so many lines are unanswered; whether that came about."""
        with self._changed:
            answered, since = self._answered, time.monotonic()
            while self._entered - self._answered > most and not self._over and not self._leave:
                self._changed.wait(0.5)
                if self._answered != answered:
                    answered, since = self._answered, time.monotonic()
                elif time.monotonic() - since > timeout:
                    return False
            return self._entered - self._answered <= most

    def _code(self, done: bool) -> int:
        if self._over:
            self._complain(f"{self._over}: log in again")
            return NOT_LET_IN
        if self._deaf:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())  # so that nothing more is said at the exit
            return FAILED
        if not done:
            left = self._entered - self._answered
            self._complain(f"no answer for {left} line{'s' * (left > 1)}: kept, and sent when aldis chat runs again")
            return WAITING
        return FAILED if self._failed else DONE
