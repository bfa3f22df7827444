"""A session and a device that obeys the standard, with a link between them that breaks after any packet.

The model books every packet that the session writes. Always: the window is not exceeded, a packet id in use is not
given to another message, what is sent again carries DUP, its old id and its old place in the order, plain messages
leave in the order in which they were taken. And in the end, on a good link, everything arrives: QoS 1 at least once,
QoS 2 exactly once, inbox items in rising n.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aldis.broker.core.packets import Message
from aldis.broker.core.session import QueueRule, Session
from tests import wire

_PUBREL = 0x62


@dataclass
class UnderWay:
    """What must be remembered about a packet id. `stage`: sent, released (PUBREC came), reserved (the link broke)."""

    payload: bytes
    qos: int
    n: int
    stage: str = "sent"


def packets(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 2 + data[1]
        assert size < 128
        found.append(data[:size])
        data = data[size:]
    return found


class Link(RuleBasedStateMachine):
    @initialize(
        window=st.integers(1, 4),
        queue=st.integers(0, 4),
        last_id=st.sampled_from([0, 65_533]),
        burst=st.sampled_from([1, 6, 1_000]),
    )
    def begin(self, window: int, queue: int, last_id: int, burst: int) -> None:
        rule = QueueRule(max_bytes=1_000_000, drop_oldest=False, burst=burst)
        self.session = Session("u", "d", clean=False, max_inflight=window, max_queued=queue, rule=rule)
        self.session.last_id = last_id
        self.out: list[bytes] = []
        self.connected = self.attached = self.slow = False
        self.under_way: dict[int, UnderWay] = {}
        self.queued: deque[bytes] = deque()
        self.accepted: dict[int, list[bytes]] = {1: [], 2: []}
        self.judged: tuple[int, str] | None = None
        # the inbox: QoS of item 1, 2 …
        self.items: list[int] = []
        self.cursor = self.sent_item = 0
        self.acknowledged: set[int] = set()
        self.elsewhere: set[int] = set()
        self.anew: set[int] = set()
        # the link and the device
        self.down: deque[bytes] = deque()
        self.up: deque[tuple[str, int]] = deque()
        self.owed: list[tuple[str, int, bool]] = []
        self.unreleased: set[int] = set()
        self.got: list[bytes] = []
        self.counter = 0

    # What the session writes

    def collect(self) -> list[bytes]:
        found = packets(b"".join(self.out))
        self.out.clear()
        for packet in found:
            self.book(packet)
        self.down += found
        return found

    def book(self, packet: bytes) -> None:
        if not wire.is_publish(packet):
            assert packet[0] == _PUBREL
            entry = self.under_way.get(int.from_bytes(packet[2:], "big"))
            assert entry is None or entry.stage == "released"
            return
        sent = wire.published(packet)
        if sent.qos == 0:
            assert not sent.dup
            return
        assert 1 <= sent.id <= 65_535
        entry = self.under_way.get(sent.id)
        if entry is not None:
            assert sent.dup, "a packet id in use was given away"
            assert (sent.payload, sent.qos) == (entry.payload, entry.qos)
            assert entry.stage in ("sent", "reserved")
            entry.stage = "sent"
            return
        assert not sent.dup
        n = 0
        if sent.topic == "inbox":
            n = int(sent.payload)
            assert n == self.sent_item
        else:
            assert sent.payload == self.queued.popleft(), "plain messages leave in the order in which they came"
        self.under_way[sent.id] = UnderWay(sent.payload, sent.qos, n)

    # Messages come

    @rule(qos=st.sampled_from([0, 1, 1, 2, 2]), retain=st.booleans())
    def publish(self, qos: int, retain: bool) -> None:
        self.counter += 1
        payload = b"%d/%d" % (qos, self.counter)
        room = self.connected and len(self.under_way) < self.session.max_inflight and not self.queued
        expected = self.connected if qos == 0 else room or len(self.queued) < self.session.max_queued
        dropped = self.session.dropped
        if qos and expected:
            self.accepted[qos].append(payload)
            self.queued.append(payload)
        assert self.session.deliver(Message("t", payload, retain=retain), qos) == expected
        assert self.session.dropped - dropped == int(qos > 0 and not expected)
        for packet in self.collect():
            assert wire.published(packet).retain == retain

    @precondition(lambda self: self.connected)
    @rule(qos=st.integers(1, 2))
    def publish_to_a_slow_reader(self, qos: int) -> None:
        """It goes into the queue, whatever the window has room for, until the device reads again."""
        self.counter += 1
        payload = b"%d/%d" % (qos, self.counter)
        expected = len(self.queued) < self.session.max_queued
        assert self.session.enqueue(Message("t", payload), qos) == expected
        if expected:
            self.accepted[qos].append(payload)
            self.queued.append(payload)
        assert self.out == []
        self.slow = True

    @precondition(lambda self: self.slow and self.connected)
    @rule()
    def reads_again(self) -> None:
        self.slow = False
        self.session.send_queued()
        self.collect()

    @rule(qos=st.integers(1, 2))
    def item(self, qos: int) -> None:
        self.items.append(qos)
        self.pump()

    def pump(self) -> None:
        """What the shell does: the next items, while the window takes them or they have their place in it already."""
        while self.attached and self.sent_item < len(self.items):
            n = self.sent_item + 1
            reserved = any(one.n == n and one.stage == "reserved" for one in self.under_way.values())
            assert self.session.is_reserved(n) == reserved
            if self.session.room <= 0 and not reserved:
                return
            self.sent_item = n
            self.session.deliver_item(Message("inbox", b"%d" % n, n=n), self.items[n - 1])
            assert len(self.collect()) == 1
        if self.attached:
            self.session.forget_items()
            self.forget(len(self.items))

    def forget(self, up_to: int) -> None:
        for id in [id for id, one in self.under_way.items() if one.stage == "reserved" and one.n <= up_to]:
            del self.under_way[id]
        self.collect()

    # The device

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 4))
    def receive(self, count: int) -> None:
        while self.down and count:
            count -= 1
            packet = self.down.popleft()
            if not wire.is_publish(packet):
                id = int.from_bytes(packet[2:], "big")
                self.unreleased.discard(id)
                self.owed.append(("pubcomp", id, False))
                continue
            sent = wire.published(packet)
            if sent.qos < 2 or sent.id not in self.unreleased:
                self.got.append(sent.payload)
            if sent.qos == 2:
                self.unreleased.add(sent.id)
            if sent.qos:
                self.owed.append(("puback" if sent.qos == 1 else "pubrec", sent.id, sent.topic == "inbox"))

    @precondition(lambda self: self.owed)
    @rule(place=st.integers(0, 20))
    def answer(self, place: int) -> None:
        """Plain messages in any order, since not every device is a good one; items in theirs."""
        place %= len(self.owed)
        if self.owed[place][2]:
            place = next(i for i, (_, _, item) in enumerate(self.owed) if item)
        kind, id, _ = self.owed.pop(place)
        self.up.append((kind, id))

    @precondition(lambda self: self.up)
    @rule()
    def arrive(self) -> None:
        kind, id = self.up.popleft()
        entry = self.under_way.get(id)
        message: Message | None = None
        if kind == "puback":
            message = self.session.acknowledged(id)
            done = entry is not None and entry.stage == "sent" and entry.qos == 1
        elif kind == "pubrec":
            message = self.session.received(id)
            done = entry is not None and entry.stage == "sent" and entry.qos == 2
            if done and entry is not None:
                entry.stage = "released"
            if entry is None or entry.stage == "released":
                assert self.out[0] == bytes((_PUBREL, 2)) + id.to_bytes(2, "big")
        else:
            self.session.completed(id)
            done = False
            if entry is not None and entry.stage == "released":
                del self.under_way[id]
        assert (message is not None) == done
        if done and entry is not None and message is not None:
            assert message.payload == entry.payload
            if kind == "puback":
                del self.under_way[id]
            if entry.n:
                self.acknowledged.add(entry.n)
                while self.cursor + 1 in self.acknowledged:
                    self.cursor += 1
        self.collect()
        self.pump()

    @precondition(lambda self: self.connected)
    @rule(kind=st.sampled_from(["puback", "pubrec", "pubcomp"]), id=st.integers(1, 6) | st.integers(65_530, 65_535))
    def stray(self, kind: str, id: int) -> None:
        """An acknowledgement that nobody waits for."""
        entry = self.under_way.get(id)
        waited_for = {"puback": ("sent", 1), "pubrec": ("sent", 2), "pubcomp": ("released", 2)}[kind]
        if entry is None or (entry.stage, entry.qos) != waited_for:
            self.up.appendleft((kind, id))
            self.arrive()

    # The link

    @precondition(lambda self: self.connected)
    @rule(heard=st.integers(0, 5), said=st.integers(0, 5))
    def break_link(self, heard: int, said: int) -> None:
        """The device has read `heard` packets more, and the session `said`; the rest is lost."""
        if self.down and heard:
            self.receive(heard)
        while self.up and said:
            said -= 1
            self.arrive()
        self.session.suspend()
        self.connected = self.attached = False
        self.down.clear()
        self.up.clear()
        self.owed.clear()
        for one in self.under_way.values():
            if one.n and one.stage == "sent":
                one.stage = "reserved"

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        again = [id for id, one in self.under_way.items() if one.stage != "reserved"]
        self.out = []
        self.session.resume(self.out)
        self.connected = True
        self.judged = None
        found = self.collect()
        resent = found[: len(again)]
        assert [
            wire.published(one).id if wire.is_publish(one) else int.from_bytes(one[2:], "big") for one in resent
        ] == again
        assert all(wire.published(one).dup for one in resent if wire.is_publish(one))
        assert not any(wire.published(one).dup for one in found[len(again) :])

    @precondition(lambda self: self.connected and not self.attached)
    @rule(elsewhere=st.integers(0, 3))
    def attach(self, elsewhere: int) -> None:
        """The device was perhaps on another node meanwhile, and took some items there."""
        reached = min(self.cursor + elsewhere, len(self.items))
        self.elsewhere.update(range(self.cursor + 1, reached + 1))
        self.cursor = self.sent_item = reached
        self.attached = True
        self.session.forget_items(reached)
        self.forget(reached)
        self.pump()

    @precondition(lambda self: self.attached)
    @rule()
    def leave_inbox(self) -> None:
        """It unsubscribes: what was under way will come anew, under another packet id, if it ever subscribes again."""
        self.attached = False
        self.session.reserve_items()
        self.session.forget_items()
        for one in self.under_way.values():
            if one.n and one.stage == "sent":
                one.stage = "reserved"
                self.anew.add(one.n)
        self.forget(len(self.items))

    @precondition(lambda self: self.connected)
    @rule()
    def send_again(self) -> None:
        again = [id for id, one in self.under_way.items() if one.stage != "reserved"]
        self.session.send_again()
        assert len(self.collect()) == len(again)

    @precondition(lambda self: self.connected)
    @rule()
    def judge(self) -> None:
        oldest = next(((id, one.stage) for id, one in self.under_way.items() if one.stage != "reserved"), None)
        assert self.session.stalled() == (oldest is not None and oldest == self.judged)
        self.judged = oldest

    # What always holds, and what holds in the end

    @invariant()
    def window(self) -> None:
        session = self.session
        assert list(session.inflight) == list(self.under_way)
        assert session.room == session.max_inflight - len(self.under_way) >= 0
        assert len(session.queue or ()) == len(self.queued) <= session.max_queued
        if self.connected and not self.slow:
            waits = any(one.stage != "reserved" for one in self.under_way.values())
            assert not self.queued or session.room == 0 or waits, "a queue that nothing will ever move"

    def teardown(self) -> None:
        if not hasattr(self, "session"):
            return
        if not self.connected:
            self.connect()
        if not self.attached:
            self.attach(0)
        self.reads_again()
        for _ in range(200):
            if not (self.down or self.owed or self.up):
                break
            if self.down:
                self.receive(len(self.down))
            while self.owed:
                self.answer(0)
            while self.up:
                self.arrive()
        assert self.under_way == {}
        assert self.session.inflight == {}
        assert self.session.queue is None
        assert not self.session.reserved
        first = list(dict.fromkeys(self.got))
        assert [one for one in first if one.startswith(b"1/")] == self.accepted[1]
        assert [one for one in self.got if one.startswith(b"2/")] == self.accepted[2]
        assert self.cursor == len(self.items)
        here = [int(one) for one in self.got if b"/" not in one]
        assert set(here) | self.elsewhere == set(range(1, len(self.items) + 1))
        assert list(dict.fromkeys(here)) == sorted(set(here))
        for n, qos in enumerate(self.items, 1):
            if qos == 2 and n not in self.anew:
                assert here.count(n) <= 1


TestLink = Link.TestCase
TestLink.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
