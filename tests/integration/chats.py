"""`aldis chat` on a terminal of its own, for tests against a real server."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.servers import ALDIS, PASSWORD, Aldis
from tests.terminals import Terminal

CTRL_C, CTRL_L, CTRL_N, CTRL_X, ESCAPE = "\x03", "\x0c", "\x0e", "\x18", "\x1b"
PAGE_UP, PAGE_DOWN = "\x1b[5~", "\x1b[6~"


def words(server: Aldis, folder: Path, user: str, *more: str) -> list[str]:
    """Words that come again in `more` win."""
    scheme = "https" if server.authority else "http"
    places = ["--server", "{}://{}:{}".format(scheme, *server.http), "--mqtt", "{}:{}".format(*server.mqtt)]
    return [str(ALDIS), "chat", *places, "--user", user, "--data", str(folder / f"{user}-chat"), *more]


class SlowLine:
    """A way to a server that carries so many bytes in a second, in each direction; 0 for none at all."""

    def __init__(self, to: tuple[str, int], rate: int) -> None:
        self.rate, self._to = rate, to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # little is on its way unseen
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                one = self._listener.accept()[0]
                other = socket.socket()
                other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
                other.connect(self._to)
            except OSError:
                return
            for ways in ((one, other), (other, one)):
                threading.Thread(target=self._carry, args=ways, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(16_384):
                while not self.rate:
                    time.sleep(0.05)
                other.sendall(data)
                time.sleep(len(data) / self.rate if self.rate else 0)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (one, other):
                end.close()

    def close(self) -> None:
        self._listener.close()


class Chat(Terminal):
    """It is there when the connection is, unless `online` is False."""

    def __init__(
        self, server: Aldis, folder: Path, user: str, *more: str, columns: int = 100, rows: int = 30,
        environment: Mapping[str, str] | None = None, online: bool = True,
    ) -> None:  # fmt: skip
        given = {"CHAT_PASSWORD": PASSWORD, **(environment or {})}
        super().__init__(
            words(server, folder, user, *more), columns=columns, rows=rows, environment=given, folder=folder
        )
        self.user = user
        if online:
            self.comes_online()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def comes_online(self) -> None:
        """The contacts come a moment later."""
        self.shows("online")
        self.until(lambda: not self.text.startswith(f"{self.user} \u2013 1 contacts"), "the contacts")

    def open(self, user: str) -> None:
        self.type(f"/chat {user}\r")
        self.until(lambda: any(row.startswith(f"{user}>") for row in self.rows), f"the conversation with {user}")

    def say(self, text: str) -> None:
        self.type(text)
        self.until(lambda: any("> " in row and row.endswith(text[-20:]) for row in self.rows), f"{text!r} typed")
        self.type("\r")


def piped(
    server: Aldis, folder: Path, user: str, *more: str, text: str = "", password: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(server, folder, user, *more), input=text, capture_output=True, text=True, timeout=50, check=False,
        env=os.environ | {"CHAT_PASSWORD": password, "LANG": "C.UTF-8"}, start_new_session=True,
    )  # fmt: skip
