"""The pure parts: what may happen between two users, and how often one may try."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.accounts_api.attempts import Attempts, network_of
from aldis.bridge.accounts.errors import TooManyAttempts
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import RelationState

NOTHING = RelationState.NONE


def other(pair: Pair) -> Pair:
    """The same relation as the peer sees it."""
    return Pair(pair.peer, pair.me, pair.state, pair.blocked)


STEPS = ["ask", "accept", "decline", "unfriend", "block", "unblock"]


def step(pair: Pair, name: str) -> Pair:
    """What a call does; a call that its preconditions refuse does nothing."""
    match name:
        case "ask" if not pair.blocked_by_me:
            return pair.asked()
        case "accept" if pair.asked_by_peer and not pair.blocked_by_me:
            return pair.befriended()
        case "decline" if pair.asked_by_peer and not pair.blocked_by_me:
            return pair.parted()
        case "unfriend" if pair.friends:
            return pair.parted()
        case "block":
            return pair.block()
        case "unblock" if pair.blocked_by_me:
            return pair.unblock()
    return pair


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(STEPS)), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_friends_only_by_the_will_of_both(walk: list[tuple[bool, str]], swapped: bool) -> None:
    pair = Pair("bob", "alice", NOTHING, 0) if swapped else Pair("alice", "bob", NOTHING, 0)
    willing: set[str] = set()
    for peers_turn, name in walk:
        seen = other(pair) if peers_turn else pair
        after = step(seen, name)
        if name in ("ask", "accept") and not seen.blocked_by_me:
            willing.add(seen.me)
        if name in ("decline", "unfriend", "block"):
            willing.discard(seen.me)
        if after.friends and not seen.friends:
            assert not after.blocked_by_me, "who blocks does not make friends"
            assert name in ("ask", "accept") and seen.asked_by_peer
        assert not (after.asked_by_me and after.asked_by_peer)
        assert not (after.blocked_by_me and after.asked_by_me), "a block takes one's own request back"
        assert step(after, "block").blocked_by_me and not step(step(after, "block"), "unblock").blocked_by_me
        assert after.blocked_by_peer == seen.blocked_by_peer, "nobody undoes another's block"
        pair = other(after) if peers_turn else after


@given(st.text("abcXYZ019_.-", min_size=1, max_size=5), st.text("abcXYZ019_.-", min_size=1, max_size=5))
def test_a_pair_has_one_order(a: str, b: str) -> None:
    assert ordered(a, b) == ordered(b, a)
    assert ordered(a, b)[0].encode() <= ordered(a, b)[1].encode()


def test_attempts_run_out_and_come_back() -> None:
    attempts = Attempts(burst=2, per_minute=6)
    attempts.take("a", 0)
    attempts.take("a", 0)
    with pytest.raises(TooManyAttempts) as refused:
        attempts.take("a", 0)
    assert refused.value.retry_after == 10
    attempts.take("b", 0)
    with pytest.raises(TooManyAttempts) as refused:
        attempts.take("a", 9_999)
    assert refused.value.retry_after == 1
    attempts.take("a", 10_000)
    with pytest.raises(TooManyAttempts):
        attempts.take("a", 10_000)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    attempts = Attempts(burst=2, per_minute=6)
    attempts.take("a", 100_000)
    attempts.take("a", 50_000)
    with pytest.raises(TooManyAttempts):
        attempts.take("a", 50_000)


def test_good_attempts_are_given_back_and_full_buckets_forgotten() -> None:
    attempts = Attempts(burst=2, per_minute=6)
    for now in range(100):
        attempts.take("a", now)
        attempts.give_back("a", now)
    assert len(attempts) == 0
    attempts.give_back("a", 0)
    attempts.take("a", 0)
    attempts.take("a", 0)
    with pytest.raises(TooManyAttempts):
        attempts.take("a", 0)


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    attempts = Attempts(burst=1, per_minute=1, table=100)
    for number in range(1_000):
        attempts.take(f"key {number}", 0)
    assert len(attempts) == 100
    with pytest.raises(TooManyAttempts):
        attempts.take("key 999", 0)
    attempts.take("key 0", 0)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_whom_an_address_counts_as(host: str, network: str) -> None:
    assert network_of(host) == network
