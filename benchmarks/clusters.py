"""Several processes under test as one server: Aldis' nodes with MariaDB and Redis, and the peer, aedes with Redis."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import databases, population, servers
from benchmarks.population import Account
from benchmarks.servers import HOST, Server, ServerError, free_port, listens, program, running

PEERS = Path(__file__).parent / "peers"
SECRETS = "secrets.json"
"""File with the keys that all nodes of a cluster share."""


@contextmanager
def aldis_cluster(
    command: list[str], nodes: int, files: Path, folder: Path, core: int | None, *, journal: bool = False
) -> Iterator[Server]:
    """`nodes` processes `aldis node` on a copy of the database in `files`, with Redis between them. With `journal`
    messages are acknowledged for being in Redis, which flushes them to the disk."""
    with ExitStack() as stack:
        database = stack.enter_context(databases.mariadb(files / "mariadb", folder, core))
        redis_pid, redis_port = stack.enter_context(databases.redis(folder, core, durable=journal))
        processes, ports = {}, []
        for number in range(1, nodes + 1):
            port, ws, http = free_port(), free_port(), free_port()
            data = folder / f"node-{number}"
            arguments = ["node", "--data", str(data), "--node", f"node-{number}"]
            arguments += ["--mqtt", f"{HOST}:{port}", "--ws", f"{HOST}:{ws}", "--http", f"{HOST}:{http}"]
            variables = {
                "ALDIS_STORE__URL": database.url,
                "ALDIS_STORE__ACCEPT": "journal" if journal else "commit",
                "ALDIS_CLUSTER__REDIS_URL": f"redis://{HOST}:{redis_port}/0",
                "ALDIS_ACCOUNTS__SECRET_FILE": str(files / SECRETS),
            }
            log = folder / f"node-{number}.log"
            pid = stack.enter_context(running([*command, *arguments], log, core, _listening(port), variables))
            processes[f"node {number}"] = pid
            ports.append(port)
        yield Server("aldis cluster", processes | {"mariadbd": database.pid, "redis": redis_pid}, ports, 0)


@contextmanager
def aldis_on_mariadb(command: list[str], files: Path, folder: Path, core: int | None) -> Iterator[Server]:
    """One process `aldis up` on a copy of the database in `files`."""
    with (
        databases.mariadb(files / "mariadb", folder, core) as database,
        aldis_beside(command, database, folder, core) as server,
    ):
        yield server


@contextmanager
def aldis_beside(
    command: list[str],
    database: databases.MariaDb,
    folder: Path,
    core: int | None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """One process `aldis up` on a database that runs, and may go on running after it."""
    settings = {**(variables or {}), "ALDIS_STORE__URL": database.url}
    with servers.aldis(command, "mysql", folder / "data", core, settings) as server:
        processes = {**server.processes, "mariadbd": database.pid}
        yield Server("aldis on MariaDB", processes, server.ports, server.http)


def prepare(command: list[str], folder: Path, users: int) -> list[Account]:
    """What `aldis_cluster` copies: a database with Aldis' tables and `users` users in it, and the keys of its nodes."""
    shutil.rmtree(folder, ignore_errors=True)  # what an attempt that failed has left
    folder.mkdir(parents=True)
    databases.install(folder / "mariadb")
    with databases.filling(folder / "mariadb", folder / "filling") as database:
        databases.create_database(database)
        _call([*command, "migrate", "--config", "node", "--data", str(folder)], {"ALDIS_STORE__URL": database.url})
        _call([*command, "secrets", "make", str(folder / SECRETS)])
        with database.administrator(databases.DATABASE) as connection:
            return population.insert_pairs_mysql(connection, users)


@contextmanager
def aedes_cluster(nodes: int, folder: Path, core: int | None) -> Iterator[Server]:
    """`nodes` processes of aedes with mqemitter-redis and aedes-persistence-redis between them."""
    _install_peers()
    with ExitStack() as stack:
        redis_pid, redis_port = stack.enter_context(databases.redis(folder, core))
        processes, ports = {}, []
        for number in range(1, nodes + 1):
            port = free_port()
            command = [program("node", "nodejs"), str(PEERS / "aedes.mjs"), str(port), str(redis_port)]
            log = folder / f"node-{number}.log"
            variables = {"NODE_ENV": "production"}
            pid = stack.enter_context(running(command, log, core, _listening(port), variables))
            processes[f"node {number}"] = pid
            ports.append(port)
        yield Server("aedes cluster", processes | {"redis": redis_pid}, ports, 0)


def _call(command: list[str], variables: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    """Runs a command to its end. Raises `ServerError` with what it said."""
    environment = {**os.environ, **(variables or {})}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ServerError(f"{' '.join(command)}: {ended.stdout[-1000:]}{ended.stderr[-1000:]}")


def _listening(port: int) -> Callable[[], bool]:
    return lambda: listens(port)


def _install_peers() -> None:
    """Exactly what the lock names: once, and again when the lock has changed. Raises `ServerError`."""
    lock = (PEERS / "package-lock.json").read_bytes()
    stamp = PEERS / "node_modules" / f".{hashlib.sha256(lock).hexdigest()[:16]}"
    if stamp.exists():
        return
    command = [program("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    _call(command, folder=PEERS)
    stamp.touch()
