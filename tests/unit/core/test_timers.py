"""The wheel: nobody is asked before the deadline, everybody within one grain after it, whatever the clock does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.core.timers import GRAIN, DeadlineWheel


class Sleeper:
    """Wants to be asked at `deadline`; then, if `every` is set, that much later again."""

    def __init__(self, deadline: float, every: float | None = None) -> None:
        self.deadline: float | None = deadline
        self.every = every
        self.asked: list[float] = []

    def on_deadline(self, now: float) -> float | None:
        assert self.deadline is not None, "asked again after None"
        assert now >= self.deadline, "asked too early"
        self.asked.append(now)
        self.deadline = None if self.every is None else now + self.every
        return self.deadline


times = st.floats(0, 50, allow_nan=False) | st.integers(0, 200).map(lambda grains: grains * GRAIN)


@settings(max_examples=200)
@given(st.floats(0, 1_000), st.lists(st.tuples(times, st.none() | times), max_size=12), st.lists(times, max_size=12))
def test_never_early_and_within_one_grain(
    start: float, sleepers: list[tuple[float, float | None]], steps: list[float]
) -> None:
    """`steps` are the times between the turns, from none at all to many grains."""
    wheel = DeadlineWheel(start)
    now = start
    waiting = [Sleeper(start + after, every) for after, every in sleepers]
    for one in waiting:
        assert one.deadline is not None
        wheel.schedule(one, one.deadline)
    for step in steps:
        now += step
        before = [len(one.asked) for one in waiting]
        wheel.turn(now)
        for one, count in zip(waiting, before, strict=True):
            assert len(one.asked) <= count + 1, "asked twice in one turn"
            # whoever still waits was not due for a whole grain before this turn
            assert one.deadline is None or one.deadline + GRAIN > now or len(one.asked) == count + 1


def test_a_wheel_that_turns_every_grain_is_at_most_two_grains_late() -> None:
    wheel = DeadlineWheel(0.0)
    sleepers = [Sleeper(tenth / 10) for tenth in range(100)]
    for one in sleepers:
        assert one.deadline is not None
        wheel.schedule(one, one.deadline)
    for turn in range(1, 60):
        wheel.turn(turn * GRAIN + 0.01)
    for tenth, one in enumerate(sleepers):
        (asked,) = one.asked
        assert 0 <= asked - tenth / 10 <= 2 * GRAIN


def test_standing_still_for_an_hour_asks_everyone_once_and_in_order() -> None:
    wheel = DeadlineWheel(10.0)
    order: list[float] = []

    class Noted(Sleeper):
        def on_deadline(self, now: float) -> float | None:
            order.append(self.deadline or 0.0)
            return super().on_deadline(now)

    sleepers = [Noted(10.0 + seconds, every=5.0) for seconds in (3_000, 1, 500, 2)]
    for one in sleepers:
        assert one.deadline is not None
        wheel.schedule(one, one.deadline)
    wheel.turn(3_610.0)
    assert order == [11.0, 12.0, 510.0, 3_010.0]
    assert all(one.deadline == 3_615.0 for one in sleepers)
    wheel.turn(3_612.0)
    assert len(order) == 4
    wheel.turn(3_615.0 + GRAIN)
    assert len(order) == 8


def test_a_wheel_with_nobody_on_it_stands_still_as_well() -> None:
    wheel = DeadlineWheel(0.0)
    wheel.turn(86_400.0)
    late = Sleeper(5.0)
    wheel.schedule(late, 5.0)  # long past when it comes
    wheel.turn(86_400.0 + GRAIN)
    assert late.asked == [86_400.0 + GRAIN]


def test_a_deadline_in_the_past_waits_for_the_next_turn_and_cannot_spin() -> None:
    class Impatient:
        asked = 0

        def on_deadline(self, now: float) -> float | None:
            self.asked += 1
            return now - 100.0

    wheel = DeadlineWheel(0.0)
    one = Impatient()
    wheel.schedule(one, 0.0)
    for turn in range(1, 11):
        wheel.turn(turn * GRAIN)
        assert one.asked == turn


def test_turning_again_at_the_same_time_asks_nobody_again() -> None:
    wheel = DeadlineWheel(0.0)
    one = Sleeper(1.0, every=0.0)
    wheel.schedule(one, 1.0)
    for _ in range(3):
        wheel.turn(1.3)
    assert len(one.asked) == 1
