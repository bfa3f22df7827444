"""A real MariaDB for tests: its own process in a temporary folder, that can be stopped, killed and started again."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from scripts.backends import MariaDbProcess

USER, PASSWORD = "aldis", "s3cret word/@:%"


class MariaDb(MariaDbProcess):
    """One server, with a user who may do everything in databases called `aldis…`."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, folder / "log", options=options)

    def start(self, *options: str) -> MariaDb:
        """Returns when it answers."""
        self.serve(*options)
        self.ask(f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        self.ask(f"GRANT ALL ON `aldis%`.* TO {USER}@'127.0.0.1'")
        return self

    def url(self, database: str, port: int | None = None) -> str:
        """With the password, percent-encoded."""
        return f"mysql://{USER}:s3cret%20word%2F%40%3A%25@127.0.0.1:{port or self.port}/{database}"


def new_server(*options: str) -> MariaDb:
    """A server of the test's own, not yet started. Gone with the test process."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-mariadb-"))
    server = MariaDb(folder, *options)

    def remove() -> None:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return server


@cache
def shared_server() -> MariaDb:
    """The one server that all tests share which leave it alone."""
    return new_server().start()
