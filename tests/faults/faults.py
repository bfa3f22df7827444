"""The faults: small named things with a beginning and an end. `FAULTS` is the list that seeds draw from.

A fault is a generator over a scene: up to its `yield` it begins, after it it ends. All times are seconds.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from tests.faults.generator import Load
from tests.faults.world import Node, World


@dataclass
class Scene:
    """What a fault may touch."""

    world: World
    load: Load
    chance: random.Random
    arena: tuple[str, str]
    devices: list[tuple[str, str]]
    killed: Callable[[str], None]
    """To be called with the node's name when it has been killed: fail-over is measured from there."""

    def some_node(self) -> Node:
        return self.chance.choice([node for node in self.world.nodes if node.alive])


@dataclass(frozen=True)
class Fault:
    name: str
    lasts: float
    needs: frozenset[str]
    play: Callable[[Scene], AbstractContextManager[None]]
    touches: frozenset[str]
    """What it does something to. Two faults are combined only if these have nothing in common."""


FAULTS: dict[str, Fault] = {}


def fault(
    lasts: float, *, needs: str = "", touches: str = ""
) -> Callable[[Callable[[Scene], Iterator[None]]], Callable[[Scene], Iterator[None]]]:
    def register(play: Callable[[Scene], Iterator[None]]) -> Callable[[Scene], Iterator[None]]:
        name = play.__name__.replace("_", " ")
        FAULTS[name] = Fault(
            name, lasts, frozenset(needs.split()), contextmanager(play), frozenset((touches or needs).split())
        )
        return play

    return register


# Nodes


@fault(1.0, touches="nodes")
def kill_a_node(scene: Scene) -> Iterator[None]:
    """kill -9; it comes back afterwards."""
    node = scene.some_node()
    node.kill()
    scene.killed(node.name)
    yield
    node.start()


@fault(0.5, needs="nodes")
def kill_both_nodes(scene: Scene) -> Iterator[None]:
    for node in scene.world.nodes:
        node.kill()
    yield
    for node in scene.world.nodes:
        node.start()


@fault(0.0, touches="nodes")
def rolling_restart(scene: Scene) -> Iterator[None]:
    """SIGTERM, one after the other, as for a new version."""
    for node in scene.world.nodes:
        assert node.stop() == 0, node.log[-4_000:]
        node.start()
        time.sleep(0.5)
    yield


@fault(2.0, touches="nodes")
def freeze_a_node(scene: Scene) -> Iterator[None]:
    """SIGSTOP, shorter than a lease."""
    node = scene.some_node()
    node.pause()
    yield
    node.resume()


@fault(12.0, needs="nodes")
def freeze_a_node_past_its_lease(scene: Scene) -> Iterator[None]:
    """SIGSTOP until the others have taken over; then it wakes and knows nothing of that."""
    node = scene.some_node()
    node.pause()
    yield
    node.resume()


# The database


@fault(1.0, needs="mysql")
def kill_mariadb(scene: Scene) -> Iterator[None]:
    scene.world.mysql.kill()
    yield
    scene.world.mysql.start()


@fault(0.5, needs="mysql")
def restart_mariadb(scene: Scene) -> Iterator[None]:
    scene.world.mysql.stop()
    yield
    scene.world.mysql.start()


@fault(4.0, needs="mysql")
def freeze_mariadb(scene: Scene) -> Iterator[None]:
    """Longer than the store waits for an answer."""
    scene.world.mysql.pause()
    yield
    scene.world.mysql.resume()


@fault(3.0, needs="mysql")
def lock_tables(scene: Scene) -> Iterator[None]:
    other = scene.world.connect()
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLES im_inbox WRITE, im_message WRITE, im_offline WRITE")
        yield
        cursor.execute("UNLOCK TABLES")
    other.close()


@fault(3.0, needs="mysql")
def lock_rows(scene: Scene) -> Iterator[None]:
    """An administrator's forgotten transaction."""
    other = scene.world.connect()
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM im_inbox FOR UPDATE")
        cursor.execute("SELECT * FROM im_device FOR UPDATE")
        yield
        cursor.execute("ROLLBACK")
    other.close()


@fault(3.0, needs="mysql disk")
def full_disk(scene: Scene) -> Iterator[None]:
    """Not a byte is left where the database is."""
    filler = scene.world.small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 65_536):
            pass
    try:
        yield
    finally:
        filler.unlink()


@fault(3.0, needs="mysql")
def lose_answers_to_commits(scene: Scene) -> Iterator[None]:
    """COMMIT goes through, its answer does not, and the connection is cut."""
    for _ in range(5):
        for line in scene.world.lines("mysql"):
            scene.world.line("lose_commits", line)
        time.sleep(0.3)
    yield
    for line in scene.world.lines("mysql"):
        scene.world.line("pass", line)


# What is worst where messages come from a journal


@fault(60.0, needs="journal", touches="mysql")
def stop_mariadb_for_a_minute(scene: Scene) -> Iterator[None]:
    """Who is connected goes on sending."""
    scene.world.mysql.stop()
    yield
    scene.world.mysql.start()


@fault(1.0, needs="journal", touches="nodes mysql")
def kill_a_node_between_commit_and_removal(scene: Scene) -> Iterator[None]:
    """Its COMMIT goes through, the answer does not, and it hears nothing more."""
    node = scene.some_node()
    line = node.lines["mysql"]
    lost = scene.world.line("lose_commits", line)["lost"]
    deadline = time.monotonic() + 5
    while scene.world.line("look", line)["lost"] == lost and time.monotonic() < deadline:
        time.sleep(0.005)
    node.kill()
    scene.killed(node.name)
    scene.world.line("pass", line)
    yield
    node.start()


# Redis


@fault(1.0, needs="redis")
def kill_redis(scene: Scene) -> Iterator[None]:
    scene.world.redis.kill()
    yield
    scene.world.redis.start()


@fault(0.5, needs="hints", touches="redis")
def flush_redis(scene: Scene) -> Iterator[None]:
    """Only where nothing in it was ever acknowledged."""
    for _ in range(3):
        scene.world.flush_redis()
        time.sleep(0.3)
    yield


@fault(20.0, needs="redis")
def freeze_redis(scene: Scene) -> Iterator[None]:
    scene.world.redis.pause()
    yield
    scene.world.redis.resume()


# Networks


def _network(what: str, to: str, lasts: float, **weather: float | str) -> None:
    """Registers the same trouble on the way to `to`, for a node drawn by the seed."""

    @contextmanager
    def play(scene: Scene) -> Iterator[None]:
        line = scene.chance.choice(scene.world.lines(to))
        if what == "reset":
            for _ in range(4):
                scene.world.line("reset", line)
                time.sleep(0.4)
        elif what == "cut packets":
            for _ in range(4):
                scene.world.line("tear", line)
                time.sleep(0.4)
        elif what.startswith("black hole"):
            scene.world.line("hole", line, **weather)
        elif what == "refuse":
            scene.world.line("refuse", line)
            scene.world.line("reset", line)
        else:
            scene.world.line("weather", line, **weather)
        yield
        if what.startswith("black hole"):
            scene.world.line("reset", line)  # as when the TCP connection has given up
        scene.world.line("pass", line)

    name = f"{what}, {'clients' if to == 'clients' else 'node'} to {'node' if to == 'clients' else to}"
    needs = frozenset(() if to == "clients" else (to,))
    FAULTS[name] = Fault(name, lasts, needs, play, frozenset((f"network {to}",)))


for _to in ("clients", "mysql", "redis"):
    _network("black hole", _to, 4.0)
    _network("black hole one way out", _to, 4.0, way="up")
    _network("black hole one way in", _to, 4.0, way="down")
    _network("latency", _to, 3.0, delay=0.05, jitter=0.1)
    _network("throttle", _to, 3.0, rate=100_000.0)
    _network("reset", _to, 0.0)
    _network("cut packets", _to, 0.0)
    _network("refuse", _to, 2.0)


# Clients


@fault(5.0, touches="arena")
def two_clients_fight_for_one_device(scene: Scene) -> Iterator[None]:
    """On two nodes, each coming back as soon as it is thrown out."""
    user, device = scene.arena
    scene.load.order("join", user=user, device=device, seed=scene.chance.getrandbits(32))
    yield
    scene.load.order("leave", user=user, device=device)


@fault(3.0, touches="readers")
def slow_consumers(scene: Scene) -> Iterator[None]:
    """Half of the devices do not read from their sockets."""
    for user, device in scene.chance.sample(scene.devices, len(scene.devices) // 2):
        scene.load.order("stall", user=user, device=device, seconds=3)
    yield


def possible(world: World) -> list[Fault]:
    """Those that this world can bear, in a fixed order."""
    return [one for one in FAULTS.values() if one.needs <= world.has]


def combined(world: World, chance: random.Random, count: int, played: Counter[str]) -> list[Fault]:
    """Up to `count` faults at once that do not stand in each other's way, those played least often first."""
    order = sorted(possible(world), key=lambda one: (played[one.name], chance.random()))
    chosen: list[Fault] = []
    for one in order:
        if len(chosen) < count and not any(one.touches & other.touches for other in chosen):
            chosen.append(one)
    # The first to begin is the last to end. A node that starts needs its database and Redis: one that was killed comes
    # back when they have, and a rolling restart is over before they go.
    return sorted(chosen, key=lambda one: "nodes" not in one.touches)
