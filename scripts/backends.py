"""MariaDB and Redis on this machine, as processes of one's own on ports of 127.0.0.1: for a cluster, and for tests."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.processes import DidNotStart, Process, free_port, program

DATABASE, USER = "aldis", "aldis"


def password_in(path: Path) -> str:
    """The one in the file, made when missing, for this user's eyes only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    return path.read_text("ascii").strip()


class MariaDbProcess(Process):
    """A server whose data stays in the folder, and which has the same port after a restart. `options` are added to its
    command line. Its administrator is the user of this process."""

    def __init__(self, folder: Path, log: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        super().__init__("mariadb", log)
        # a path of a socket may have 107 bytes, so it is named from where the server stands
        self.folder = folder.absolute()
        self.port = port or free_port()
        self._files = (
            f"--datadir={self.folder / 'data'}",
            # at its start a server clears away the temporary tables of whoever shares the folder for them with it
            f"--tmpdir={self.folder / 'tmp'}",
            "--innodb-log-file-size=32M",
        )
        self.options = options
        self._me = pwd.getpwuid(os.getuid()).pw_name

    def serve(self, *options: str) -> None:
        """Returns when it answers. `options` are for this once. Raises `DidNotStart`."""
        (self.folder / "tmp").mkdir(parents=True, mode=0o700, exist_ok=True)
        if not (self.folder / "data" / "mysql").exists():
            self._install()
        self.launch(
            [
                program("mariadbd"),
                "--no-defaults",
                f"--user={self._me}",
                *self._files,
                "--socket=socket",
                f"--pid-file={self.folder / 'pid'}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=64M",
                *self.options,
                *options,
            ]
        )
        self.wait_until(self._answers)

    def _install(self) -> None:
        (self.folder / "data").mkdir(mode=0o700)
        done = subprocess.run(
            [
                program("mariadb-install-db"),
                "--no-defaults",
                *self._files,
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

    def connection(self, database: str | None = None) -> Any:
        """Of the administrator."""
        here = os.open(self.folder / "data", os.O_PATH)
        try:
            return pymysql.connect(
                unix_socket=f"/proc/self/fd/{here}/socket",
                user=self._me,
                database=database,
                autocommit=True,
                connect_timeout=5,
            )
        finally:
            os.close(here)

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """As the administrator, over a connection of its own."""
        return self.run_all([statement], database)

    def run_all(self, statements: list[str], database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of the last one."""
        with closing(self.connection(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


class MariaDb(MariaDbProcess):
    """The database of a cluster, and who may use it: the word is in `password_file`."""

    def __init__(self, folder: Path, log: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        durable = ("--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=1")
        super().__init__(folder, log, port=port, options=(*durable, *options))
        self.password_file = self.folder / "password"

    def start(self) -> None:
        """Returns when it answers and has the database. Raises `DidNotStart`."""
        self.serve()
        word = password_in(self.password_file)
        self.ask(f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4")
        self.ask(f"CREATE OR REPLACE USER {USER}@'127.0.0.1' IDENTIFIED BY '{word}'")
        self.ask(f"GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1'")

    def url(self, port: int | None = None) -> str:
        """Without the password."""
        return f"mysql://{USER}@127.0.0.1:{port or self.port}/{DATABASE}"


class RedisProcess(Process):
    """A server whose port stays the same over restarts. It keeps nothing on disk unless `options`, which are added to
    its command line, say so. With a `password` it answers nobody else."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        port: int = 0,
        options: tuple[str, ...] = (),
        password: str | None = None,
    ) -> None:
        super().__init__("redis", log)
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.options = options
        self.password = password

    def serve(self) -> None:
        """Returns when it answers. Raises `DidNotStart`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "redis.conf"
        # the password does not belong on a command line, which everybody may read
        protected = "" if self.password is None else f'requirepass "{self.password}"\n'
        settings.write_text(
            f'bind 127.0.0.1\nport {self.port}\n{protected}dir "{self.folder}"\nsave ""\nappendonly no\n'
        )
        settings.chmod(0o600)
        self.launch([program("redis-server"), str(settings), *self.options])
        self.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") is True
        except redis.ConnectionError:  # of which BusyLoadingError is one
            return False

    def client(self) -> redis.Redis:
        """Of the administrator, blocking; text comes decoded."""
        return redis.Redis(
            port=self.port, password=self.password, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=5
        )

    def ask(self, *command: str | int) -> object:
        """As the administrator, over a connection of its own."""
        with closing(self.client()) as client:
            return client.execute_command(*command)


class Redis(RedisProcess):
    """The Redis of a cluster: the word is in `password_file`."""

    def __init__(self, folder: Path, log: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        super().__init__(folder, log, port=port, options=options)
        self.password_file = self.folder / "password"

    def start(self) -> None:
        """Returns when it answers. Raises `DidNotStart`."""
        self.password = password_in(self.password_file)
        self.serve()

    def url(self, port: int | None = None) -> str:
        """Without the password."""
        return f"redis://127.0.0.1:{port or self.port}/0"
