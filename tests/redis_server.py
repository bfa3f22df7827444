"""A real Redis for tests: a process in a temporary folder, that can be stopped, killed, paused and started again."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PASSWORD = "s3cret word/@:%"
"""For servers that want one: every character that a URL must escape."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class RedisProcess:
    """One server. Its port and folder stay the same over restarts.

    Nothing is kept over a restart, unless `appendfsync` (always, everysec, no) asks for an append-only file. With a
    `password` it answers nobody else. `options` are added to its command line, as in `--maxmemory`, `10mb`.
    """

    def __init__(
        self, folder: Path, *options: str, appendfsync: str | None = None, password: str | None = None
    ) -> None:
        self.folder = folder
        self.port = _free_port()
        self.socket = folder / "socket"
        self.password = password
        self.process: subprocess.Popen[bytes] | None = None
        self._options = [*options]
        if appendfsync is not None:
            self._options += ["--appendonly", "yes", "--appendfsync", appendfsync]
        if password is not None:
            self._options += ["--requirepass", password]

    @property
    def url(self) -> str:
        """With the password, percent-encoded, where there is one."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same through a proxy."""
        secret = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{secret}127.0.0.1:{port}/0"

    def start(self) -> RedisProcess:
        """Returns when it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: scripts/test-servers installs it"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.socket)),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("PING")
                return self
            except redis.ConnectionError as error:  # of which BusyLoadingError is one
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()[-3_000:]) from error
                time.sleep(0.01)

    def stop(self) -> None:
        """As an administrator does it; paused or not."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        """SIGKILL: whatever was not handed to the operating system is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay, connects succeed, nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Of the administrator, blocking; text comes decoded."""
        return redis.Redis(
            port=self.port, password=self.password, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=5
        )

    def ask(self, *command: str | int) -> object:
        """As the administrator, over a connection of its own."""
        with closing(self.client()) as client:
            return client.execute_command(*command)

    def flush(self) -> None:
        self.ask("FLUSHALL")


def new_redis(*options: str, appendfsync: str | None = None, password: str | None = None) -> RedisProcess:
    """A server of the test's own, not yet started. Gone with the test process."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-redis-"))
    server = RedisProcess(folder, *options, appendfsync=appendfsync, password=password)

    def remove() -> None:
        if server.process is not None:
            server.process.kill()
            server.process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return server


@cache
def shared_redis() -> RedisProcess:
    """The one server that all tests share which leave it alone. Each uses a prefix of its own, or empties it."""
    return new_redis().start()
