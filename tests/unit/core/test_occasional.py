"""Once, then once per interval with the number; memory is bounded whatever happens."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.occasional import Occasional


def test_the_first_is_said_at_once_and_a_flood_once_per_interval() -> None:
    log = Occasional(interval=60.0)
    assert log.note("a", 0.0) == 1
    assert [log.note("a", second) for second in range(1, 60)] == [0] * 59
    assert log.note("b", 5.0) == 1
    assert log.note("a", 60.0) == 60
    assert log.note("a", 61.0) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=100))
def test_nothing_is_counted_twice_or_said_too_often(events: list[tuple[str, int]]) -> None:
    log = Occasional(interval=60.0, size=3)
    said: dict[str, list[float]] = {}
    counts: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    now = 0
    for key, pause in events:
        now += pause
        happened[key] += 1
        times = log.note(key, now)
        if times:
            counts[key] += times
            assert counts[key] == happened[key]
            said.setdefault(key, []).append(now)
    for moments in said.values():
        assert all(later - earlier >= 60 for earlier, later in pairwise(moments))


@given(st.lists(st.integers(0, 1_000), max_size=200))
def test_it_is_bounded(keys: list[int]) -> None:
    log = Occasional(size=5)
    for key in keys:
        log.note(str(key), 0.0)
        assert len(log) <= 5
