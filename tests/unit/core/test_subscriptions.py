"""The tries against the plain rule `matches` over plain dicts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aldis.broker.core.subscriptions import RetainedTree, SubscriptionTree
from aldis.broker.core.topics import matches

LEVELS = st.sampled_from(["", "a", "b", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(
        st.lists(LEVELS | st.just("+"), max_size=4),
        st.booleans(),
    )
    .map(lambda parts: "/".join([*parts[0], "#"] if parts[1] else parts[0]))
    .filter(bool)
)
NEW = -1
SUBSCRIBERS = st.sampled_from(["ann", "ben", 3])


class Subscriptions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: SubscriptionTree[str | int] = SubscriptionTree()
        self.model: dict[tuple[str, str | int], int] = {}

    @rule(filter=FILTERS, subscriber=SUBSCRIBERS, qos=st.integers(0, 2))
    def add(self, filter: str, subscriber: str | int, qos: int) -> None:
        key = (filter, subscriber)
        version = self.tree.version
        assert self.tree.add(filter, subscriber, qos) == (key not in self.model)
        assert (self.tree.version > version) == (self.model.get(key) != qos)
        self.model[key] = qos

    @rule(filter=FILTERS, subscriber=SUBSCRIBERS)
    def remove_any(self, filter: str, subscriber: str | int) -> None:
        version = self.tree.version
        known = (filter, subscriber) in self.model
        assert self.tree.remove(filter, subscriber) == known
        assert (self.tree.version > version) == known
        self.model.pop((filter, subscriber), None)

    @rule(data=st.data())
    def remove_known(self, data: st.DataObject) -> None:
        if self.model:
            filter, subscriber = data.draw(st.sampled_from(sorted(self.model, key=repr)))
            assert self.tree.remove(filter, subscriber)
            del self.model[filter, subscriber]

    @rule(topic=TOPICS)
    def match(self, topic: str) -> None:
        expected: dict[str | int, int] = {}
        for (filter, subscriber), qos in self.model.items():
            if matches(filter, topic):
                expected[subscriber] = max(qos, expected.get(subscriber, 0))
        found = self.tree.match(topic)
        assert len(found) == len(expected)
        assert dict(found) == expected

    @invariant()
    def counts(self) -> None:
        assert len(self.tree) == len(self.model)

    def teardown(self) -> None:
        for filter, subscriber in self.model:
            assert self.tree.remove(filter, subscriber)
        assert self.tree._root.is_empty()
        assert len(self.tree) == 0


class Retained(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: RetainedTree[int | None] = RetainedTree()
        self.model: dict[str, int | None] = {}

    # None is a value like any other
    @rule(topic=TOPICS, value=st.integers(0, 3) | st.none())
    def put(self, topic: str, value: int | None) -> None:
        assert self.tree.put(topic, value) == (topic not in self.model)
        self.model[topic] = value

    @rule(topic=TOPICS)
    def pop(self, topic: str) -> None:
        assert self.tree.pop(topic) == self.model.pop(topic, None)

    @rule(topic=TOPICS)
    def get(self, topic: str) -> None:
        assert self.tree.get(topic) == self.model.get(topic)

    @rule(filter=FILTERS)
    def match(self, filter: str) -> None:
        found = list(self.tree.match(filter))
        expected = {topic: value for topic, value in self.model.items() if matches(filter, topic)}
        assert len(found) == len(expected)
        assert dict(found) == expected

    @invariant()
    def counts(self) -> None:
        assert len(self.tree) == len(self.model)

    def teardown(self) -> None:
        for topic in self.model:
            self.tree.pop(topic)
        assert self.tree._root.is_empty()
        assert len(self.tree) == 0


TestSubscriptions = Subscriptions.TestCase
TestSubscriptions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRetained = Retained.TestCase
TestRetained.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.dictionaries(TOPICS, st.integers(), max_size=8), FILTERS, st.data())
def test_a_retained_match_survives_changes_meanwhile(values: dict[str, int], filter: str, data: st.DataObject) -> None:
    tree: RetainedTree[int] = RetainedTree()
    for topic, value in values.items():
        tree.put(topic, value)
    removed = set(data.draw(st.lists(st.sampled_from(sorted(values)), max_size=4)) if values else [])
    found = []
    for topic, value in tree.match(filter):
        found.append(topic)
        assert value == values.get(topic, NEW)
        for gone in removed:
            tree.pop(gone)
        tree.put("new", NEW)
        tree.put("a/new/one", NEW)
    assert len(found) == len(set(found))
    stable = {topic for topic in values if matches(filter, topic)} - removed
    assert stable <= set(found)


def test_overlapping_filters_deliver_once_with_the_highest_qos() -> None:
    # [MQTT-3.3.5-1]
    tree: SubscriptionTree[str] = SubscriptionTree()
    for qos, filter in enumerate(["inbox/bob/#", "inbox/+/chat/+", "inbox/bob/chat/alice"]):
        tree.add(filter, "phone", 2 - qos)
    tree.add("inbox/#", "other", 0)
    assert sorted(tree.match("inbox/bob/chat/alice")) == [("other", 0), ("phone", 2)]


def test_a_thousand_levels_do_not_recurse() -> None:
    deep = "/".join(["a"] * 1_000)
    wild = "/".join(["+"] * 1_000)
    limit = sys.getrecursionlimit()
    tree: SubscriptionTree[str] = SubscriptionTree()
    retained: RetainedTree[int] = RetainedTree()
    sys.setrecursionlimit(_depth() + 50)
    try:
        for filter in (deep, wild, deep + "/#"):
            assert tree.add(filter, filter[:1], 1)
        assert sorted(tree.match(deep)) == [("+", 1), ("a", 1)]
        retained.put(deep, 1)
        assert list(retained.match("#")) == list(retained.match(wild)) == [(deep, 1)]
        assert retained.pop(deep) == 1
        for filter in (deep, wild, deep + "/#"):
            assert tree.remove(filter, filter[:1])
    finally:
        sys.setrecursionlimit(limit)
    assert tree._root.is_empty()
    assert retained._root.is_empty()


def _depth() -> int:
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame = frame.f_back
        depth += 1
    return depth


def test_the_cost_of_a_match_does_not_depend_on_other_filters() -> None:
    topic = "inbox/bob/chat/alice"
    tree: SubscriptionTree[int] = SubscriptionTree()
    retained: RetainedTree[int] = RetainedTree()
    tree.add("inbox/bob/#", 0, 1)
    retained.put(topic, 0)
    few = _lines(lambda: tree.match(topic)), _lines(lambda: list(retained.match("inbox/bob/chat/+")))
    for i in range(5_000):
        tree.add(f"inbox/user{i}/#", i, 1)
        tree.add(f"inbox/user{i}/+/alice", i, 1)
        tree.add(f"devices/user{i}/+/x", i, 1)
        retained.put(f"devices/user{i}/x", i)
        retained.put(f"inbox/user{i}/chat/alice", i)
    many = _lines(lambda: tree.match(topic)), _lines(lambda: list(retained.match("inbox/bob/chat/+")))
    assert few == many


def _lines(call: Callable[[], object]) -> int:
    """How many lines of Python the call runs: a cost that no busy machine disturbs."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
