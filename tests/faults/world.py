"""The topology under test: nodes, the database, Redis, and a proxy on every way between them and to the clients."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.faults.proxy import ProxyProcess
from tests.faults.store import Ask
from tests.mariadb import MariaDb
from tests.operating import figures
from tests.servers import Aldis, RestError

PATIENT = {
    "limits.connections_per_second_per_address": 0,
    "limits.failed_connects_per_minute_per_address": 0,
    "limits.failed_connects_per_minute_per_user": 0,
    "logging.level": "INFO",
}
"""All clients come from one address here, and come back often."""
QUICK = {"store.answer_timeout": 2, "store.connect_timeout": 1, "timeouts.commit_retry": 0.1}
"""Shorter than the defaults, so that a round of faults is over soon."""


class Node:
    """One server process, the proxy before it, and those between it and what it needs."""

    def __init__(self, name: str, aldis: Aldis, proxies: ProxyProcess) -> None:
        self.name = name
        self.aldis = aldis
        self._proxies = proxies
        self.port = 0
        self.lines: dict[str, str] = {"clients": f"clients {name}"}
        """What is on the other side -> the proxy's name."""

    def start(self) -> None:
        self.aldis.start()
        if not self.port:
            self.port = self._proxies.open(self.lines["clients"], self.aldis.mqtt)

    @property
    def alive(self) -> bool:
        return self.aldis.alive

    def kill(self) -> None:
        self.aldis.kill()

    def stop(self) -> int:
        return self.aldis.stop()

    def pause(self) -> None:
        self.aldis.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.aldis.process.send_signal(signal.SIGCONT)

    def resources(self) -> dict[str, float]:
        process = psutil.Process(self.aldis.process.pid)
        tasks = figures(self.aldis)[("aldis_event_loop_tasks",)]
        return {
            "pid": process.pid,
            "rss": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "tasks": tasks,
        }


class World:
    """What faults and the runner see. `has` names what there is: nodes (more than one), mysql, redis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.mariadb: MariaDb | None = None
        self.redis: Any = None
        self.small_disk: Path | None = None
        self.has: set[str] = set()
        self.ask: Ask
        self.proxies = ProxyProcess()
        self._lock = threading.Lock()

    def line(self, do: str, name: str, **fields: Any) -> dict[str, Any]:
        return self.proxies.order(do, name, **fields)

    def lines(self, to: str) -> list[str]:
        """The proxies that lead to `clients`, `mysql` or `redis`, one per node."""
        return [node.lines[to] for node in self.nodes if to in node.lines]

    @property
    def addresses(self) -> list[tuple[str, str, int]]:
        return [(node.name, "127.0.0.1", node.port) for node in self.nodes]

    def rest(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """By whichever node can. The call may be repeated, so it must bear that."""
        problem: Exception | None = None
        for node in self.nodes:
            try:
                return node.aldis.rest(method, path, body, token)
            except RestError as error:
                if error.status < 500:
                    raise
                problem = error
            except OSError as error:
                problem = error
        assert problem is not None
        raise problem


@contextmanager
def _proxied(folder: Path) -> Iterator[World]:
    world = World(folder)
    try:
        yield world
        for node in world.nodes:
            if node.alive:
                assert node.stop() == 0, node.aldis.log
            assert "Traceback" not in node.aldis.log, node.aldis.log[-4_000:]
    finally:
        for node in world.nodes:
            if hasattr(node.aldis, "process") and node.alive:
                node.resume()
                node.aldis.process.kill()
                node.aldis.process.wait()
        world.proxies.end()


@contextmanager
def embedded(folder: Path) -> Iterator[World]:
    """`aldis up`: one process on SQLite."""
    with _proxied(folder) as world:
        aldis = Aldis(folder / "node", settings={**PATIENT, "store.busy_timeout": 0.3, "timeouts.commit_retry": 0.1})
        world.nodes = [Node("A", aldis, world.proxies)]
        world.nodes[0].start()
        world.ask = _sqlite(aldis.data / "aldis.db")
        yield world


def _sqlite(path: Path) -> Ask:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(statement).fetchall()

    return ask


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of its own in this folder, where this user may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=False, capture_output=True
        ).returncode
        == 0
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def _database(world: World, megabytes: int) -> Iterator[MariaDb]:
    with ExitStack() as stack:
        folder = world.folder / "mariadb"
        world.small_disk = stack.enter_context(small_disk(folder, megabytes))
        server = MariaDb(folder).start()
        world.mariadb = server
        server.ask("CREATE DATABASE aldis")
        world.ask = lambda statement: server.ask(statement, "aldis")
        world.has.add("mysql")
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def single_node(folder: Path, megabytes: int = 400) -> Iterator[World]:
    """`aldis up --config mysql`: one process on MariaDB."""
    with _proxied(folder) as world, _database(world, megabytes) as database:
        node = Node("A", Aldis(folder / "node", "mysql"), world.proxies)
        world.nodes = [node]
        node.lines["mysql"] = "mysql A"
        port = world.proxies.open("mysql A", ("127.0.0.1", database.port), mysql=True)
        node.aldis.settings = {**PATIENT, **QUICK, "store.url": database.url("aldis", port)}
        node.start()
        yield world
        for one in world.nodes:  # before the database goes
            if one.alive:
                assert one.stop() == 0, one.aldis.log


Worlds = Callable[[Path], Any]
