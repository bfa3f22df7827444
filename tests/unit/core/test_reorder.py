"""The hold-back buffer: whatever a network does to the order, the recipient sees 1, 2, 3 … (promise 3)."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aldis.broker.core.reorder import HELD, Action, Held, Overflow, Release, Reorder, Repeat

TIMEOUT = 5.0


def loaded(limit: int = 4, last_seq: int = 0) -> Reorder[str]:
    buffer: Reorder[str] = Reorder(limit, TIMEOUT)
    assert buffer.loaded(last_seq, 0.0) == []
    return buffer


@given(st.integers(1, 12), st.data())
def test_any_permutation_with_repeats_is_released_once_in_order(count: int, data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.integers(1, count), max_size=8))
    arrivals = data.draw(st.permutations([*range(1, count + 1), *repeats]))
    load_after = data.draw(st.integers(0, len(arrivals)))
    buffer: Reorder[tuple[int, int]] = Reorder(count, TIMEOUT)
    actions: list[Action[tuple[int, int]]] = []
    for i, seq in enumerate(arrivals):
        if i == load_after:
            actions += buffer.loaded(0, float(i))
        actions.append(buffer.offer(seq, (seq, i), float(i)))
    if load_after == len(arrivals):
        actions += buffer.loaded(0, 0.0)
    released = [item for action in actions if isinstance(action, Release) for item in action.items]
    assert [seq for seq, _ in released] == list(range(1, count + 1))
    repeated = [action for action in actions if isinstance(action, Repeat)]
    assert len(repeated) == len(repeats)
    for action in repeated:
        # nothing is committed yet, so each repeat hangs on the item that came first
        assert action.first is not None
        assert action.first[0] == action.item[0]
        assert action.first in released
        assert action.first[1] < action.item[1]
    assert len(buffer) == 0
    assert buffer.next_deadline() is None


class Stream(RuleBasedStateMachine):
    """A sender that repeats, skips and reconnects; each item offered is a unique (seq, number)."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Reorder[tuple[int, int]] = Reorder(self.LIMIT, TIMEOUT)
        self.now = 0.0
        self.numbers = itertools.count()
        self.released: list[tuple[int, int]] = []
        self.uncommitted: dict[int, tuple[int, int]] = {}
        self.held: dict[int, tuple[tuple[int, int], float]] = {}
        self.store_last = 0
        self.asked = 0
        self.last_deadline = 0.0

    @property
    def next(self) -> int:
        return len(self.released) + 1

    def take(self, action: Action[tuple[int, int]], offered: dict[int, tuple[int, int]]) -> None:
        """Checks one action against what was on offer, and books it."""
        if isinstance(action, Release):
            assert action.items
            for item in action.items:
                assert item[0] == self.next
                self.released.append(item)
                self.uncommitted[item[0]] = item
                if offered.pop(item[0], None) != item:
                    assert self.held.pop(item[0])[0] == item
        elif isinstance(action, Repeat):
            seq = action.item[0]
            assert offered.pop(seq) == action.item
            held = self.held.get(seq)
            assert action.first == (self.uncommitted.get(seq) if held is None else held[0])
            assert seq < self.next or held is not None
        elif isinstance(action, Overflow):
            assert offered.pop(action.item[0]) == action.item
            assert self.buffer.expected is not None and len(self.held) >= self.LIMIT
        else:
            assert isinstance(action, Held)
            assert action is HELD

    @rule(step=st.integers(-3, 5))
    def offer(self, step: int) -> None:
        seq = max(1, self.next + step)
        item = (seq, next(self.numbers))
        offered = {seq: item}
        self.take(self.buffer.offer(seq, item, self.now), offered)
        if offered:
            assert seq not in self.held
            assert seq > self.next or self.buffer.expected is None
            self.held[seq] = (item, self.now)

    @precondition(lambda self: self.buffer.expected is None)
    @rule(late=st.booleans())
    def load(self, late: bool) -> None:
        """`late`: the store was asked before what has become durable since the reconnect."""
        offered = {seq: item for seq, (item, _) in self.held.items()}
        self.held.clear()
        for action in self.buffer.loaded(self.asked if late else self.store_last, self.now):
            # overflows are counted against what stays, not against what came before
            if isinstance(action, Overflow):
                assert len(offered) > self.LIMIT
                del offered[action.item[0]]
            else:
                self.take(action, offered)
        assert self.buffer.expected == self.next
        self.held = {seq: (item, self.now) for seq, item in offered.items()}
        assert all(seq > self.next for seq in self.held)

    @precondition(lambda self: self.buffer.expected is not None)
    @rule()
    def load_again(self) -> None:
        assert self.buffer.loaded(self.store_last + 5, self.now) == []
        assert self.buffer.expected == self.next

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, TIMEOUT, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        deadline = self.buffer.next_deadline()
        expected = self.buffer.expected
        items = self.buffer.expire(self.now)
        assert self.buffer.expected == expected
        if deadline is None or self.now < deadline:
            assert items == []
        else:
            assert items == [self.held[seq][0] for seq in sorted(self.held)]
            self.held.clear()

    @rule()
    def commit_one(self) -> None:
        if self.uncommitted:
            seq = min(self.uncommitted)
            del self.uncommitted[seq]
            self.buffer.committed(seq)
            self.store_last = seq

    @rule()
    def reconnect(self) -> None:
        assert self.buffer.drop() == [self.held[seq][0] for seq in sorted(self.held)]
        self.held.clear()
        self.asked = self.store_last
        assert self.buffer.expected is None

    @invariant()
    def agrees(self) -> None:
        assert len(self.buffer) == len(self.held)
        assert self.buffer.idle == (not self.held and not self.uncommitted)
        if self.buffer.expected is not None:
            assert len(self.held) <= self.LIMIT

    @invariant()
    def deadline(self) -> None:
        deadline = self.buffer.next_deadline()
        if self.buffer.expected is None or not self.held:
            assert deadline is None
            return
        assert deadline == min(since for _, since in self.held.values()) + TIMEOUT
        assert deadline >= self.last_deadline
        self.last_deadline = deadline


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_repeat_hangs_on_the_first_while_it_is_held_and_while_it_is_being_committed() -> None:
    buffer = loaded()
    assert buffer.offer(2, "two", 0.0) is HELD
    assert buffer.offer(2, "two again", 0.0) == Repeat("two again", "two")
    assert buffer.offer(1, "one", 0.0) == Release(["one", "two"])
    assert buffer.offer(2, "two once more", 0.0) == Repeat("two once more", "two")
    buffer.committed(1)
    assert buffer.offer(2, "still not durable", 0.0) == Repeat("still not durable", "two")
    buffer.committed(2)
    assert buffer.offer(2, "durable", 0.0) == Repeat("durable", None)
    assert buffer.offer(1, "durable", 0.0) == Repeat("durable", None)
    assert buffer.idle


def test_a_gap_that_outlives_its_time_fails_and_can_be_sent_again() -> None:
    buffer = loaded(last_seq=6)
    assert buffer.offer(8, "eight", 1.0) is HELD
    assert buffer.offer(9, "nine", 4.0) is HELD
    assert buffer.next_deadline() == 6.0
    assert buffer.expire(5.99) == []
    assert buffer.expire(6.0) == ["eight", "nine"]
    assert buffer.next_deadline() is None
    assert buffer.expected == 7
    assert buffer.offer(8, "eight again", 7.0) is HELD
    assert buffer.offer(7, "seven", 7.0) == Release(["seven", "eight again"])


def test_what_fills_one_gap_leaves_the_time_of_the_next_one() -> None:
    buffer = loaded()
    buffer.offer(2, "two", 0.0)
    buffer.offer(4, "four", 3.0)
    assert buffer.offer(1, "one", 4.0) == Release(["one", "two"])
    assert buffer.next_deadline() == 8.0


def test_the_newest_is_refused_when_the_buffer_is_full() -> None:
    buffer = loaded(limit=2)
    assert buffer.offer(3, "three", 0.0) is HELD
    assert buffer.offer(9, "nine", 0.0) is HELD
    assert buffer.offer(2, "two", 0.0) == Overflow("two")
    # neither a repeat nor what fills the gap needs room
    assert buffer.offer(9, "nine again", 0.0) == Repeat("nine again", "nine")
    assert buffer.offer(1, "one", 0.0) == Release(["one"])
    assert buffer.offer(2, "two again", 0.0) == Release(["two again", "three"])


def test_while_the_store_is_asked_order_needs_no_room_and_no_time() -> None:
    buffer: Reorder[int] = Reorder(2, TIMEOUT)
    for seq in range(1, 1_001):
        assert buffer.offer(seq, seq, 0.0) is HELD
    assert buffer.next_deadline() is None
    assert buffer.expire(1_000.0) == []
    first, *rest = buffer.loaded(1, 1_000.0)
    assert first == Repeat(1, None)
    assert rest == [Release(list(range(2, 1_001)))]


def test_after_loading_only_the_limit_is_held_behind_a_gap() -> None:
    buffer: Reorder[int] = Reorder(2, TIMEOUT)
    for seq in (9, 8, 6, 5, 1):
        buffer.offer(seq, seq, 0.0)
    assert buffer.loaded(0, 10.0) == [Overflow(8), Overflow(9), Release([1])]
    assert buffer.next_deadline() == 15.0
    assert buffer.expire(15.0) == [5, 6]


def test_a_reconnect_does_not_release_again_what_is_still_being_committed() -> None:
    buffer = loaded()
    assert buffer.offer(1, "one", 0.0) == Release(["one"])
    assert buffer.offer(3, "three", 0.0) is HELD
    assert buffer.drop() == ["three"]
    assert not buffer.idle
    # the client sends everything again, and the store does not know 1 yet
    assert buffer.offer(1, "one again", 1.0) is HELD
    assert buffer.loaded(0, 1.0) == [Repeat("one again", "one")]
    assert buffer.expected == 2


def test_what_becomes_durable_while_the_store_is_being_asked_counts() -> None:
    buffer = loaded()
    buffer.offer(1, "one", 0.0)
    buffer.drop()
    # the client knows that 1 is on its way: it is the same id; the store was asked before it was there
    assert buffer.offer(2, "two", 1.0) is HELD
    buffer.committed(1)
    assert buffer.loaded(0, 1.0) == [Release(["two"])]


def test_another_node_may_have_gone_on_meanwhile() -> None:
    buffer = loaded()
    buffer.offer(1, "one", 0.0)
    buffer.committed(1)
    buffer.drop()
    assert buffer.loaded(7, 1.0) == []
    assert buffer.offer(8, "eight", 1.0) == Release(["eight"])


def test_actions_are_told_apart_by_their_class() -> None:
    kinds: list[type[Any]] = [Release, Repeat, Held, Overflow]
    buffer = loaded(limit=1)
    seen = [type(buffer.offer(seq, "x", 0.0)) for seq in (1, 1, 3, 5)]
    assert seen == kinds
