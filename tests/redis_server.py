"""A real Redis for tests: a process in a temporary folder, that can be stopped, killed, paused and started again."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import quote

from scripts import backends

PASSWORD = "s3cret word/@:%"
"""For servers that want one: every character that a URL must escape."""


class RedisProcess(backends.RedisProcess):
    """One server. Nothing is kept over a restart, unless `appendfsync` (always, everysec, no) asks for an append-only
    file. `options` are added to its command line, as in `--maxmemory`, `10mb`."""

    def __init__(
        self, folder: Path, *options: str, appendfsync: str | None = None, password: str | None = None
    ) -> None:
        self.socket = folder / "socket"
        kept = () if appendfsync is None else ("--appendonly", "yes", "--appendfsync", appendfsync)
        said = ("--unixsocket", str(self.socket), *options, *kept)
        super().__init__(folder, folder / "log", options=said, password=password)

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
        self.serve()
        return self

    def flush(self) -> None:
        self.ask("FLUSHALL")


def new_redis(*options: str, appendfsync: str | None = None, password: str | None = None) -> RedisProcess:
    """A server of the test's own, not yet started. Gone with the test process."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-redis-"))
    server = RedisProcess(folder, *options, appendfsync=appendfsync, password=password)

    def remove() -> None:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return server


@cache
def shared_redis() -> RedisProcess:
    """The one server that all tests share which leave it alone. Each uses a prefix of its own, or empties it."""
    return new_redis().start()
