"""A device's way through its inbox: OFFLINE, CATCHING UP, LIVE (design: feeds; article 9, steps 4 and 5).

Pure. The feed decides *which* item goes next; the session decides how it is sent; the shell reads the store.

    cursor          everything up to here is acknowledged (or was not meant for this device)
    sent            everything up to here was handed to the session
    fetched         the last item in `buffer`; equals `sent` when the buffer is empty
    head            the highest number known to exist

    0 …… cursor …… sent …… fetched …… head
         outstanding  buffer    in the store only

The promise "the whole backlog before the first live item" is the one rule of `offer`: a live item is taken only when it
is the very next after `fetched`; any other raises `head` and is read from the store when its turn comes. So a lost,
doubled or late wake-up changes when something arrives, never what or in which order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from aldis.broker.core.packets import Message


class FeedState(Enum):
    OFFLINE = auto()
    """Not attached: nothing is delivered, nothing is remembered."""
    CATCHING_UP = auto()
    """There are items in the store that the device has not been sent."""
    LIVE = auto()
    """Everything known was handed to the session."""


_OFFLINE = FeedState.OFFLINE
"""Members of an enum are slow to look up, and this one is asked for with every item."""


class Feed:
    """One device of one user, attached or not. `limit` bounds the buffer of live items."""

    __slots__ = (
        "_early",
        "_news",
        "buffer",
        "cursor",
        "delivered",
        "epoch",
        "head",
        "limit",
        "moved",
        "outstanding",
        "reading",
        "sent",
        "state",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.state = FeedState.OFFLINE
        self.epoch = 0
        self.cursor = 0
        self.sent = 0
        self.head = 0
        self.reading = False
        self.moved = False
        self.buffer: deque[Message] = deque()
        self.outstanding: deque[Message] = deque()
        self.delivered: dict[str, int] = {}
        self._early: set[int] = set()
        self._news = False

    def attach(self, *, epoch: int, cursor: int, head: int) -> None:
        """The device is claimed under `epoch`; it continues after `cursor`."""
        self.detach()
        self.epoch = epoch
        self.cursor = self.sent = cursor
        self.head = max(head, cursor)
        self.state = FeedState.CATCHING_UP

    def detach(self) -> None:
        """The device is gone, or someone else owns it: forget everything but what is already acknowledged."""
        self.state = FeedState.OFFLINE
        self.reading = False
        self.buffer.clear()
        self.outstanding.clear()
        self._early.clear()

    # What exists

    @property
    def fetched(self) -> int:
        return self.buffer[-1].n if self.buffer else self.sent

    def offer(self, message: Message) -> None:
        """A live item. Kept if it is the very next one and there is place; else it will be read from the store."""
        n = message.n
        if self.reading:
            self._news = True
        if n <= self.head or self.state is _OFFLINE:
            return
        buffer = self.buffer
        if not self.reading and len(buffer) < self.limit and n == (buffer[-1].n if buffer else self.sent) + 1:
            buffer.append(message)
        else:
            self.state = FeedState.CATCHING_UP
        self.head = n

    def hint(self, head: int) -> None:
        """A wake-up without the items: the inbox has reached `head`."""
        self._news = True
        if head > self.head and self.state is not FeedState.OFFLINE:
            self.head = head
            self.state = FeedState.CATCHING_UP

    def read_from(self) -> int | None:
        """The `after` of the next read of the store if one is due, None if not. The caller must answer with `loaded` or
        `read_failed`."""
        if self.reading or self.state is not FeedState.CATCHING_UP or len(self.buffer) * 2 > self.limit:
            return None
        if self.fetched >= self.head:
            return None
        self.reading = True
        self._news = False
        return self.fetched

    def loaded(self, messages: Sequence[Message]) -> None:
        """What the store had after `read_from`. The store is the truth: a number it does not have is passed over."""
        if not self.reading:
            return
        self.reading = False
        last = self.fetched
        for message in messages:
            if message.n > last:
                last = message.n
                self.buffer.append(message)
        if not messages:
            if not self._news:  # what was said since the read began may be true only after it
                self.head = last  # a hint beyond the truth
        elif last > self.head:
            self.head = last

    def read_failed(self) -> None:
        """The store could not be read; `read_from` will ask again."""
        self.reading = False

    # What is sent

    def take(self) -> Message:
        """The next item of the buffer; the caller hands it to the session and says `sent_one`, or `pass_over`."""
        message = self.buffer.popleft()
        self.sent = message.n
        return message

    def sent_one(self, message: Message) -> None:
        """The item awaits its acknowledgement."""
        self.outstanding.append(message)

    def pass_over(self) -> None:
        """The item just taken needs no acknowledgement: not for this device, or delivered at most once."""
        if not self.outstanding:
            self.cursor = self.sent
            self.moved = True

    def settle(self) -> bool:
        """True once whenever the device has caught up: everything known is with the session, and from here it is
        live."""
        if self.state is FeedState.CATCHING_UP and not self.reading and not self.buffer and self.sent >= self.head:
            self.state = FeedState.LIVE
            return True
        return False

    # What is acknowledged

    def acknowledged(self, n: int) -> None:
        """The device has item `n`. Moves the cursor over everything acknowledged without a gap, and raises `delivered`,
        per peer, to the newest message covered: cumulative, so nothing before it may be open."""
        outstanding = self.outstanding
        if not outstanding:
            return
        if outstanding[0].n != n:
            if n > self.cursor:
                self._early.add(n)
            return
        first = outstanding.popleft()
        if first.peer:
            self.delivered[first.peer] = first.mid
        early = self._early
        while early and outstanding and outstanding[0].n in early:
            message = outstanding.popleft()
            early.discard(message.n)
            if message.peer:
                self.delivered[message.peer] = message.mid
        self.cursor = outstanding[0].n - 1 if outstanding else self.sent
        self.moved = True

    def collect(self) -> tuple[int, dict[str, int]] | None:
        """What must be made durable since the last call: (cursor, delivered per peer); None if nothing moved."""
        if not self.moved:
            return None
        self.moved = False
        delivered, self.delivered = self.delivered, {}
        return self.cursor, delivered
