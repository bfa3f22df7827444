"""A real MariaDB for tests: its own process in a temporary folder, that can be stopped, killed and started again."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pymysql

PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
USER, PASSWORD = "aldis", "s3cret word/@:%"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is missing: scripts/test-servers installs it"
    return found


class MariaDb:
    """One server. Its port stays the same over restarts. `options` are added to its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = _free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self._account = ["--user=root"] if os.getuid() == 0 else [f"--user={pwd.getpwuid(os.getuid()).pw_name}"]
        subprocess.run(
            [
                _program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *self._account,
            ],
            check=True,
            capture_output=True,
        )

    def start(self, *options: str) -> MariaDb:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    _program("mariadbd"),
                    "--no-defaults",
                    *self._account,
                    f"--datadir={self.folder / 'data'}",
                    f"--socket={self.folder / 'socket'}",
                    f"--pid-file={self.folder / 'pid'}",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                    "--innodb-buffer-pool-size=64M",
                    "--innodb-log-file-size=32M",
                    *self.options,
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("SELECT 1")
                break
            except pymysql.err.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()[-3_000:]) from error
                time.sleep(0.02)
        self.ask(f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        self.ask(f"GRANT ALL ON `aldis%`.* TO {USER}@'127.0.0.1'")
        return self

    def stop(self) -> None:
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

    def stand_still(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def connection(self, database: str | None = None) -> Any:
        """Of the administrator."""
        return pymysql.connect(
            unix_socket=str(self.folder / "socket"), user="root", database=database, autocommit=True, connect_timeout=5
        )

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """As the administrator, over a connection of its own."""
        return self.run_all([statement], database)

    def run_all(self, statements: list[str], database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of the last one."""
        with closing(self.connection(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def url(self, database: str, port: int | None = None) -> str:
        """With the password, percent-encoded."""
        return f"mysql://{USER}:s3cret%20word%2F%40%3A%25@127.0.0.1:{port or self.port}/{database}"


def new_server(*options: str) -> MariaDb:
    """A server of the test's own, not yet started. Gone with the test process."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-mariadb-"))
    server = MariaDb(folder, *options)

    def remove() -> None:
        if server.process is not None:
            server.process.kill()
            server.process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return server


@cache
def shared_server() -> MariaDb:
    """The one server that all tests share which leave it alone."""
    return new_server().start()
