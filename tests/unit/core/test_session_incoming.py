"""What a device publishes at QoS 2: passed on once, whatever is lost (MQTT 3.1.1 chapter 4.3.3)."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from aldis.broker.core.session import Session, encode_pubrec
from tests import wire


class Incoming(RuleBasedStateMachine):
    """[MQTT-4.3.3-2]: what a device publishes at QoS 2 is passed on exactly once, whatever is lost or comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session("alice", "phone", clean=False, max_inflight=1, max_queued=1)
        self.out: list[bytes] = []
        self.session.resume(self.out)
        self.numbers = 0
        self.sending: dict[int, tuple[str, int]] = {}  # the device: id -> stage (publish, release), message
        self.running: dict[int, tuple[object, int]] = {}  # the server: id -> what it waits for, message
        self.committed: list[int] = []

    @rule(id=st.integers(1, 3))
    def publish(self, id: int) -> None:
        """Sends a message, or sends it again because no PUBREC has come."""
        if id not in self.sending:
            self.numbers += 1
            self.sending[id] = ("publish", self.numbers)
        stage, number = self.sending[id]
        if stage != "publish":
            return
        pending: Any = object()
        running = self.running.get(id)
        if self.session.begin_incoming(id, pending):
            assert running is None and number not in self.committed
            self.running[id] = (pending, number)
        else:
            earlier = self.session.pending_incoming(id)
            if running is None:
                assert earlier is None and number in self.committed
                self.sending[id] = ("release", number)  # PUBREC may be repeated
            else:
                assert earlier is running[0] and running[1] == number

    @precondition(lambda self: self.running)
    @rule(data=st.data(), heard=st.booleans())
    def commit(self, data: st.DataObject, heard: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.running)))
        _, number = self.running.pop(id)
        self.committed.append(number)
        self.session.finish_incoming(id)
        if heard and self.session.out is not None:
            self.sending[id] = ("release", number)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[id]
        self.session.forget_incoming(id)

    @rule(id=st.integers(1, 3), heard=st.booleans())
    def release(self, id: int, heard: bool) -> None:
        if self.sending.get(id, ("", 0))[0] == "release" and self.session.out is not None:
            self.out.clear()
            self.session.release_incoming(id)
            assert self.out == [wire.pubcomp(id)]
            if heard:
                del self.sending[id]

    @rule()
    def reconnect(self) -> None:
        self.session.suspend()
        self.out.clear()
        self.session.resume(self.out)
        assert self.out == []

    def teardown(self) -> None:
        for id in (1, 2, 3):
            if id in self.sending:
                self.publish(id)
        for id, (_, number) in list(self.running.items()):
            self.session.finish_incoming(id)
            self.committed.append(number)
        assert sorted(self.committed) == list(range(1, self.numbers + 1))


TestIncoming = Incoming.TestCase
TestIncoming.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_was_answered_is_kept_until_the_pubrel() -> None:
    made = Session("alice", "phone", clean=False, max_inflight=1, max_queued=1)
    assert made.begin_incoming(5, "waiting")
    assert made.pending_incoming(5) == "waiting"
    made.finish_incoming(5, "receipt")
    assert not made.begin_incoming(5, "again")
    assert made.pending_incoming(5) == "receipt"
    made.release_incoming(5)
    assert made.pending_incoming(5) is None
    made.finish_incoming(5, "too late")
    assert made.begin_incoming(5, "new")


def test_a_pubrel_is_answered_even_if_nothing_is_known_of_it() -> None:
    made = Session("alice", "phone", clean=False, max_inflight=1, max_queued=1)
    out: list[bytes] = []
    made.resume(out)
    made.release_incoming(9)
    assert out == [wire.pubcomp(9)]
    assert made.incoming is None
    assert encode_pubrec(9) == wire.pubrec(9)
