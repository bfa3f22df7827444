"""The router against brute force: who gets what, at which QoS, with which flag; what is retained (chapter 3.3)."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session
from aldis.broker.core.topics import matches
from aldis.broker.router import Router, Subscriber
from tests import wire

MAX_RETAINED = 3
NAMES = ["ann", "ben", "cyd"]
topics = st.sampled_from(["a", "a/b", "a/b/c", "b", "/", "a/", "$SYS/a", "$SYS"])
filters = st.sampled_from(
    ["#", "+", "a/#", "a/+", "+/b", "a/b", "+/+", "/#", "$SYS/#", "$SYS/+", "a", "+/#", "a/b/c", "$SYS", "/+"]
)
qualities = st.integers(0, 2)


class Line:
    """All that the router wants of a connection."""

    congested = False


def subscriber(name: str = "ann", *, connected: bool = True) -> Subscriber:
    made = Subscriber(Session(name, "d", clean=False, max_inflight=1_000, max_queued=1_000))
    if connected:
        connect(made)
    return made


def connect(one: Subscriber) -> None:
    one.connection = Line()  # type: ignore[assignment]
    one.session.resume([])


def taken(one: Subscriber) -> list[wire.Published]:
    """What has been written for the subscriber, acknowledged at once."""
    out = one.session.out
    assert out is not None
    data = b"".join(out)
    out.clear()
    found = []
    while data:
        found.append(wire.published(data[: 2 + data[1]]))
        data = data[2 + data[1] :]
    one.session.inflight.clear()
    return found


class Routing(RuleBasedStateMachine):
    """Three sessions, connected or not, congested or not, and a model that knows only `topics.matches`."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: list[Any] = []
        self.router = Router(self.touched.append, MAX_RETAINED)
        self.subscribers = {name: subscriber(name) for name in NAMES}
        self.filters: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.waiting: dict[str, list[tuple[str, bytes, int]]] = {name: [] for name in NAMES}
        self.numbers = 0
        self.news: dict[str, tuple[bytes, int]] = {}
        self.router.on_retained = self.note

    def note(self, message: Message) -> None:
        if message.payload:
            self.news[message.topic] = message.payload, message.qos
        else:
            del self.news[message.topic]

    def wanted(self, name: str, topic: str) -> int:
        return max((qos for filter, qos in self.filters[name].items() if matches(filter, topic)), default=-1)

    @rule(name=st.sampled_from(NAMES), filter=filters, qos=qualities)
    def subscribe(self, name: str, filter: str, qos: int) -> None:
        one = self.subscribers[name]
        if one.connection is not None and one.connection.congested:
            return  # nothing is read from it meanwhile
        self.router.subscribe(one, filter, qos)
        self.filters[name][filter] = qos
        for _, message in list(self.router.retained.match(filter)):
            self.router.send_retained(one, message, qos)
        if one.connection is not None:
            expected = {
                (topic, payload, min(qos, kept))
                for topic, (payload, kept) in self.retained.items()
                if matches(filter, topic)
            }
            found = taken(one)
            assert {(sent.topic, sent.payload, sent.qos) for sent in found} == expected
            assert len(found) == len(expected)
            assert all(sent.retain and not sent.dup for sent in found)  # [MQTT-3.3.1-8]

    @rule(name=st.sampled_from(NAMES), filter=filters)
    def unsubscribe(self, name: str, filter: str) -> None:
        known = self.filters[name].pop(filter, None) is not None
        assert self.router.unsubscribe(self.subscribers[name], filter) == known

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        self.router.forget(self.subscribers[name])
        self.filters[name].clear()

    @rule(
        topic=topics,
        qos=qualities,
        retain=st.booleans(),
        empty=st.booleans(),
        denied=st.none() | st.sets(st.sampled_from(NAMES)),
    )
    def publish(self, topic: str, qos: int, retain: bool, empty: bool, denied: set[str] | None) -> None:
        self.numbers += 1
        payload = b"" if empty else b"%d" % self.numbers
        self.touched.clear()
        self.router.publish(
            Message(topic, payload, qos, retain),
            None if denied is None else frozenset(self.subscribers[name] for name in denied),
        )
        if retain and not payload:
            self.retained.pop(topic, None)  # [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        elif retain and (topic in self.retained or len(self.retained) < MAX_RETAINED):
            self.retained[topic] = payload, qos  # [MQTT-3.3.1-5], [MQTT-3.3.1-7]
        assert self.news == self.retained, "on_retained tells the same"
        for name, one in self.subscribers.items():
            granted = self.wanted(name, topic)
            at = min(granted, qos)
            gets = granted >= 0 and (denied is None or name not in denied)
            if one.connection is None or one.connection.congested:
                if gets and at > 0:
                    self.waiting[name].append((topic, payload, at))
                if one.connection is not None:
                    assert taken(one) == []
                continue
            found = taken(one)
            # once, however many filters match, with the highest QoS of them [MQTT-3.3.5-1], as news [MQTT-3.3.1-9]
            assert found == ([wire.Published(topic, payload, at, found[0].id)] if gets else [])
            assert self.touched.count(one.connection) == int(gets)

    @rule(name=st.sampled_from(NAMES))
    def disconnect(self, name: str) -> None:
        self.subscribers[name].session.suspend()
        self.subscribers[name].connection = None

    @precondition(lambda self: any(one.connection is None for one in self.subscribers.values()))
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, one in self.subscribers.items() if one.connection is None]))
        connect(self.subscribers[name])
        found = taken(self.subscribers[name])
        assert [(sent.topic, sent.payload, sent.qos) for sent in found] == self.waiting[name]
        assert not any(sent.retain or sent.dup for sent in found)
        self.waiting[name].clear()

    @rule(name=st.sampled_from(NAMES), congested=st.booleans())
    def congestion(self, name: str, congested: bool) -> None:
        """What waited for a slow reader is sent when it reads again, before anything newer."""
        one = self.subscribers[name]
        if one.connection is None:
            return
        one.connection.congested = congested
        if not congested:
            one.session.send_queued()
            found = taken(one)
            assert [(sent.topic, sent.payload, sent.qos) for sent in found] == self.waiting[name]
            self.waiting[name].clear()

    @invariant()
    def retained_ones(self) -> None:
        kept = {topic: (message.payload, message.qos) for topic, message in self.router.retained.items()}
        assert kept == self.retained
        assert all(message.retain for _, message in self.router.retained.items())
        assert len(self.router.subscriptions) == sum(map(len, self.filters.values()))


TestRouting = Routing.TestCase
TestRouting.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_route_is_looked_up_once_until_a_subscription_changes() -> None:
    router = Router(lambda _: None, 1)
    one, other = subscriber(), subscriber("ben")
    router.subscribe(one, "a/+", 1)
    route = router.route("a/b")
    assert route == [(one, 1)]
    assert router.route("a/b") is route
    router.subscribe(other, "a/b", 2)
    assert sorted(qos for _, qos in router.route("a/b")) == [1, 2]
    router.subscribe(other, "a/b", 0)
    assert sorted(qos for _, qos in router.route("a/b")) == [0, 1]
    router.unsubscribe(one, "a/+")
    assert router.route("a/b") == [(other, 0)]
    router.forget(other)
    assert router.route("a/b") == []
    same = router.route("a/b")
    router.subscribe(one, "elsewhere", 0)
    router.unsubscribe(one, "never/there")
    assert router.route("a/b") == same


def test_the_memory_of_routes_is_bounded() -> None:
    router = Router(lambda _: None, 1)
    for number in range(20_050):
        router.publish(Message(f"t/{number}", b""))
    assert 0 < len(router._routes) <= 20_000


def test_a_message_for_many_is_encoded_once_at_each_qos() -> None:
    router = Router(lambda _: None, 1)
    many = [subscriber(f"s{number}") for number in range(4)]
    for number, one in enumerate(many):
        router.subscribe(one, "a", number % 2)
    router.publish(Message("a", b"x", 1, packet_id=9))
    outs = [one.session.out for one in many]
    assert all(out is not None for out in outs)
    assert outs[0][0] is outs[2][0]  # type: ignore[index]
    assert outs[1][0] is outs[3][0]  # type: ignore[index]


def test_an_absent_device_keeps_no_more_than_its_queue() -> None:
    router = Router(lambda _: None, 1)
    one = Subscriber(Session("ann", "d", clean=False, max_inflight=1_000, max_queued=2))
    router.subscribe(one, "a", 1)
    for _ in range(5):
        router.publish(Message("a", b"x", 1))
    assert len(one.session.queue or ()) == 2
    assert one.session.dropped == 3
