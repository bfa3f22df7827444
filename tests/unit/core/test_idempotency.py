"""The window of ids against a model that forgets nothing it must keep."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aldis.broker.core.idempotency import PENDING, Pending, RecentIds

LIMIT = 3
IDS = st.sampled_from(['"a"', '"b"', "17", '"17"', '""', "-1"])


class Ids(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ids: RecentIds[int] = RecentIds(LIMIT)
        self.flight: dict[str, list[int]] = {}
        self.done: list[tuple[str, tuple[int, int]]] = []
        self.counter = 0

    @rule(id=IDS)
    def begin(self, id: str) -> None:
        outcome = self.ids.begin(id)
        if id in dict(self.done):
            assert outcome == dict(self.done)[id]
        elif id in self.flight:
            assert outcome is PENDING
            assert isinstance(outcome, Pending)
        else:
            assert outcome is None
            self.flight[id] = []

    @rule(id=IDS)
    def attach(self, id: str) -> None:
        self.counter += 1
        if id in self.flight:
            self.ids.attach(id, self.counter)
            self.flight[id].append(self.counter)
        else:
            with pytest.raises(KeyError):
                self.ids.attach(id, self.counter)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.flight:
            id = data.draw(st.sampled_from(sorted(self.flight)))
            self.counter += 1
            assert self.ids.done(id, self.counter, -self.counter) == self.flight.pop(id)
            self.done = [*self.done, (id, (self.counter, -self.counter))][-LIMIT:]

    @rule(id=IDS)
    def abandon(self, id: str) -> None:
        assert self.ids.abandon(id) == self.flight.pop(id, [])

    @rule()
    def detach_all(self) -> None:
        assert sorted(self.ids.detach_all()) == sorted(waiter for waiters in self.flight.values() for waiter in waiters)
        self.flight = {id: [] for id in self.flight}

    @invariant()
    def sizes(self) -> None:
        assert self.ids.in_flight == len(self.flight)
        assert len(self.ids) == len(self.flight) + len(self.done)


TestIds = Ids.TestCase
TestIds.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_ids_in_flight_are_never_evicted() -> None:
    ids: RecentIds[str] = RecentIds(1)
    assert ids.begin('"slow"') is None
    for i in range(100):
        assert ids.begin(str(i)) is None
        ids.done(str(i), i, i)
    assert ids.begin('"slow"') is PENDING
    ids.attach('"slow"', "again")
    assert ids.done('"slow"', 1_000, 5) == ["again"]
    assert ids.begin('"slow"') == (1_000, 5)
    assert ids.begin("99") is None
