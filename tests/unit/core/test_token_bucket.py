"""Token buckets against their law: from any moment on, t seconds let through at most burst + rate * t."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.token_bucket import Allowance, BucketTable, TokenBucket, Verdict

bursts = st.integers(1, 20)
rates = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])  # exact in binary, so the law can be checked without a tolerance
pauses = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 4.0, 64.0]), max_size=80)
sizes = st.integers(0, 12)


def law(taken: list[tuple[float, float]], burst: float, rate: float) -> None:
    """No stretch of time has let through more than the burst and what was regained in it."""
    for first, (begin, _) in enumerate(taken):
        amount = 0.0
        for now, size in taken[first:]:
            amount += size
            assert amount <= burst + rate * (now - begin), f"{amount} within {now - begin} s"


@given(bursts, rates, pauses)
def test_a_bucket_keeps_the_law_and_gives_what_it_has(burst: int, rate: float, waits: list[float]) -> None:
    bucket = TokenBucket(burst, rate, 0.0)
    taken: list[tuple[float, float]] = []
    level = float(burst)
    last = 0.0
    for now in accumulate(waits):
        level = min(float(burst), level + (now - last) * rate)
        last = now
        assert bucket.take(now) == (level >= 1), "refused although there is one, or given although there is none"
        if level >= 1:
            level -= 1
            taken.append((now, 1.0))
    law(taken, burst, rate)


@given(bursts, pauses)
def test_no_rate_is_no_limit(burst: int, waits: list[float]) -> None:
    bucket, table = TokenBucket(burst, 0, 0.0), BucketTable(burst, 0, 3)
    for now in accumulate(waits):
        assert bucket.take(now) and table.take("anyone", now) and table.untouched("anyone", now)
    assert len(table) == 0


@given(bursts, rates, st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.5, 4.0])), max_size=80))
def test_the_keys_of_a_table_do_not_share(burst: int, rate: float, steps: list[tuple[str, float]]) -> None:
    table = BucketTable(burst, rate, 3)
    alone = {key: TokenBucket(burst, rate, 0.0) for key in "abc"}
    now = 0.0
    for key, pause in steps:
        now += pause
        assert table.take(key, now) == alone[key].take(now)


@given(st.integers(1, 5), st.lists(st.text("abcdefgh", min_size=1, max_size=2), max_size=100))
def test_a_table_is_bounded_and_forgets_the_one_untouched_longest(size: int, keys: list[str]) -> None:
    table = BucketTable(1, 0.001, size)
    for key in keys:
        table.take(key, 0.0)
        assert len(table) <= size
    recent = list(dict.fromkeys(reversed(keys)))[:1]
    assert all(not table.untouched(key, 0.0) for key in recent)


steps = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.25, 1.0, 16.0]), sizes), max_size=80)


@given(bursts, rates, bursts, rates, steps)
def test_an_allowance_is_overdrawn_by_one_burst_at_most(
    burst: int, rate: float, bytes_burst: int, bytes_rate: float, given: list[tuple[float, int]]
) -> None:
    """What is taken, debt included, keeps the law of twice the burst; what is within keeps the law itself."""
    allowance = Allowance(burst, rate, bytes_burst, bytes_rate, 0.0)
    taken: list[tuple[float, float]] = []
    octets: list[tuple[float, float]] = []
    now = 0.0
    for pause, size in given:
        now += pause
        free = allowance.paid(now)
        verdict = allowance.take(size, now)
        assert verdict is not Verdict.WITHIN or (free and allowance.paid(now))
        if verdict is not Verdict.REFUSED:
            taken.append((now, 1.0))
            octets.append((now, float(size)))
            assert (verdict is Verdict.OVERDRAWN) == (not allowance.paid(now))
    law(taken, 2 * burst, rate)
    law(octets, 2 * bytes_burst, bytes_rate)


def test_a_debt_is_paid_by_time_and_what_is_refused_adds_nothing_to_it() -> None:
    allowance = Allowance(3, 1.0, 1_000, 1_000.0, 0.0)
    verdicts = [allowance.take(1, 0.0) for _ in range(20)]
    assert verdicts == [Verdict.WITHIN] * 3 + [Verdict.OVERDRAWN] * 3 + [Verdict.REFUSED] * 14
    assert not allowance.paid(2.5)
    assert allowance.paid(3.0)
    assert allowance.take(1, 3.5) is Verdict.OVERDRAWN  # half a token is none
    assert not allowance.full(6.0)
    assert allowance.full(7.5)


def test_bytes_alone_may_be_limited() -> None:
    allowance = Allowance(1, 0, 100, 10.0, 0.0)
    assert [allowance.take(60, 0.0) for _ in range(4)] == [
        Verdict.WITHIN,
        Verdict.OVERDRAWN,
        Verdict.OVERDRAWN,
        Verdict.REFUSED,
    ]


@pytest.mark.parametrize("now", [5.0, 4.0])
def test_a_clock_that_stands_still_or_goes_back_gives_nothing(now: float) -> None:
    bucket = TokenBucket(1, 100.0, 5.0)
    assert bucket.take(5.0)
    assert not bucket.take(now)
