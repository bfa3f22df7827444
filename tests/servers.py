"""Real servers for tests: `aldis up` as a process of its own, that can be stopped, killed and started again.

Everything listens on free ports of 127.0.0.1, and every wait is bounded.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from aldis.config.settings import PROFILES
from scripts.processes import free_port
from tests.wire import PATIENCE, Address, Client, TcpStream, WebSocketStream

ALDIS = Path(sys.executable).with_name("aldis")
PASSWORD = "correct horse battery"


def environment(settings: Mapping[str, object] | None = None) -> dict[str, str]:
    """The environment of a server: ours without any `ALDIS_` variable, and these settings (`limits.max_inflight`)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}
    given = {f"ALDIS_{key.upper().replace('.', '__')}": str(value) for key, value in (settings or {}).items()}
    return clean | given


def profile(path: Path, base: str, plugins: Mapping[str, Mapping[str, Any]]) -> Path:
    """A shipped profile with other plugins, as a file."""
    document = yaml.safe_load((PROFILES / f"{base}.yaml").read_text())
    document["plugins"] = {name: dict(options) for name, options in plugins.items()}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _accounts_enabled(config: str | Path) -> bool:
    path = config if isinstance(config, Path) else PROFILES / f"{config}.yaml"
    return bool(yaml.safe_load(path.read_text()).get("accounts", {}).get("enabled", True))


class Aldis:
    """One server in one folder. It has the same ports after a restart."""

    def __init__(
        self,
        folder: Path,
        config: str | Path = "embedded",
        settings: Mapping[str, object] | None = None,
        data: Path | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self.settings = dict(settings or {})
        self.has_accounts = _accounts_enabled(config)
        self.ended = False
        self.mqtt: Address = ("127.0.0.1", free_port())
        self.ws: Address = ("127.0.0.1", free_port())
        self.http: Address = ("127.0.0.1", free_port())
        self.data = data or folder / "data"
        self.authority: Path | None = None
        """The CA certificate of a server that talks HTTPS."""
        self.process: subprocess.Popen[bytes]
        self._log = folder / "log"
        self._opened: dict[int, int] = {}
        """How much was logged when the latest client of this port was opened."""
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def command(self) -> list[str]:
        addresses = {"mqtt": self.mqtt, "ws": self.ws} | ({"http": self.http} if self.has_accounts else {})
        flags = [f"--{name}={host}:{port}" for name, (host, port) in addresses.items()]
        return [str(ALDIS), "up", "--config", str(self.config), "--data", str(self.data), *flags]

    def start(self) -> Aldis:
        """Returns when the server says that it is ready."""
        said = self.folder / "out"
        self.ended = False
        with said.open("wb") as out, self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=environment(self.settings), stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
        try:
            self._until_ready(said)
        except BaseException:  # the time limit of the whole test is one
            self.process.kill()
            self.process.wait()
            raise
        for scheme, host, port in re.findall(r"(mqtt|ws|http)s?://([\d.]+):(\d+)", said.read_text()):
            setattr(self, scheme, (host, int(port)))
        return self

    def _until_ready(self, said: Path) -> None:
        deadline = time.monotonic() + 30
        while not said.read_text().endswith("ready\n"):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
            assert time.monotonic() < deadline, f"not ready within 30 s:\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.ended = True
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: no last words."""
        self.ended = True
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """The exit code of a process that is about to end."""
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end:\n{self.log}") from None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def logged(self, pattern: str, count: int = 1, *, since: int = 0, timeout: float = PATIENCE) -> list[str]:
        """Waits until `count` lines of the log match, asserts that it is not more, and returns them. `since` leaves out
        what stood there when `len(log)` was that."""
        deadline = time.monotonic() + timeout
        while True:
            lines = [line for line in self.log[since:].splitlines() if re.search(pattern, line)]
            if len(lines) >= count or time.monotonic() > deadline:
                assert len(lines) == count, f"{len(lines)} lines match {pattern!r}:\n" + self.log[-4_000:]
                return lines
            time.sleep(0.02)

    def end_of(self, client: Client) -> str:
        """The one log line about the end of this client's connection. Only what was logged since it was opened counts:
        an earlier connection may have had the same port."""
        assert isinstance(client.stream, TcpStream)
        since = self._opened[client.stream.port]
        (line,) = self.logged(f"connection ended: .*address='127.0.0.1:{client.stream.port}'", since=since)
        return line

    def memory(self) -> int:
        """Bytes of memory that are this process's own."""
        return int(psutil.Process(self.process.pid).memory_full_info().uss)

    # Clients

    def tcp(self, *, receive_buffer: int | None = None) -> Client:
        return Client(self.stream(receive_buffer=receive_buffer))

    def stream(self, *, receive_buffer: int | None = None) -> TcpStream:
        """A connection whose end `end_of` finds in the log."""
        written = len(self.log)
        stream = TcpStream(self.mqtt, receive_buffer)
        self._opened[stream.port] = written
        return stream

    def websocket(self) -> Client:
        return Client(WebSocketStream(self.ws))

    # REST

    def rest(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One call; the decoded answer. A status of 400 and above raises `RestError`."""
        scheme, context = "http", None
        if self.authority is not None:
            scheme, context = "https", ssl.create_default_context(cafile=self.authority)
        request = urllib.request.Request(f"{scheme}://{self.http[0]}:{self.http[1]}{path}", method=method)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=20, context=context) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise RestError(error.code, error.read().decode(errors="replace")) from None
        return json.loads(content) if content else None

    def register(self, *users: str) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda user: self.rest("POST", "/v1/users", {"user_id": user, "password": PASSWORD}), users))

    def login(self, user: str, device: str) -> str:
        """The access token of a device: its MQTT password."""
        body = {"user_id": user, "password": PASSWORD, "device_id": device}
        return str(self.rest("POST", "/v1/login", body)["access_token"])

    def befriend(self, first: str, second: str) -> None:
        """Both have one device `setup` to do so, which is no inbox device: it never connects."""
        asking, asked = self.login(first, "setup"), self.login(second, "setup")
        self.rest("POST", "/v1/friend-requests", {"to": second}, asking)
        self.rest("POST", f"/v1/friend-requests/{first}/accept", token=asked)


class RestError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@contextmanager
def running(
    folder: Path,
    config: str | Path = "embedded",
    settings: Mapping[str, object] | None = None,
    data: Path | None = None,
) -> Iterator[Aldis]:
    """A server for the time of the block. It must still be alive at the end, unless the test itself has ended it, stop
    cleanly, and have met no defect of its own."""
    server = Aldis(folder, config, settings, data).start()
    try:
        yield server
        if not server.ended:
            assert server.alive, f"the server has died:\n{server.log}"
            assert server.stop() == 0, server.log
        assert "Traceback" not in server.log, server.log
    finally:
        if server.alive:
            server.process.kill()
            server.process.wait()
