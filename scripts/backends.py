"""MariaDB and Redis for a cluster on this machine, as processes of its own on ports of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql

from scripts.processes import DidNotStart, Process, free_port, program

DATABASE, USER = "aldis", "aldis"


def password_in(path: Path) -> str:
    """The one in the file, made when missing, for this user's eyes only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    return path.read_text("ascii").strip()


class MariaDb(Process):
    """Its data stays in the folder. `options` are added to its command line."""

    def __init__(self, folder: Path, log: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        super().__init__("mariadb", log)
        # a path of a socket may have 107 bytes, so it is named from where the server stands
        self.folder = folder.absolute()
        self.password_file = self.folder / "password"
        self.port = port or free_port()
        self.options = options
        self._me = pwd.getpwuid(os.getuid()).pw_name

    def start(self) -> None:
        """Returns when it answers and has the database. Raises `DidNotStart`."""
        data = self.folder / "data"
        if not (data / "mysql").exists():
            self._install(data)
        self.launch(
            [
                program("mariadbd"),
                "--no-defaults",
                f"--user={self._me}",
                f"--datadir={data}",
                "--socket=socket",
                f"--pid-file={self.folder / 'pid'}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--character-set-server=utf8mb4",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=32M",
                *self.options,
            ]
        )
        self.wait_until(self._answers)
        word = password_in(self.password_file)
        self.ask(f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4")
        self.ask(f"CREATE OR REPLACE USER {USER}@'127.0.0.1' IDENTIFIED BY '{word}'")
        self.ask(f"GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1'")

    def _install(self, data: Path) -> None:
        data.mkdir(parents=True, mode=0o700)
        done = subprocess.run(
            [
                program("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={self._me}",
                "--skip-test-db",
                f"--user={self._me}",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise DidNotStart(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        try:
            self.ask("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """As the administrator, who is the user of this process, over a connection of its own."""
        here = os.open(self.folder / "data", os.O_PATH)
        try:
            connection = pymysql.connect(
                unix_socket=f"/proc/self/fd/{here}/socket",
                user=self._me,
                database=database,
                autocommit=True,
                connect_timeout=5,
            )
        finally:
            os.close(here)
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def url(self, port: int | None = None) -> str:
        """Without the password."""
        return f"mysql://{USER}@127.0.0.1:{port or self.port}/{DATABASE}"


class Redis(Process):
    """It keeps nothing on disk: what is in it may be lost at any time."""

    def __init__(self, folder: Path, log: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        super().__init__("redis", log)
        self.folder = folder.absolute()
        self.password_file = self.folder / "password"
        self.port = port or free_port()
        self.options = options

    def start(self) -> None:
        """Returns when it answers. Raises `DidNotStart`."""
        word = password_in(self.password_file)
        settings = self.folder / "redis.conf"
        # the password does not belong on a command line, which everybody may read
        settings.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {word}\ndir "{self.folder}"\nsave ""\nappendonly no\n'
        )
        settings.chmod(0o600)
        self.launch([program("redis-server"), str(settings), *self.options])
        self.wait_until(lambda: self._answers(word))

    def _answers(self, word: str) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {word}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def url(self, port: int | None = None) -> str:
        """Without the password."""
        return f"redis://127.0.0.1:{port or self.port}/0"
