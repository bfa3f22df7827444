"""The checker against live lies: stock clients, an honest server, and a liar between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.faults import world
from tests.faults.lying import GANGS, Liar, Together, TwoWayLyingProxy
from tests.faults.runner import Play, Violation
from tests.faults.world import World

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world.embedded(tmp_path_factory.mktemp("honest")) as stage:
        yield stage


_seeds = itertools.count(1)


def through(liar: Liar, stage: World, seconds: float) -> Play:
    """One round through the liar, with people of its own, until they have come to rest. Raises `Violation`."""
    with TwoWayLyingProxy(stage.accounts.mqtt, liar) as proxy:
        stage.nodes[0].port = proxy.address[1]
        play = Play(stage, next(_seeds), rate=150, quarrels=0, patience=2)
        try:
            play.begin()
            play.round([], seconds)
        finally:
            play.end()
        return play


def test_a_proxy_that_tells_the_truth_is_believed(stage: World) -> None:
    assert through(Liar(), stage, 4).totals["messages"] > 100


@pytest.mark.parametrize("gang", GANGS, ids=lambda gang: " ".join(liar.__name__ for liar in gang))
def test_lies_are_seen_through(stage: World, gang: tuple[Callable[[], Liar], ...]) -> None:
    liars = [liar() for liar in gang]
    with pytest.raises(Violation) as found:
        through(Together(*liars), stage, 2)
    for liar in liars:
        assert liar.told, f"{liar} has not lied at all"
        assert f"\n{liar.red}: " in str(found.value), found.value
