"""Store, feed and device, with everything between them unreliable: promise 4 for one device, whatever happens.

Items are committed at any time; what the feed is told of them is lost, doubled, late or ahead of the truth; reads are
slow, see the inbox as it was when they began or as it is when they end, or fail; the device acknowledges in any order,
wants some items at QoS 0 and others not at all; it goes and comes back. Whatever the feed was once told of must arrive
without anybody telling it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aldis.broker.core.feed import Feed, FeedState
from aldis.broker.core.packets import Message


@dataclass
class Stored:
    """An item of the inbox and how the device wants it: QoS 1 (acknowledged), 0, or -1 (not at all)."""

    n: int
    qos: int
    peer: str
    gone: bool = False

    def message(self) -> Message:
        return Message("inbox", b"", n=self.n, mid=1_000 + self.n, peer=self.peer)


class World(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 6), batch=st.integers(1, 5), window=st.integers(1, 4))
    def begin(self, limit: int, batch: int, window: int) -> None:
        self.limit, self.batch, self.window = limit, batch, window
        self.inbox: list[Stored] = []
        self.late: list[int] = []
        self.old: list[Feed] = []
        # what is durable
        self.cursor = 0
        self.delivered: dict[str, int] = {}
        # what the device has seen and said, ever
        self.taken: set[int] = set()
        self.acknowledged: set[int] = set()
        self.feed = Feed(limit)
        self.attach()

    def attach(self) -> None:
        self.congested = False
        self.snapshot: list[Stored] | None = None
        self.failed = False
        self.in_window: list[Message] = []
        self.last = self.start = self.cursor
        self.online = False
        self.told = len(self.inbox)
        self.feed = Feed(self.limit)
        self.feed.attach(epoch=1, cursor=self.cursor, head=len(self.inbox))
        self.pump()

    @property
    def away(self) -> bool:
        return self.feed.state is FeedState.OFFLINE

    # The store

    @rule(
        qos=st.sampled_from([1, 1, 1, 0, -1]),
        peer=st.sampled_from(["", "ann", "ben"]),
        news=st.sampled_from(["live", "live", "live", "lost", "twice", "late", "hint"]),
    )
    def commit(self, qos: int, peer: str, news: str) -> None:
        n = len(self.inbox) + 1
        self.inbox.append(Stored(n, qos, peer))
        if news == "late":
            self.late.append(n)
        for _ in range({"lost": 0, "late": 0, "twice": 2}.get(news, 1)):
            self.tell(n, hint=news == "hint")

    @rule(count=st.integers(2, 12))
    def burst(self, count: int) -> None:
        for _ in range(count):
            self.commit(1, "ann", "live")

    @precondition(lambda self: self.late)
    @rule(data=st.data(), hint=st.booleans())
    def late_news(self, data: st.DataObject, hint: bool) -> None:
        n = data.draw(st.sampled_from(self.late))
        self.late.remove(n)
        self.tell(n, hint=hint)

    def tell(self, n: int, *, hint: bool) -> None:
        if hint:
            self.feed.hint(n)
        else:
            self.feed.offer(self.inbox[n - 1].message())
        if not self.away:
            self.told = max(self.told, min(n, len(self.inbox)))
        self.pump()

    @rule(beyond=st.integers(1, 4))
    def hint_beyond_the_truth(self, beyond: int) -> None:
        self.tell(len(self.inbox) + beyond, hint=True)

    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """The retention job, too early or not: what the store does not have is passed over."""
        there = [one.n for one in self.inbox if not one.gone]
        if there:
            self.inbox[data.draw(st.sampled_from(there)) - 1].gone = True

    @precondition(lambda self: self.snapshot is not None)
    @rule(outcome=st.sampled_from(["as it was", "as it is", "failed"]))
    def read_ends(self, outcome: str) -> None:
        assert self.snapshot is not None
        snapshot, self.snapshot = self.snapshot, None
        if outcome == "failed":
            self.feed.read_failed()
            self.failed = True
            return
        self.feed.loaded(self.page(snapshot if outcome == "as it was" else self.inbox))
        self.pump()

    def page(self, inbox: list[Stored]) -> list[Message]:
        return [one.message() for one in inbox if one.n > self.after and not one.gone][: self.batch]

    @precondition(lambda self: self.failed)
    @rule()
    def tick(self) -> None:
        self.failed = False
        self.pump()

    @precondition(lambda self: self.old)
    @rule()
    def a_read_of_an_earlier_attachment_ends(self) -> None:
        old = self.old.pop()
        old.loaded([Stored(n, 1, "").message() for n in range(1, 4)])
        assert not old.buffer and old.state is FeedState.OFFLINE

    # The shell

    def pump(self) -> None:
        feed = self.feed
        if self.away:
            assert not feed.buffer and feed.read_from() is None and not feed.settle()
            return
        while feed.buffer and not self.congested and len(self.in_window) < self.window:
            self.send(feed.take())
        if not self.congested:
            after = feed.read_from()
            if after is not None:
                assert self.snapshot is None, "one read at a time"
                self.after, self.snapshot = after, list(self.inbox)
            elif feed.settle():
                missing = {one.n for one in self.inbox[self.start : self.told] if not one.gone} - self.taken
                assert not missing, "online before the whole backlog was sent"
                self.online = True

    def send(self, message: Message) -> None:
        n = message.n
        assert n > self.last, "not in rising n"
        assert all(one.gone for one in self.inbox[self.last : n - 1]), "something was left out"
        self.last = n
        self.taken.add(n)
        if self.inbox[n - 1].qos == 1:
            self.feed.sent_one(message)
            self.in_window.append(message)
        else:
            self.feed.pass_over()

    @rule(congested=st.booleans())
    def congestion(self, congested: bool) -> None:
        self.congested = congested
        self.pump()

    @rule()
    def flush(self) -> None:
        before = self.cursor
        collected = self.feed.collect()
        if collected is None:
            return
        self.cursor, delivered = collected
        assert self.cursor >= before
        for one in self.inbox[before : self.cursor]:
            assert one.gone or one.n in (self.acknowledged if one.qos == 1 else self.taken)
        for peer, mid in delivered.items():
            one = self.inbox[mid - 1_001]
            assert one.peer == peer and one.qos == 1 and one.n <= self.cursor
            assert mid > self.delivered.get(peer, 0)
            self.delivered[peer] = mid

    # The device

    @precondition(lambda self: self.in_window)
    @rule(place=st.integers(0, 9))
    def acknowledge(self, place: int) -> None:
        message = self.in_window.pop(place % len(self.in_window))
        self.acknowledged.add(message.n)
        self.feed.acknowledged(message.n)
        self.pump()

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data())
    def acknowledge_again(self, data: st.DataObject) -> None:
        """Under a packet id from before it unsubscribed and subscribed again."""
        self.feed.acknowledged(data.draw(st.sampled_from(sorted(self.acknowledged))))
        self.pump()

    @precondition(lambda self: not self.away)
    @rule()
    def goes(self) -> None:
        self.flush()
        if self.snapshot is not None:
            self.old.append(self.feed)
            self.snapshot = None
        self.feed.detach()
        self.failed = False
        self.in_window.clear()

    @precondition(lambda self: self.away)
    @rule()
    def comes_back(self) -> None:
        self.attach()

    # Always, and in the end

    @invariant()
    def bounds(self) -> None:
        feed = self.feed
        assert len(feed.buffer) <= max(self.limit, self.limit // 2 + self.batch)
        assert feed.cursor <= feed.sent <= max(feed.head, feed.sent)
        assert self.away or feed.cursor >= self.cursor
        assert len(feed.outstanding) <= len(self.in_window) + len(self.acknowledged)
        if feed.state is FeedState.LIVE:
            assert self.online and not feed.reading and feed.fetched >= feed.head

    def teardown(self) -> None:
        if not hasattr(self, "feed"):
            return
        if self.away:
            self.attach()
        self.congestion(False)
        for _ in range(4 * len(self.inbox) + 100):
            if self.snapshot is not None:
                self.read_ends("as it is")
            elif self.failed:
                self.tick()
            elif self.in_window:
                self.acknowledge(0)
            else:
                break
        assert self.feed.state is FeedState.LIVE
        assert not self.feed.buffer and not self.feed.outstanding
        there = {one.n for one in self.inbox[: self.told] if not one.gone}
        assert there <= self.taken
        assert {n for n in there if self.inbox[n - 1].qos == 1} <= self.acknowledged
        self.flush()
        assert self.cursor == self.last >= max(there, default=0)
        for peer in ("ann", "ben"):
            mine = [self.inbox[n - 1] for n in self.acknowledged if self.inbox[n - 1].peer == peer and n <= self.cursor]
            least = max((1_000 + one.n for one in mine if not one.gone), default=0)
            most = max((1_000 + one.n for one in mine), default=0)
            assert least <= self.delivered.get(peer, 0) <= most


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
