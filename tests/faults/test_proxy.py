"""The proxies do what the faults ask of them, with real bytes between real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import COMMIT, Commits, ProxyProcess

WAIT = 5.0


class Echo:
    """A server that says back what it hears. `heard` is all of it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.heard += data
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def proxies() -> Iterator[ProxyProcess]:
    process = ProxyProcess()
    yield process
    process.end()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def port(proxies: ProxyProcess, echo: Echo) -> Iterator[int]:
    yield proxies.open("line", echo.address, mysql=True)
    proxies.order("refuse", "line")


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def said(connection: socket.socket, data: bytes) -> bytes:
    """What is answered to it."""
    connection.sendall(data)
    return heard(connection, len(data))


def heard(connection: socket.socket, length: int) -> bytes:
    answer = b""
    while len(answer) < length and (part := connection.recv(length - len(answer))):
        answer += part
    return answer


def silent(connection: socket.socket, seconds: float = 0.3) -> bool:
    connection.settimeout(seconds)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(WAIT)


def ends(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_passes_what_it_gets(port: int) -> None:
    with dial(port) as connection:
        assert said(connection, b"x" * 300_000) == b"x" * 300_000


@pytest.mark.parametrize("way", ["both", "up", "down"])
def test_a_black_hole_holds_what_is_sent(proxies: ProxyProcess, echo: Echo, port: int, way: str) -> None:
    with dial(port) as connection:
        assert said(connection, b"before") == b"before"
        proxies.order("hole", "line", way=way)
        connection.sendall(b"during")
        assert silent(connection)
        assert (b"during" in echo.heard) == (way == "down")
        proxies.order("pass", "line")
        assert heard(connection, 6) == b"during"


def test_an_end_does_not_get_out_of_a_black_hole(proxies: ProxyProcess, echo: Echo, port: int) -> None:
    connection = dial(port)
    assert said(connection, b"before") == b"before"
    proxies.order("hole", "line")
    connection.sendall(b"last words")
    connection.close()
    time.sleep(0.2)
    assert b"last words" not in echo.heard
    proxies.order("pass", "line")
    deadline = time.monotonic() + WAIT
    while b"last words" not in echo.heard:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_latency_keeps_the_order(proxies: ProxyProcess, port: int) -> None:
    proxies.order("weather", "line", delay=0.1, jitter=0.1)
    with dial(port) as connection:
        begun = time.monotonic()
        for number in range(20):
            connection.sendall(b"%03d" % number)
            time.sleep(0.005)
        assert heard(connection, 60) == b"".join(b"%03d" % number for number in range(20))
        assert 0.2 < time.monotonic() - begun < WAIT


def test_a_narrow_line(proxies: ProxyProcess, port: int) -> None:
    proxies.order("weather", "line", rate=50_000)
    with dial(port) as connection:
        begun = time.monotonic()
        assert said(connection, b"x" * 20_000) == b"x" * 20_000
        assert time.monotonic() - begun > 0.4


def test_a_reset(proxies: ProxyProcess, port: int) -> None:
    with dial(port) as connection:
        assert said(connection, b"before") == b"before"
        proxies.order("reset", "line")
        assert ends(connection)
    with dial(port) as connection:
        assert said(connection, b"after") == b"after"


def test_a_cut_in_the_middle_of_a_packet(proxies: ProxyProcess, echo: Echo, port: int) -> None:
    with dial(port) as connection:
        proxies.order("tear", "line")
        connection.sendall(b"first half, second half!")
        assert ends(connection)
    assert echo.heard in (b"", b"first half, ")


def test_new_connections_are_refused(proxies: ProxyProcess, port: int) -> None:
    with dial(port) as connection:
        assert said(connection, b"before") == b"before"
        proxies.order("refuse", "line")
        with pytest.raises(ConnectionRefusedError):
            dial(port)
        assert said(connection, b"still") == b"still"
    proxies.order("pass", "line")
    with dial(port) as connection:
        assert said(connection, b"after") == b"after"


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


def test_the_answer_to_a_commit_is_lost(proxies: ProxyProcess, echo: Echo, port: int) -> None:
    with dial(port) as connection:
        proxies.order("lose_commits", "line")
        query = packet(b"\x03SELECT 'COMMIT'")
        assert said(connection, query) == query
        connection.sendall(packet(COMMIT))
        assert ends(connection)
    assert echo.heard.endswith(packet(COMMIT)), "it went through"
    assert proxies.order("pass", "line")["lost"] == 1


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_a_commit_is_found_however_it_is_cut(size: int) -> None:
    stream = packet(b"\x03INSERT COMMIT") + packet(COMMIT) + packet(b"\x03" + b"x" * 500) + packet(b"\x03commit")
    commits = Commits()
    parts = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert sum(commits.see(part) for part in parts) == (2 if size < 500 else 1)
