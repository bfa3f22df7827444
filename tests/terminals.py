"""A terminal for tests: a real pseudo-terminal, and a screen behind it that one can read (pyte)."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

PATIENCE = 20.0


class Terminal:
    """One program on a terminal of its own, as its controlling terminal, until `close`."""

    def __init__(
        self, words: list[str], *, columns: int = 100, rows: int = 30, environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = b""
        """Everything that the program has written."""
        self._master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self._size(columns, rows)
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "LC_ALL", "LC_CTYPE")}
        given = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **(environment or {})}
        self.process = subprocess.Popen(
            words, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=clean | given, cwd=folder,
            start_new_session=True, preexec_fn=self._take_terminal,  # noqa: PLW1509 - one system call, no lock
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _take_terminal(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            self.screen.resize(rows, columns)
            self._size(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def enter(self, text: str) -> None:
        self.type(text)
        self.until(lambda: text[-10:] in self.text, f"{text!r} in the input line")
        self.type("\r")

    @property
    def rows(self) -> list[str]:
        with self._lock:
            return [row.rstrip() for row in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def columns(self, start: int, end: int | None = None) -> list[str]:
        """A part of each row; what is two columns wide stands in both."""
        with self._lock:
            rows = range(self.screen.lines)
            cells = range(self.screen.columns)[start:end]
            return ["".join(self.screen.buffer[row][cell].data for cell in cells).rstrip() for row in rows]

    def row(self, part: str) -> str:
        """The row of the screen that contains it; empty where there is none."""
        return next((row for row in self.rows if part in row), "")

    def colour(self, part: str) -> str:
        """Of the last place on the screen where it stands; empty where it does not."""
        found = ""
        with self._lock:
            for number in range(self.screen.lines):
                row = self.screen.buffer[number]
                said = "".join(row[cell].data or "\0" for cell in range(self.screen.columns))
                if part in said.replace("\0", ""):
                    cells = [cell for cell in range(self.screen.columns) if row[cell].data]
                    found = str(row[cells[said.replace("\0", "").rindex(part)]].fg)
        return found

    def until(self, happened: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout:g} s\n{self.text}")
            time.sleep(0.03)

    def shows(self, *parts: str, timeout: float = PATIENCE) -> None:
        self.until(lambda: all(part in self.text for part in parts), f"{parts} on the screen", timeout)

    def shows_not(self, part: str) -> None:
        self.until(lambda: part not in self.text, f"{part!r} off the screen")

    def wait(self) -> int:
        """The exit code; all that was written has been read."""
        code = self.process.wait(PATIENCE)
        time.sleep(0.1)
        return code

    @property
    def is_clean(self) -> bool:
        """The program has put back whatever it had changed."""
        now = termios.tcgetattr(self.slave)
        modes = [b"\x1b[?1049", b"\x1b[?2004", b"\x1b[?1000", b"\x1b[?7"]
        off = all(self.raw.rfind(mode + b"l") >= self.raw.rfind(mode + b"h") for mode in modes[:3])
        return now == self.before and off and self.raw.rfind(b"\x1b[?25h") >= self.raw.rfind(b"\x1b[?25l")

    def hang_up(self) -> None:
        """As when a connection breaks: the kernel sends SIGHUP, and nothing can be written any more."""
        os.close(self.slave)
        os.close(self._master)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.slave, self._master):
            try:
                os.close(descriptor)
            except OSError:
                pass


def python(*words: object) -> list[str]:
    return [sys.executable, *map(str, words)]
