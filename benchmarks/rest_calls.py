"""What calls of the REST API take, one after the other over one connection, and how fast the history is filled."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import clusters, databases, machine, population, servers
from benchmarks.bench import Bench
from benchmarks.meter import percentile
from benchmarks.population import PASSWORD
from benchmarks.servers import HOST, Server

BACK_ENDS = ("SQLite", "MariaDB")
UNHINDERED = {f"ALDIS_ACCOUNTS__{name}": "1000000" for name in ("CALL_BURST", "REGISTER_BURST", "REQUEST_BURST")}
"""Limits that would end a benchmark, raised."""
NEVER = {"ALDIS_HISTORY__FILL_INTERVAL": "86400"}
FRIENDS = 40
SAID = 200
"""Messages in the conversation whose history is read."""


@dataclass
class Place:
    """A database, and how to start a server on it: again and again, if need be."""

    start: Callable[[dict[str, str]], Any]
    ask: Callable[[str], int]
    """One statement, beside the server; the number it gives, or 0."""


@contextmanager
def place(bench: Bench, back_end: str, users: int) -> Iterator[tuple[Place, list[population.Account]]]:
    """A database with this many users, in pairs of friends with device tokens."""
    folder = bench.work / f"rest-{back_end}-{time.monotonic_ns()}"
    if back_end == "SQLite":
        data, people = bench.inserted(users)
        shutil.copytree(data, folder)

        def ask(statement: str) -> int:
            with closing(sqlite3.connect(folder / "aldis.db", timeout=10)) as connection, connection:
                row = connection.execute(statement).fetchone()
                return int(row[0]) if row else 0

        yield Place(lambda more: servers.aldis(bench.command, "embedded", folder, None, more), ask), people
        return
    files, people = bench.in_mariadb(users)
    with databases.mariadb(files / "mariadb", folder, None) as database:

        def ask_mysql(statement: str) -> int:
            with database.administrator(databases.DATABASE) as connection, connection.cursor() as cursor:
                cursor.execute(statement)
                row = cursor.fetchone()
                connection.commit()
                return int(row[0]) if row else 0

        yield Place(lambda more: clusters.aldis_beside(bench.command, database, folder, None, more), ask_mysql), people


class Connection:
    """One connection that stays open, of one user."""

    def __init__(self, server: Server, token: str = "") -> None:
        self._http = http.client.HTTPConnection(HOST, server.http, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
        """Status, document, ETag."""
        content = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if body is not None else {}
        more |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, content, {**self._headers, **more})
        response = self._http.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data else None, response.headers.get("ETag") or ""


class Usual:
    """One user with friends and a conversation, and what an app asks for all day."""

    def __init__(self, server: Server, bench: Bench) -> None:
        crowd = population.register_pairs(server, 2 * (FRIENDS // 2) + 2)
        self.me, self.friend = crowd[0], crowd[1]
        for other in crowd[2 : FRIENDS + 1]:
            population.befriend(server, self.me, other)
        pair = {"pairs": 1, "each": SAID, "people": [self.friend, self.me], "settle": 0.3}
        bench.load("backlog", server, **pair)
        login = {"user_id": self.me["user"], "password": PASSWORD, "device_id": "app"}
        _, self.tokens, _ = Connection(server).call("POST", "/v1/login", login)
        self.connection = Connection(server, self.tokens["access_token"])
        self._login = login
        self._tag = self.connection.call("GET", "/v1/relations")[2]
        status, page, _ = self.connection.call("GET", self._history)
        assert status == 200 and len(page["messages"]) == 50, page

    @property
    def _history(self) -> str:
        return f"/v1/messages?peer={self.friend['user']}"

    def _refresh(self) -> int:
        status, answer, _ = self.connection.call(
            "POST", "/v1/token/refresh", {"refresh_token": self.tokens["refresh_token"]}
        )
        self.tokens = answer
        return status

    def calls(self) -> dict[str, tuple[Callable[[], int], int, float]]:
        """What, the status it must have, and which share of the usual number of calls is enough."""
        ask, other = self.connection.call, self.friend["user"]
        return {
            "`GET /v1/account`": (lambda: ask("GET", "/v1/account")[0], 200, 1.0),
            f"`GET /v1/relations`, {FRIENDS} friends with keys": (lambda: ask("GET", "/v1/relations")[0], 200, 1.0),
            "the same with `If-None-Match`": (
                lambda: ask("GET", "/v1/relations", If_None_Match=self._tag)[0],
                304,
                1.0,
            ),
            "`GET /v1/devices`": (lambda: ask("GET", "/v1/devices")[0], 200, 1.0),
            "`GET /v1/messages`, 50 of them": (lambda: ask("GET", self._history)[0], 200, 1.0),
            "`PUT /v1/blocks/…`, `DELETE` in turn": (self._block(other), 204, 0.5),
            "`POST /v1/token/refresh`": (self._refresh, 200, 0.5),
            "`POST /v1/login`": (lambda: ask("POST", "/v1/login", {**self._login, "device_id": "b"})[0], 200, 0.1),
        }

    def _block(self, other: str) -> Callable[[], int]:
        methods = iter(("PUT", "DELETE") * 1_000_000)
        return lambda: self.connection.call(next(methods), f"/v1/blocks/{other}")[0]


def usual_calls(bench: Bench, back_end: str, times: int) -> list[dict[str, Any]]:
    """Milliseconds at the median and the 99th percentile, and microseconds of CPU of server and database, by call."""
    rows = []
    with place(bench, back_end, 0) as (where, _), where.start(UNHINDERED | NEVER) as server:
        usual = Usual(server, bench)
        for name, (call, wanted, share) in usual.calls().items():
            count = max(4, int(times * share) // 2 * 2)
            for _ in range(min(10, count)):
                call()
            before, taken = _cpu(server), []
            for _ in range(count):
                begun = time.perf_counter()
                status = call()
                taken.append(time.perf_counter() - begun)
                if status != wanted:
                    raise servers.ServerError(f"{name}: {status} in place of {wanted}")
            cpu = (_cpu(server) - before) / count * 1e6
            p50, p99 = (percentile(taken, part) * 1000 for part in (0.5, 0.99))
            rows.append({"call": name, "calls": count, "p50_ms": p50, "p99_ms": p99, "cpu_us": cpu})
    return rows


def filling(bench: Bench, back_end: str, each: int) -> dict[str, Any]:
    """How fast the history takes in messages of 50 conversations that are behind, without the pauses that it makes
    for others between two transactions."""
    with place(bench, back_end, 100) as (where, people):
        with where.start(NEVER) as server:
            shape = {"pairs": 50, "each": each, "people": people, "settle": 0.3}
            bench.load("backlog", server, **shape)
        wanted = where.ask("SELECT COUNT(*) FROM im_message")
        assert wanted == 50 * each and where.ask("SELECT COUNT(*) FROM im_history") == 0
        where.ask("UPDATE im_chore SET held_until = 0")
        with where.start({**NEVER, "ALDIS_HISTORY__PAUSE": "0.001"}) as server:
            done = _until(where, 1)
            first = time.perf_counter(), _cpu(server), done
            done = _until(where, wanted)
            last = time.perf_counter(), _cpu(server), done
    seconds, cpu, messages = (b - a for a, b in zip(first, last, strict=True))
    if not messages:
        raise servers.ServerError("too few messages to measure anything")
    return {"messages": messages, "rate": messages / seconds, "cpu_us": cpu / messages * 1e6}


def _until(where: Place, wanted: int) -> int:
    deadline = time.monotonic() + 120
    while (done := where.ask("SELECT COUNT(*) FROM im_history")) < wanted:
        if time.monotonic() > deadline:
            raise servers.ServerError(f"the history has {done} of {wanted} messages after two minutes")
        time.sleep(0.005)
    return done


def _cpu(server: Server) -> float:
    return sum(machine.cpu_seconds(pid) for pid in server.processes.values())
