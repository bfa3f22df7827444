"""The topology under test: nodes, the database, Redis, and a proxy on every way between them and to the clients."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pymysql
import redis

from scripts import cluster
from scripts.backends import DATABASE, USER, MariaDb, Redis, password_in
from tests.faults.proxy import ProxyProcess
from tests.faults.store import Ask
from tests.operating import figures
from tests.servers import Aldis
from tests.wire import Address

PATIENT: Mapping[str, object] = {
    "limits.connections_per_second_per_address": 0,
    "limits.failed_connects_per_minute_per_address": 0,
    "limits.failed_connects_per_minute_per_user": 0,
}
"""All clients come from one address here, and come back often."""
QUICK: dict[str, object] = {"store.answer_timeout": 2, "store.connect_timeout": 1, "timeouts.commit_retry": 0.1}
"""Shorter than the defaults, so that a round of faults is over soon."""
QUICK_CLUSTER: dict[str, object] = {
    "cluster.lease": 4,
    "cluster.heartbeat": 0.3,
    "cluster.silence": 1.2,
    "cluster.peer_timeout": 3,
    "cluster.ownership": 2,
    "cluster.sweep": 5,
}

QUICK_JOURNAL: Mapping[str, object] = {"cluster.journal.lease": 2, "cluster.journal.shards": 4}


class Node:
    """One server process, the proxy before it, and those between it and what it needs."""

    def __init__(self, name: str, process: Aldis | cluster.Aldis, proxies: ProxyProcess) -> None:
        self.name = name
        self.process = process
        self.port = 0
        self.lines: dict[str, str] = {"clients": f"clients {name}"}
        """What is on the other side -> the proxy's name."""
        self._proxies = proxies

    def start(self) -> None:
        self.process.start()
        self.ready()

    def ready(self) -> None:
        """It has been started: its clients' proxy leads to it."""
        if not self.port:
            self.port = self._proxies.open(self.lines["clients"], self.process.mqtt)

    @property
    def alive(self) -> bool:
        return self._pid is not None and self.process.alive

    @property
    def _pid(self) -> int | None:
        if isinstance(self.process, Aldis):
            return self.process.process.pid if hasattr(self.process, "process") else None
        return self.process.pid

    @property
    def http(self) -> Address:
        return self.process.http

    @property
    def log(self) -> str:
        return self.process.log if isinstance(self.process, Aldis) else self.process.log.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> int | None:
        return self.process.stop()

    def pause(self) -> None:
        psutil.Process(self._pid).suspend()

    def resume(self) -> None:
        psutil.Process(self._pid).resume()

    def resources(self) -> dict[str, float]:
        process = psutil.Process(self._pid)
        tasks = figures(self)[("aldis_event_loop_tasks",)]
        # clients are now here, now there
        clients = sum(
            one.laddr.port == self.process.mqtt[1] and one.status == psutil.CONN_ESTABLISHED
            for one in process.net_connections(kind="tcp")
        )
        return {
            "pid": process.pid,
            "rss": process.memory_info().rss,
            "descriptors": process.num_fds() - clients,
            "tasks": tasks,
        }


class World:
    """What faults and the runner see. `has` names what there is: nodes (more than one), mysql, redis,
    hints (nothing else is in Redis), journal (or messages are), disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.accounts: Aldis
        """REST calls go here."""
        self.mysql: MariaDb
        self.redis: Redis
        self.small_disk: Path
        self.has: set[str] = set()
        self.ask: Ask
        self.proxies = ProxyProcess()

    def line(self, do: str, name: str, **fields: Any) -> dict[str, Any]:
        return self.proxies.order(do, name, **fields)

    def lines(self, to: str) -> list[str]:
        """The proxies that lead to `clients`, `mysql` or `redis`, one per node."""
        return [node.lines[to] for node in self.nodes if to in node.lines]

    @property
    def addresses(self) -> list[tuple[str, str, int]]:
        return [(node.name, "127.0.0.1", node.port) for node in self.nodes]

    def connect(self) -> Any:
        """A connection to the database, past every proxy."""
        word = password_in(self.mysql.password_file)
        return pymysql.connect(
            host="127.0.0.1", port=self.mysql.port, user=USER, password=word, database=DATABASE, connect_timeout=5
        )

    def flush_redis(self) -> None:
        with closing(redis.Redis(port=self.redis.port, password=password_in(self.redis.password_file))) as client:
            client.flushall()


@contextmanager
def _proxied(folder: Path) -> Iterator[World]:
    """At the end, every node must stop cleanly and have met no defect of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(folder)
    try:
        yield world
    finally:
        for node in world.nodes:
            if node.alive:
                node.resume()
                node.kill()
        world.proxies.end()


def _stop_all(world: World) -> None:
    for node in world.nodes:
        if node.alive:
            code = node.stop()
            assert code == 0, f"node {node.name} ended with {code}:\n{node.log[-4_000:]}"
        assert "Traceback" not in node.log, node.log[node.log.index("Traceback") - 500 :][:4_000]


@contextmanager
def embedded(folder: Path, *, quick: bool = True) -> Iterator[World]:
    """`aldis up`: one process on SQLite. `quick`: with shorter time-outs than it ships with."""
    with _proxied(folder) as world:
        settings = {"store.busy_timeout": 0.3, "timeouts.commit_retry": 0.1} if quick else {}
        world.accounts = Aldis(folder / "node", settings={**PATIENT, **settings})
        world.nodes = [Node("A", world.accounts, world.proxies)]
        world.nodes[0].start()
        world.ask = _sqlite(world.accounts.data / "aldis.db")
        yield world
        _stop_all(world)


def _sqlite(path: Path) -> Ask:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(statement).fetchall()

    return ask


@contextmanager
def single_node(folder: Path, *, quick: bool = True, megabytes: int = 400) -> Iterator[World]:
    """`aldis up --config mysql`: one process on MariaDB."""
    with _disk(folder / "mariadb", megabytes) as disk, _proxied(folder) as world:
        world.mysql = MariaDb(folder / "mariadb", folder / "mariadb.log")
        world.mysql.start()
        try:
            _database(world, disk)
            world.accounts = Aldis(folder / "node", "mysql")
            node = Node("A", world.accounts, world.proxies)
            port = _proxy(world, node, "mysql", world.mysql.port)
            world.accounts.settings = {
                **PATIENT,
                **(QUICK if quick else {}),
                "store.url": world.mysql.url(port),
                "store.password_file": world.mysql.password_file,
            }
            world.nodes = [node]
            node.start()
            yield world
            _stop_all(world)
        finally:
            world.mysql.stop()


@contextmanager
def two_nodes(folder: Path, *, quick: bool = True, journal: bool = False, megabytes: int = 400) -> Iterator[World]:
    """`make cluster`: nodes A and B, MariaDB, Redis, the accounts. With `journal` messages are acknowledged for being
    in Redis."""
    with _disk(folder / "mariadb", megabytes) as disk, _proxied(folder) as world:
        settings = {**PATIENT, **(QUICK | QUICK_CLUSTER if quick else {})}
        if journal:
            settings |= {"store.accept": "journal", **(QUICK_JOURNAL if quick else {})}
        here = cluster.Cluster(folder, balancer=False, settings=settings)
        world.mysql, world.redis = here.mysql, here.redis
        nodes = [Node(name, process, world.proxies) for name, process in zip("AB", here.nodes, strict=True)]
        for node, process in zip(nodes, here.nodes, strict=True):
            process.mysql_port = _proxy(world, node, "mysql", world.mysql.port)
            process.redis_port = _proxy(world, node, "redis", world.redis.port)
        try:
            here.start()
            world.nodes = nodes
            for node in nodes:
                node.ready()
            _database(world, disk)
            world.has |= {"nodes", "redis", "journal" if journal else "hints"}
            world.accounts = Aldis(folder / "accounts")
            world.accounts.http = here.accounts.http
            yield world
            _stop_all(world)
        finally:
            here.stop()


def _proxy(world: World, node: Node, to: str, port: int) -> int:
    node.lines[to] = f"{to} {node.name}"
    return world.proxies.open(node.lines[to], ("127.0.0.1", port), mysql=to == "mysql")


def _database(world: World, disk: Path | None) -> None:
    world.ask = lambda statement: world.mysql.ask(statement, DATABASE)
    world.has.add("mysql")
    if disk is not None:
        world.small_disk = disk
        world.has.add("disk")


@contextmanager
def _disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
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
