"""Two real servers, a bystander conversation on each, and a client that attacks from an address of its own."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.people import Bystanders, Person, people
from tests.servers import Aldis, running
from tests.wire import PATIENCE, Address, Client, connect

CONNECT_TIMEOUT = 3
SETTINGS = {
    "timeouts.connect": CONNECT_TIMEOUT,
    # the limits by address have tests of their own; here everything comes from one
    "limits.connections_per_second_per_address": 0,
    "limits.failed_connects_per_minute_per_address": 0,
    "limits.failed_connects_per_minute_per_user": 0,
    "limits.connections_per_second": 0,
}
_numbers = itertools.count(1)


class Talkers:
    """Two clients of a plain broker who talk all the time; asked, and judged, as `Bystanders` are."""

    def __init__(self, server: Aldis) -> None:
        self._listener = server.tcp().connected("talker-1").subscribed(("talk/talk", 1))
        self._speaker = server.tcp().connected("talker-2")
        self._said = 0
        self._slowest = 0.0
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        try:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                said = str(self._said + 1).encode()
                self._speaker.published("talk/talk", said)
                heard = self._listener.take()
                assert (heard.topic, heard.payload, heard.dup) == ("talk/talk", said, False)
                self._said += 1
                self._slowest = max(self._slowest, time.monotonic() - began)
        except BaseException as error:
            self._failure = error

    def check(self) -> None:
        goal, deadline = self._said + 3, time.monotonic() + PATIENCE
        while self._said < goal and self._failure is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self._failure is None, f"the bystanders' conversation broke: {self._failure!r}"
        assert self._said >= goal, "the bystanders' conversation stands still"
        assert self._slowest < 2.0, f"a bystander waited for {self._slowest:.1f} s"

    def end(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self._speaker.close()
        self._listener.close()


class Arena:
    """A server with its bystanders, and one user who may connect there: the attacker has an account, too."""

    def __init__(self, server: Aldis) -> None:
        self.server = server
        self.person: Person | None = None
        if server.has_accounts:
            (self.person,) = people(server, "mallory")
        self.bystanders: Bystanders | Talkers = Bystanders(server) if server.has_accounts else Talkers(server)
        self._opened: list[Client] = []

    @property
    def home(self) -> str:
        """Topics below it may be published and subscribed to."""
        return f"devices/{self.person.user}" if self.person is not None else "x"

    def connect(self, name: str, **options: Any) -> bytes:
        """CONNECT that is accepted."""
        if self.person is None:
            return connect(name, **options)
        return connect(name, user=self.person.user, password=self.person.token(name), **options)

    def dial(self) -> Client:
        self._opened.append(self.server.tcp())
        return self._opened[-1]

    def client(self, name: str = "one", **options: Any) -> Client:
        """A connected one. Few names, since a user has few devices."""
        client = self.dial()
        client.send(self.connect(name, **options))
        assert client.packet()[:2] == b"\x20\x02"
        return client

    def close(self) -> None:
        for client in self._opened:
            client.close()
        self._opened.clear()


def _arena(server: Aldis) -> Iterator[Arena]:
    made = Arena(server)
    yield made
    made.bystanders.end()


@pytest.fixture(scope="session")
def lab_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with running(tmp_path_factory.mktemp("lab"), "lab", SETTINGS) as server:
        yield from _arena(server)


@pytest.fixture(scope="session")
def embedded_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with running(tmp_path_factory.mktemp("embedded"), settings=SETTINGS) as server:
        yield from _arena(server)


def _in(arena: Arena) -> Iterator[Arena]:
    """After each test the server is up, has met no defect of its own, and the bystanders have gone on talking."""
    before = len(arena.server.log)
    yield arena
    arena.close()
    assert arena.server.alive
    arena.bystanders.check()
    assert "Traceback" not in arena.server.log[before:] and "internal error" not in arena.server.log[before:]


@pytest.fixture
def lab(lab_arena: Arena) -> Iterator[Arena]:
    yield from _in(lab_arena)


@pytest.fixture
def embedded(embedded_arena: Arena) -> Iterator[Arena]:
    yield from _in(embedded_arena)


@pytest.fixture(params=["lab", "embedded"])
def arena(request: pytest.FixtureRequest) -> Arena:
    """The same against both."""
    found: Arena = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def name() -> str:
    """A topic level that no other test uses."""
    return f"t{next(_numbers)}"


def raw(address: Address) -> socket.socket:
    """A TCP connection without any MQTT."""
    return socket.create_connection(address, timeout=PATIENCE)


def until(holds: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
