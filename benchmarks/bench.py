"""One benchmark run: starts servers on fresh folders, puts loads on them, makes the users once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import clusters, population, servers
from benchmarks.load import generate
from benchmarks.population import Account
from benchmarks.servers import Server

Run = dict[str, Any]
"""What one load measured."""


class InvalidRun(Exception):
    """A load found something lost, repeated or out of order; the text lists the first of it."""


@dataclass
class Bench:
    """One benchmark run: where its files are, how long it measures, on which cores."""

    work: Path
    command: list[str]
    cores: tuple[int, int] | None
    rounds: int = 3
    seconds: float = 4.0
    warmup: float = 1.0
    scale: float = 1.0
    """Share of the connections and messages of (d) and (e); below 1 for a quick look only."""
    say: Callable[[str], None] = print
    _folders: int = field(default=0, init=False)

    def mosquitto(self, *, nodelay: bool = False) -> AbstractContextManager[Server]:
        return servers.mosquitto(self._folder(), self.core(0), nodelay=nodelay)

    def aldis(self, profile: str, data: Path | None = None) -> AbstractContextManager[Server]:
        """With `data`, the server works on a copy: every run begins with the same database."""
        folder = self._folder()
        if data is not None:
            shutil.copytree(data, folder, dirs_exist_ok=True)
        return servers.aldis(self.command, profile, folder, self.core(0))

    def aldis_cluster(self, nodes: int, files: Path, *, journal: bool = False) -> AbstractContextManager[Server]:
        return clusters.aldis_cluster(self.command, nodes, files, self._folder(), None, journal=journal)

    def aldis_on_mariadb(self, files: Path) -> AbstractContextManager[Server]:
        return clusters.aldis_on_mariadb(self.command, files, self._folder(), None)

    def aedes_cluster(self, nodes: int) -> AbstractContextManager[Server]:
        return clusters.aedes_cluster(nodes, self._folder(), None)

    def load(self, name: str, server: Server, *, spread: bool = False, **spec: Any) -> Run:
        """Puts a load on the server. Raises `InvalidRun` if it did not get what it was promised.

        Senders are on the first node and receivers on the last; with `spread`, both are on every node, the receiver
        of each pair on the node after its sender's."""
        place = {"host": servers.HOST, "processes": server.processes, **_places(server.ports, spread)}
        result = generate(name, place | spec, self.core(1) if len(server.processes) == 1 else None)
        if result["problems"]:
            raise InvalidRun(f"{name} on {server.name}: " + "; ".join(result["problems"][:5]))
        return result

    def relay(self, server: Server, *, pairs: int, window: int, idle: int, rate: int = 0) -> Run:
        shape: Run = {"pairs": pairs, "window": window, "idle": idle, "rate": rate, "payload": 128}
        return self.load("relay", server, **shape, warmup=self.warmup, seconds=self.seconds)

    def timed_relay(self, server: Server, *, pairs: int = 50, spread: bool = False) -> Run:
        """What `chat` is beside a relay: the same number of pairs, the same window, times to the arrival, and a
        stretch at a third of full load."""
        shape: Run = {"pairs": pairs, "window": 10, "idle": 0, "payload": 128, "timed": True, "share": 1 / 3}
        shape |= {"warmup": self.warmup, "seconds": self.seconds, "settle": 0.5}
        return self.load("relay", server, spread=spread, **shape)

    def chat(
        self, server: Server, people: list[Account], phases: list[Run], *, pairs: int = 50, spread: bool = False
    ) -> Run:
        shape: Run = {"people": people[: 2 * pairs], "pairs": pairs, "window": 10, "settle": 0.5, "phases": phases}
        return self.load("chat", server, spread=spread, **shape)

    def full_phase(self, name: str = "full", **options: Any) -> Run:
        return {"name": name, "warmup": self.warmup, "seconds": self.seconds, **options}

    def registered(self, users: int) -> tuple[Path, list[Account]]:
        """A data folder whose users came over REST; made once per run."""

        def fill(server: Server) -> list[Account]:
            return population.register_pairs(server, users)

        return self._population(f"registered-{users}", fill, None)

    def inserted(self, users: int) -> tuple[Path, list[Account]]:
        """A data folder whose users were written into the database; made once per run."""

        def fill(folder: Path) -> list[Account]:
            return population.insert_pairs(folder / "aldis.db", users)

        return self._population(f"inserted-{users}", None, fill)

    def in_mariadb(self, users: int) -> tuple[Path, list[Account]]:
        """Files of a MariaDB with these users, and the keys of its nodes; made once per run."""
        folder, people = self.work / f"mariadb-{users}", self.work / f"mariadb-{users}.json"
        if not people.exists():
            people.write_text(json.dumps(clusters.prepare(self.command, folder, users)), encoding="utf-8")
        return folder, json.loads(people.read_text(encoding="utf-8"))

    def _population(
        self,
        name: str,
        while_up: Callable[[Server], list[Account]] | None,
        when_down: Callable[[Path], list[Account]] | None,
    ) -> tuple[Path, list[Account]]:
        folder, people = self.work / name, self.work / f"{name}.json"
        if not people.exists():
            accounts: list[Account] = []
            with servers.aldis(self.command, "embedded", folder, None) as server:
                if while_up:
                    accounts = while_up(server)
            if when_down:
                accounts = when_down(folder)
            people.write_text(json.dumps(accounts), encoding="utf-8")
        return folder, json.loads(people.read_text(encoding="utf-8"))

    def _folder(self) -> Path:
        self._folders += 1
        return self.work / f"run-{self._folders}"

    def core(self, index: int) -> int | None:
        """The core for servers (0), or for the load (1)."""
        return self.cores[index] if self.cores else None


def _places(ports: Sequence[int], spread: bool) -> dict[str, list[int]]:
    """The ports that senders and receivers take in turn."""
    if spread:
        return {"sender_ports": [*ports], "receiver_ports": [*ports[1:], *ports[:1]]}
    return {"sender_ports": [ports[0]], "receiver_ports": [ports[-1]]}
