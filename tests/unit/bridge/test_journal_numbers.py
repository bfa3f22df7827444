"""Shards and mids of the journal, for whatever clock and history."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.bridge.journal_entries import UnreadableEntry, decode_entry, encode_entry
from aldis.bridge.journal_numbers import (
    EPOCH,
    MAX_SHARDS,
    SLOT,
    accepted_at,
    is_plausible,
    next_mid,
    shard_of,
    share_of,
    step,
)
from aldis.broker.ports import Kind, NewMessage

NOW = 1_795_000_000_000
clocks = st.integers(EPOCH + 1, EPOCH + 60 * 365 * 86_400_000)
shard_counts = st.integers(1, MAX_SHARDS)


def test_the_shard_of_a_user_never_changes() -> None:
    """A change would have messages to one inbox overtake each other."""
    assert [shard_of(user, 16) for user in ("alice", "bob", "änn", "")] == [7, 0, 14, 0]


@given(st.text(max_size=64), shard_counts)
def test_every_user_has_a_shard(user: str, shards: int) -> None:
    assert 0 <= shard_of(user, shards) < shards


@given(st.lists(st.tuples(clocks, st.integers(0, MAX_SHARDS - 1)), max_size=40), shard_counts)
def test_mids_rise_within_a_shard_and_never_meet(appends: list[tuple[int, int]], shards: int) -> None:
    """Whatever the clock does."""
    last: dict[int, int] = {}
    given_out: set[int] = set()
    for now, anybody in appends:
        shard = anybody % shards
        mid = next_mid(last.get(shard, 0), now, shard, shards)
        assert last.get(shard, 0) < mid < 2**53
        assert mid not in given_out
        given_out.add(mid)
        last[shard] = mid


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), clocks)
def test_mids_rise_when_everything_was_forgotten(pauses: list[int], begun: int) -> None:
    """Where no more than one message came per millisecond."""
    mids, now = [], begun
    for pause in pauses:
        now += pause + 1
        mids.append(next_mid(0, now, 2, 4))
    assert mids == sorted(set(mids))


@given(st.integers(0, 2**53 // 2), clocks, st.integers(0, MAX_SHARDS - 1), shard_counts)
def test_a_mid_is_above_what_must_not_be_reached_again(newest: int, now: int, anybody: int, shards: int) -> None:
    mid = next_mid(newest, now, anybody % shards, shards)
    assert mid > newest
    assert mid % SLOT == anybody % shards * step(shards) < SLOT
    assert mid % 2 == 0, "odd ones are the store's own"


@given(clocks, st.integers(0, MAX_SHARDS - 1))
def test_a_mid_tells_when_it_was_given(now: int, shard: int) -> None:
    assert accepted_at(next_mid(0, now, shard, MAX_SHARDS)) == now


def test_there_is_room_until_2089() -> None:
    last_day = int(datetime(2089, 1, 1, tzinfo=UTC).timestamp() * 1_000)
    assert next_mid(0, last_day, MAX_SHARDS - 1, MAX_SHARDS) < 2**53
    assert int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1_000) == EPOCH


def test_a_database_that_is_far_ahead() -> None:
    assert is_plausible(0, NOW)
    assert is_plausible(next_mid(0, NOW + 86_400_000, 0, 16), NOW)
    assert not is_plausible(2**53 - 1, NOW)


@given(shard_counts, st.integers(0, 300))
def test_shares_are_enough_and_even(shards: int, living: int) -> None:
    share = share_of(shards, living)
    assert share * max(1, living) >= shards
    assert (share - 1) * max(1, living) < shards


messages = st.builds(
    NewMessage,
    st.text(),
    st.text(),
    st.text(),
    st.binary(),
    st.integers(0, 2**53),
    st.sampled_from(Kind),
    st.none() | st.text(),
    st.none() | st.integers(1, 2**53),
    st.booleans(),
)


@given(messages)
def test_a_message_comes_back_as_it_was(message: NewMessage) -> None:
    assert decode_entry(encode_entry(message)) == message


@given(st.binary(max_size=200))
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    try:
        decode_entry(data)
    except UnreadableEntry:
        return
    assert data[:1] == b"\x9a"


def test_an_entry_of_another_version_is_refused() -> None:
    data = encode_entry(NewMessage("a", "b", "c", b"{}", 1))
    with pytest.raises(UnreadableEntry, match="version 2"):
        decode_entry(data[:1] + b"\x02" + data[2:])
    with pytest.raises(UnreadableEntry):
        decode_entry(data[:-1])
