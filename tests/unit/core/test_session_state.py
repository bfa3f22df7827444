"""A session that is handed over says what it would have said, whatever has happened to it before and after.

The model runs two sessions side by side from the hand-over on: the original, which stays where it is, and the one that
was told in portions, encoded, decoded and made again. Every byte that they write and every answer that they give must
be the same; where the bounds of the new node differ, the original gets those bounds, too.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.core.packets import Message
from aldis.broker.core.session import QueueRule, Session
from aldis.broker.core.session_state import PORTION, SessionState, export, restore
from tests import wire

Operation = tuple[str, Any]


def fresh(window: int = 10, queue: int = 10, rule: QueueRule | None = None) -> Session:
    return Session("alice", "phone", clean=False, max_inflight=window, max_queued=queue, rule=rule)


def handed(session: Session, portion: int = PORTION) -> list[SessionState]:
    """Through the wire between nodes."""
    encoded = [msgspec.msgpack.encode(part) for part in export(session, portion)]
    for part, data in zip(export(session, portion), encoded, strict=True):
        assert len(data) <= portion or _entries(part) == 1
    return [msgspec.msgpack.decode(data, type=SessionState) for data in encoded]


def _entries(part: SessionState) -> int:
    return len(part.subscriptions) + len(part.incoming) + len(part.under_way) + len(part.queue)


ids = st.integers(1, 8)
texts = st.sampled_from([b"", b"hi", b"a longer payload" * 3])
operations = st.one_of(
    st.tuples(st.just("deliver"), st.tuples(texts, st.integers(0, 2), st.booleans())),
    st.tuples(st.just("enqueue"), st.tuples(texts, st.integers(1, 2), st.booleans())),
    st.tuples(st.just("item"), st.integers(1, 2)),
    st.tuples(st.just("item"), st.integers(1, 2)),
    st.tuples(st.just("puback"), ids),
    st.tuples(st.just("pubrec"), ids),
    st.tuples(st.just("pubcomp"), ids),
    st.tuples(st.just("forget_items"), st.integers(0, 10)),
    st.tuples(st.just("begin"), ids),
    st.tuples(st.just("finish"), st.tuples(ids, st.none() | st.tuples(st.sampled_from(["bob", "äöü"]), texts))),
    st.tuples(st.just("pubrel"), ids),
    st.tuples(st.just("abandon"), ids),
    st.tuples(st.just("subscribe"), st.tuples(st.sampled_from(["a/#", "b", "ü/+"]), st.integers(0, 2))),
    st.tuples(st.just("suspend"), st.none()),
    st.tuples(st.just("resume"), st.none()),
)


class Story:
    """Sessions to which the same happens; after each step their answers and their bytes are compared."""

    def __init__(self, *sessions: Session) -> None:
        self.sessions = sessions
        self.n = 0

    def happens(self, operation: Operation) -> None:
        name, argument = operation
        if name == "item" and not self._item_may_go():
            return
        if name == "item" and not self.sessions[0].reserved:
            self.n += 1
        told = [self._apply(session, name, argument) for session in self.sessions]
        assert told == told[:1] * len(told)
        assert len({(session.room, tuple(session.inflight), session.interest("a/b")) for session in self.sessions}) == 1

    def _item_may_go(self) -> bool:
        first = self.sessions[0]
        return first.out is not None and (first.room > 0 or bool(first.reserved))

    def _apply(self, session: Session, name: str, argument: Any) -> tuple[Any, bytes]:
        out: list[bytes] = [] if session.out is None else session.out
        out.clear()
        answer: Any = None
        if name == "suspend":
            session.suspend()
        elif name == "resume":
            if session.out is None:
                session.resume(out)
        elif name in ("deliver", "enqueue"):
            payload, qos, retain = argument
            answer = getattr(session, name)(Message("t", payload, qos, retain), qos)
        elif name == "item":
            n = min(session.reserved) if session.reserved else self.n
            session.deliver_item(Message("inbox", b"%d" % n, n=n), argument)
        elif name == "subscribe":
            session.subscriptions[argument[0]] = argument[1]
        elif name == "begin":
            answer = session.begin_incoming(argument, "pending"), session.pending_incoming(argument)
        elif name == "finish":
            session.finish_incoming(*argument)
        elif name == "abandon":
            session.forget_incoming(argument)
        elif name == "forget_items":
            session.forget_items(argument)
        elif session.out is not None:
            answer = self._acknowledged(session, name, argument)
        return answer, b"".join(out)

    @staticmethod
    def _acknowledged(session: Session, name: str, packet_id: int) -> Any:
        if name == "pubrel":
            session.release_incoming(packet_id)
            return None
        if name == "pubcomp":
            session.completed(packet_id)
            return None
        found = session.acknowledged(packet_id) if name == "puback" else session.received(packet_id)
        return found and (found.topic, found.payload, found.n)


def keep(queue: list[tuple[Message, int]], most: int, oldest_goes: bool) -> deque[tuple[Message, int]]:
    return deque((queue[-most:] if oldest_goes else queue[:most]) if most else [])


@settings(max_examples=400, deadline=None)
@given(
    before=st.lists(operations, max_size=30),
    after=st.lists(operations, max_size=20),
    windows=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    queues=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    oldest_goes=st.booleans(),
    last_id=st.sampled_from([0, 65_533]),
    portion=st.sampled_from([50, 100, 200, PORTION]),
)
def test_a_session_that_is_handed_over_behaves_as_the_original_would(
    before: list[Operation],
    after: list[Operation],
    windows: tuple[int, int],
    queues: tuple[int, int],
    oldest_goes: bool,
    last_id: int,
    portion: int,
) -> None:
    rule = QueueRule(drop_oldest=oldest_goes)
    original = fresh(windows[0], queues[0], rule)
    original.last_id = last_id
    history = Story(original)
    history.happens(("resume", None))
    for operation in before:
        history.happens(operation)
    if original.out is not None:
        original.suspend()

    copy = fresh(windows[1], queues[1], rule)
    restore(copy, handed(original, portion))

    original.max_inflight, original.max_queued = windows[1], queues[1]
    waiting = list(original.queue or ())
    original.queue = keep(waiting, queues[1], oldest_goes) or None
    original._queued_bytes = sum(len(message.payload) for message, _ in original.queue or ())
    for packet_id in [one for one, answer in (original.incoming or {}).items() if answer == "pending"]:
        original.forget_incoming(packet_id)
    assert len(copy.queue or ()) <= queues[1] and copy.dropped == max(0, len(waiting) - queues[1])
    assert copy.subscriptions == original.subscriptions

    both = Story(original, copy)
    both.n = history.n
    for operation in [("resume", None), *after, ("suspend", None), ("resume", None), *[("item", 1)] * 5]:
        both.happens(operation)
    assert (original.incoming or {}) == (copy.incoming or {})
    assert [(m.payload, qos) for m, qos in original.queue or ()] == [(m.payload, qos) for m, qos in copy.queue or ()]
    assert original._queued_bytes == copy._queued_bytes


def busy() -> Session:
    """One of everything: ids 1 to 5 under way, two messages waiting, three PUBLISHes of the device."""
    one = fresh(window=5)
    out: list[bytes] = []
    one.resume(out)
    one.deliver(Message("t", b"first"), 1)
    one.deliver(Message("t", b"released"), 2)
    one.received(2)
    one.deliver_item(Message("inbox/alice/chat/bob", b"secret", n=7), 2)
    one.deliver(Message("t", b"fourth", retain=True), 2)
    one.deliver_item(Message("inbox/alice/chat/bob", b"secret", n=8), 1)
    one.deliver(Message("t", b"waits"), 2)
    one.deliver(Message("t", b"waits, too"), 1)
    for packet_id in (10, 11, 12):
        one.begin_incoming(packet_id, object())
    one.finish_incoming(10)
    one.finish_incoming(11, ("bob", b'{"type":"sent"}'))
    one.subscriptions.update({"devices/alice/#": 1, "inbox/alice/#": 2})
    return one


@pytest.mark.parametrize("portion", [1, 100, PORTION])
@pytest.mark.parametrize("connected", [False, True])
def test_what_the_device_hears_on_the_new_node(connected: bool, portion: int) -> None:
    original = busy()
    if not connected:
        original.suspend()
    portions = handed(original, portion)
    assert len(portions) == {1: 11, PORTION: 1}.get(portion, len(portions))
    copy = fresh(window=2)
    restore(copy, portions)
    out: list[bytes] = []
    copy.resume(out)
    assert b"".join(out) == (
        wire.publish("t", b"first", qos=1, id=1, dup=True)
        + wire.pubrel(2)
        + wire.publish("t", b"fourth", qos=2, id=4, dup=True, retain=True)
    )
    out.clear()
    assert copy.room == -3 and copy.is_reserved(7) and copy.is_reserved(8)
    copy.deliver_item(Message("inbox/alice/chat/bob", b"secret", n=7), 2)
    assert b"".join(out) == wire.publish("inbox/alice/chat/bob", b"secret", qos=2, id=3, dup=True)
    out.clear()
    copy.forget_items()
    for packet_id in (3, 2, 4):
        copy.received(packet_id)
        copy.completed(packet_id)
    assert wire.publish("t", b"waits", qos=2, id=6) in b"".join(out)
    assert copy.subscriptions == {"devices/alice/#": 1, "inbox/alice/#": 2}


def test_what_is_not_safe_yet_counts_as_new_when_it_is_repeated() -> None:
    copy = fresh()
    restore(copy, handed(busy()))
    assert copy.incoming == {10: None, 11: ("bob", b'{"type":"sent"}')}


def test_the_content_of_inbox_items_does_not_travel() -> None:
    assert not any(b"secret" in msgspec.msgpack.encode(part) for part in export(busy()))


def test_the_bytes_of_the_queue_are_bounded_on_the_new_node() -> None:
    original = fresh()
    for number in range(4):
        original.enqueue(Message("t", bytes((number,)) * 10), 1)
    copy = fresh(rule=QueueRule(max_bytes=25))
    restore(copy, handed(original))
    assert [message.payload[0] for message, _ in copy.queue or ()] == [0, 1]
    assert copy.dropped == 2


def test_a_message_larger_than_a_portion_travels_alone() -> None:
    original = fresh()
    for size in (10, 5_000, 10):
        original.enqueue(Message("t", bytes(size)), 1)
    assert [len(part.queue) for part in handed(original, 1_000)] == [1, 1, 1]


def test_the_subscriptions_of_the_greediest_session_travel_in_portions() -> None:
    original = fresh()
    original.subscriptions = {f"{'ü' * 1_000}/{number}": 1 for number in range(1_000)}
    portions = handed(original)
    assert len(portions) == 8
    copy = fresh()
    restore(copy, portions)
    assert copy.subscriptions == original.subscriptions


def test_nothing_is_one_empty_portion() -> None:
    assert handed(fresh()) == [SessionState(last_id=0)]
