"""Every fault once, and some together: two nodes on MariaDB and Redis under stock clients, judged after each.

`make faults` plays the same for an hour. A failure names its seed and its history: docs/faults.md says how to replay.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults import world
from tests.faults.faults import FAULTS, combined, possible
from tests.faults.runner import Play
from tests.faults.world import World

SEED = 20_261_123
RATE = 80.0

pytestmark = pytest.mark.timeout(180)  # a violation is waited for; what is well takes some seconds


class Stage:
    """The cluster and who plays on it. After a violation others play: what went wrong once is not found again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._plays = 0
        self._play: Play | None = None

    @property
    def play(self) -> Play:
        if self._play is None:
            self._play = Play(self.world, SEED + self._plays, rate=RATE)
            self._plays += 1
            self._play.begin()
        return self._play

    def round(self, *names: str, quarrel: bool = False) -> Play:
        play = self.play
        try:
            with play.playing(3.0, quarrel=quarrel):
                play.inflict([FAULTS[name] for name in names])
        except BaseException:
            self.end()
            raise
        return play

    def end(self) -> None:
        if self._play is not None:
            print(self._play.summary())
            self._play.end()
        self._play = None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with world.two_nodes(tmp_path_factory.mktemp("cluster")) as cluster:
        stage = Stage(cluster)
        try:
            yield stage
        finally:
            stage.end()


def test_without_any_fault(stage: Stage) -> None:
    """A friendship ends and a device is kicked, twice: the checker must find nothing here, or it finds nothing."""
    for _ in range(2):
        stage.round(quarrel=True)
    assert stage.play.totals["messages"] > 300


NODES = ["rolling restart", "kill both nodes", "freeze a node", "freeze a node past its lease"]
DATABASE = [
    "kill mariadb",
    "restart mariadb",
    "freeze mariadb",
    "lock tables",
    "lock rows",
    "full disk",
    "lose answers to commits",
]
REDIS = ["kill redis", "flush redis", "freeze redis"]
CLIENTS = ["two clients fight for one device", "slow consumers"]
TROUBLES = sorted({name.partition(",")[0] for name in FAULTS if "," in name})


@pytest.mark.parametrize("name", [*NODES, *DATABASE, *REDIS, *CLIENTS])
def test_a_fault(stage: Stage, name: str) -> None:
    if FAULTS[name] not in possible(stage.world):
        assert name == "full disk", "this user may mount no small disk; everything else is possible everywhere"
        return
    stage.round(name)


def test_a_node_is_killed(stage: Stage) -> None:
    """Its devices are receiving on the other one within two seconds of reconnecting."""
    before = stage.play.totals["fail-overs"]
    play = stage.round("kill a node")
    assert play.totals["fail-overs"] > before
    assert play.slowest["fail-over"] < 2.0


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_network(stage: Stage, trouble: str) -> None:
    """The same on the ways from clients, to MariaDB and to Redis, each at a node drawn by the seed."""
    stage.round(*[name for name in FAULTS if name.startswith(f"{trouble}, ")])


def test_faults_together(stage: Stage) -> None:
    chance, counts = random.Random(SEED), Counter[str]()
    for _ in range(3):
        faults = combined(stage.world, chance, 3, counts)
        counts.update(one.name for one in faults)
        stage.round(*[one.name for one in faults])


def test_every_fault_is_played_here() -> None:
    here = {name for name, fault in FAULTS.items() if "," not in name and "journal" not in fault.needs}
    assert {*NODES, *DATABASE, *REDIS, *CLIENTS, "kill a node"} == here
