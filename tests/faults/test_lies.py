"""The checker against live lies: stock clients, an honest server, and a liar between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import world
from tests.faults.lying import LIARS, Liar, TwoWayLyingProxy
from tests.faults.runner import Play, Violation


def through(liar: Liar, folder: Path, seconds: float) -> Play:
    """One round through the liar; the players have come to rest. Raises `Violation`."""
    with world.embedded(folder) as stage, TwoWayLyingProxy(stage.accounts.mqtt, liar) as proxy:
        stage.nodes[0].port = proxy.address[1]
        play = Play(stage, 1, rate=120, quarrels=1, patience=3)
        try:
            play.begin()
            play.round([], seconds)
        finally:
            play.end()
        return play


def test_a_proxy_that_tells_the_truth_is_believed(tmp_path: Path) -> None:
    assert through(Liar(), tmp_path, 4).totals["messages"] > 100


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_a_lie_is_seen_through(tmp_path: Path, liar: Callable[[], Liar]) -> None:
    told = liar()
    with pytest.raises(Violation) as found:
        through(told, tmp_path, 3)
    assert told.told, "it has not lied at all"
    assert f"\n{told.red}: " in str(found.value), found.value
