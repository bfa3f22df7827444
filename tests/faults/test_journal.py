"""Faults where messages are acknowledged for being in the journal: the same load, and the same judgement.

A longer run, with the database down for a minute: `make faults ARGS="--world journal"`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import world
from tests.faults.faults import FAULTS, possible
from tests.faults.test_short import TROUBLES, Stage

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with world.two_nodes(tmp_path_factory.mktemp("journal"), journal=True) as cluster:
        stage = Stage(cluster)
        try:
            yield stage
        finally:
            stage.end()


def test_without_any_fault(stage: Stage) -> None:
    stage.round(quarrel=True)


@pytest.mark.parametrize(
    "name",
    [
        "kill a node",
        "kill both nodes",
        "kill a node between commit and removal",
        "freeze a node past its lease",
        "rolling restart",
        "kill mariadb",
        "freeze mariadb",
        "lock rows",
        "lose answers to commits",
        "kill redis",
        "freeze redis",
    ],
)
def test_a_fault(stage: Stage, name: str) -> None:
    stage.round(name)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_network(stage: Stage, trouble: str) -> None:
    """On the way to Redis, and then on that to MariaDB, each time at a node drawn by the seed."""
    for to in ("redis", "mysql"):
        stage.round(f"{trouble}, node to {to}")


def test_what_keeps_messages_dies_together(stage: Stage) -> None:
    # the last ends first: a node that starts waits for its database
    stage.round("kill a node", "kill redis", "kill mariadb")


def test_nobody_empties_the_journal_and_calls_it_a_fault(stage: Stage) -> None:
    assert FAULTS["flush redis"] not in possible(stage.world)
    assert FAULTS["kill redis"] in possible(stage.world)
