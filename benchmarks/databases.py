"""MariaDB and Redis as parts of a cluster under test: processes of their own in temporary folders."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql  # type: ignore[import-untyped]

from benchmarks.servers import HOST, ServerError, free_port, program, running

DATABASE, USER, PASSWORD = "aldis", "aldis", "benchmark"


@dataclass(frozen=True)
class MariaDb:
    """A running server. Its settings are MariaDB's own: `innodb_flush_log_at_trx_commit` 1, an fsync per commit."""

    pid: int
    port: int
    socket: Path

    @property
    def url(self) -> str:
        return f"mysql://{USER}:{PASSWORD}@{HOST}:{self.port}/{DATABASE}"

    def administrator(self, database: str | None = None) -> closing[Any]:
        """A connection that may do anything, with transactions."""
        return closing(pymysql.connect(unix_socket=str(self.socket), user="root", database=database))


def install(folder: Path) -> None:
    """Makes the files of a server that holds nothing yet. Raises `ServerError`."""
    command = [program("mariadb-install-db", "mariadb-server"), "--no-defaults", f"--datadir={folder}", _account()]
    command += ["--auth-root-authentication-method=normal", "--skip-test-db"]
    with tempfile.TemporaryDirectory() as own:  # whoever starts clears away temporary tables of others in this folder
        ended = subprocess.run([*command, f"--tmpdir={own}"], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ServerError(f"mariadb-install-db: {ended.stdout[-1000:]}{ended.stderr[-1000:]}")


def create_database(server: MariaDb) -> None:
    """The empty database, and the user to whom it belongs."""
    with server.administrator() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        cursor.execute(f"CREATE USER {USER}@'{HOST}' IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT ALL ON {DATABASE}.* TO {USER}@'{HOST}'")


@contextmanager
def mariadb(files: Path, folder: Path, core: int | None) -> Iterator[MariaDb]:
    """A server on a copy of `files`, which `install` has made and a server may have filled since."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(files, folder / "mariadb")
    with _mariadbd(folder / "mariadb", folder, core) as server:
        yield server


@contextmanager
def filling(files: Path, folder: Path) -> Iterator[MariaDb]:
    """A server on `files` themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    with _mariadbd(files, folder, None) as server:
        yield server


@contextmanager
def _mariadbd(files: Path, folder: Path, core: int | None) -> Iterator[MariaDb]:
    port, socket = free_port(), folder / "socket"
    command = [program("mariadbd", "mariadb-server"), "--no-defaults", _account(), f"--datadir={files}"]
    command += [f"--tmpdir={folder}", f"--socket={socket}", f"--pid-file={folder / 'pid'}"]
    command += [f"--port={port}", f"--bind-address={HOST}"]

    def ready() -> bool:
        try:
            pymysql.connect(unix_socket=str(socket), user="root").close()
        except pymysql.err.OperationalError:
            return False
        return True

    with running([*command, "--skip-name-resolve"], folder / "mariadb.log", core, ready) as pid:
        yield MariaDb(pid, port, socket)


@contextmanager
def redis(folder: Path, core: int | None, *, durable: bool = False) -> Iterator[tuple[int, int]]:
    """Process id and port of a Redis that keeps nothing on disk, or, if `durable`, whatever it has acknowledged."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [program("redis-server", "redis-server"), "--bind", HOST, "--port", str(port), "--dir", str(folder)]
    log = folder / "redis.log"

    def ready() -> bool:
        return b"Ready to accept connections" in log.read_bytes()

    keeping = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    with running([*command, "--save", "", *keeping], log, core, ready) as pid:
        yield pid, port


def _account() -> str:
    return f"--user={'root' if os.getuid() == 0 else getpass.getuser()}"
