"""What waits to be written: the last of each topic, in the order of users, bounded, nothing lost on the way back."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aldis.broker.core.packets import Message
from aldis.broker.core.unwritten import Unwritten

USERS = ("alice", "bob", "carol")
TOPICS = ("a", "b", "c")


def told(messages: list[Message]) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in messages]


class Writing(RuleBasedStateMachine):
    """Beside a store that takes or refuses whole batches, and a model that knows the last change of each topic."""

    def __init__(self) -> None:
        super().__init__()
        self.unwritten = Unwritten()
        self.last: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.batch: list[Message] = []
        self.number = 0

    @rule(user=st.sampled_from(USERS), topic=st.sampled_from(TOPICS))
    def change(self, user: str, topic: str) -> None:
        self.number += 1
        message = Message(f"{user}/{topic}", b"%d" % self.number)
        self.unwritten.note(user, message)
        self.last[message.topic] = message.payload

    @rule(may=st.sets(st.sampled_from(USERS)), count=st.integers(1, 4), size=st.integers(1, 40))
    def take(self, may: set[str], count: int, size: int) -> None:
        if self.batch:
            return
        self.batch = self.unwritten.take(lambda user: user in may, count, size)
        assert len(self.batch) <= count
        assert len(self.batch) <= 1 or sum(len(m.topic) + len(m.payload) for m in self.batch) <= size
        assert all(m.topic.split("/")[0] in may for m in self.batch)
        if not self.batch:
            assert not any(self.unwritten.concerns(user) for user in may)

    @rule(taken=st.booleans())
    def answer(self, taken: bool) -> None:
        if taken:
            self.stored.update((message.topic, message.payload) for message in self.batch)
            self.unwritten.written()
        else:
            self.unwritten.put_back()
        self.batch = []

    @invariant()
    def nothing_is_lost_and_only_the_last_waits(self) -> None:
        waiting = {topic: message.payload for user in USERS for topic, message in self.unwritten.of(user).items()}
        assert {**self.stored, **waiting} == self.last
        assert waiting.keys() == {topic for topic in self.last if topic in waiting}
        alone = [message for user in USERS for message in self.unwritten.waiting(user)]
        assert self.unwritten.count == len(alone)
        assert self.unwritten.bytes == sum(len(m.topic) + len(m.payload) for m in alone)
        assert len(self.unwritten) == len(alone) + len(self.batch)
        assert all(self.unwritten.concerns(user) == bool(self.unwritten.of(user)) for user in USERS)


TestWriting = Writing.TestCase
TestWriting.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_who_waits_longest_is_written_first_and_again_first_after_a_failure() -> None:
    unwritten = Unwritten()
    for user in USERS:
        unwritten.note(user, Message(f"{user}/a", b"1"))
    assert told(unwritten.take(lambda _: True, 2, 1_000)) == [("alice/a", b"1"), ("bob/a", b"1")]
    unwritten.note("bob", Message("bob/b", b"2"))
    unwritten.put_back()
    assert [m.topic for m in unwritten.take(lambda _: True, 9, 1_000)] == ["alice/a", "bob/a", "bob/b", "carol/a"]


def test_at_a_bound_what_has_waited_longest_goes() -> None:
    unwritten = Unwritten()
    for user in USERS:
        for topic in TOPICS:
            unwritten.note(user, Message(f"{user}/{topic}", b"x"))
    assert unwritten.bound(7, 1_000) == 2
    assert list(unwritten.of("alice")) == ["alice/c"]
    assert unwritten.bound(7, 20) == 5
    assert [unwritten.concerns(user) for user in USERS] == [False, False, True]
    assert unwritten.bound(0, 0) == 2
    assert (len(unwritten), unwritten.bytes) == (0, 0)
    unwritten.drop("alice", "alice/a")  # not there any more: no error
