"""Several processes under test as one server: Aldis' nodes with MariaDB and Redis, and the peer, aedes with Redis."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import databases, population, servers
from benchmarks.population import Account
from benchmarks.servers import HOST, Server, ServerError, free_port, listens, program, running

PEERS = Path(__file__).parent / "peers"
SECRETS = "secrets.json"
"""Keys that all nodes of a cluster share, in the data folder."""


@contextmanager
def aldis_cluster(command: list[str], nodes: int, files: Path, folder: Path, core: int | None) -> Iterator[Server]:
    """`nodes` processes `aldis node` on a copy of the database in `files`, with Redis between them."""
    with ExitStack() as stack:
        database = stack.enter_context(databases.mariadb(files / "mariadb", folder, core))
        redis_pid, redis_port = stack.enter_context(databases.redis(folder, core))
        processes, ports = {}, []
        for number in range(1, nodes + 1):
            port, ws, http = free_port(), free_port(), free_port()
            data = folder / f"node-{number}"
            data.mkdir(mode=0o700)
            shutil.copy(files / SECRETS, data)
            arguments = ["node", "--config", "node", "--data", str(data)]
            arguments += ["--mqtt", f"{HOST}:{port}", "--ws", f"{HOST}:{ws}", "--http", f"{HOST}:{http}"]
            variables = {
                "ALDIS_STORE__URL": database.url,
                "ALDIS_CLUSTER__NODE": f"node-{number}",
                "ALDIS_CLUSTER__REDIS_URL": f"redis://{HOST}:{redis_port}/0",
            }
            log = folder / f"node-{number}.log"
            pid = stack.enter_context(running([*command, *arguments], log, core, _listening(port), variables))
            processes[f"node {number}"] = pid
            ports.append(port)
        yield Server("aldis cluster", processes | {"mariadbd": database.pid, "redis": redis_pid}, ports, 0)


@contextmanager
def aldis_on_mariadb(command: list[str], files: Path, folder: Path, core: int | None) -> Iterator[Server]:
    """One process `aldis up` on a copy of the database in `files`."""
    with databases.mariadb(files / "mariadb", folder, core) as database:
        data = folder / "data"
        data.mkdir(mode=0o700)
        shutil.copy(files / SECRETS, data)
        variables = {"ALDIS_STORE__URL": database.url}
        with servers.aldis(command, "node", data, core, variables) as server:
            processes = {**server.processes, "mariadbd": database.pid}
            yield Server("aldis on MariaDB", processes, server.ports, server.http)


def prepare(command: list[str], folder: Path, users: int) -> list[Account]:
    """What `aldis_cluster` copies: a database with Aldis' tables and `users` users in it, and the keys of its nodes."""
    folder.mkdir(parents=True)
    databases.install(folder / "mariadb")
    with databases.filling(folder / "mariadb", folder / "filling") as database:
        databases.create_database(database)
        variables = {"ALDIS_STORE__URL": database.url}
        with servers.aldis(command, "node", folder, None, variables):
            pass  # it makes tables and keys before it listens
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


def _listening(port: int) -> Callable[[], bool]:
    return lambda: listens(port)


def _install_peers() -> None:
    """Exactly what the lock names: once, and again when the lock has changed. Raises `ServerError`."""
    lock = (PEERS / "package-lock.json").read_bytes()
    stamp = PEERS / "node_modules" / f".{hashlib.sha256(lock).hexdigest()[:16]}"
    if stamp.exists():
        return
    command = [program("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ended = subprocess.run(command, cwd=PEERS, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ServerError(f"the peer could not be installed: {ended.stderr[-1000:]}")
    stamp.touch()
