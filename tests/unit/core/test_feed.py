"""The rules of a feed, one by one; `test_feed_model.py` holds them together against a bad world."""

from __future__ import annotations

import pytest

from aldis.broker.core.feed import Feed, FeedState
from aldis.broker.core.packets import Message


def item(n: int, peer: str = "bob") -> Message:
    return Message("inbox/alice/chat/bob", b"", n=n, mid=1_000 + n, peer=peer)


def items(first: int, last: int) -> list[Message]:
    return [item(n) for n in range(first, last + 1)]


def attached(cursor: int = 0, head: int = 0, limit: int = 4) -> Feed:
    feed = Feed(limit)
    feed.attach(epoch=1, cursor=cursor, head=head)
    return feed


def live(cursor: int = 0, limit: int = 4) -> Feed:
    feed = attached(cursor, cursor, limit)
    assert feed.settle()
    return feed


def sent(feed: Feed, count: int = 100) -> list[int]:
    """Hands up to `count` items to the session."""
    numbers = []
    while feed.buffer and len(numbers) < count:
        message = feed.take()
        feed.sent_one(message)
        numbers.append(message.n)
    return numbers


class TestCatchingUp:
    def test_an_empty_inbox_is_live_at_once_and_says_so_once(self) -> None:
        feed = attached(cursor=7, head=7)
        assert feed.read_from() is None
        assert feed.settle()
        assert not feed.settle()
        assert feed.state is FeedState.LIVE

    def test_the_backlog_is_read_from_the_cursor_on(self) -> None:
        feed = attached(cursor=3, head=5)
        assert feed.read_from() == 3
        assert feed.read_from() is None  # one read at a time
        assert not feed.settle()
        feed.loaded(items(4, 5))
        assert not feed.settle()
        assert sent(feed) == [4, 5]
        assert feed.settle()

    def test_a_live_item_waits_until_the_backlog_is_through(self) -> None:
        feed = attached(head=2)
        assert feed.read_from() == 0
        feed.offer(item(3))
        feed.loaded(items(1, 2))
        assert [message.n for message in feed.buffer] == [1, 2]
        assert sent(feed) == [1, 2]
        assert not feed.settle()
        assert feed.read_from() == 2
        feed.loaded([item(3)])
        assert sent(feed) == [3]
        assert feed.settle()

    def test_the_very_next_item_joins_the_backlog_in_memory(self) -> None:
        feed = attached(head=2)
        feed.read_from()
        feed.loaded(items(1, 2))
        feed.offer(item(3))
        assert sent(feed) == [1, 2, 3]
        assert feed.settle()

    def test_a_failed_read_is_asked_for_again(self) -> None:
        feed = attached(head=1)
        assert feed.read_from() == 0
        feed.read_failed()
        assert not feed.settle()
        assert feed.read_from() == 0

    def test_a_number_that_the_store_does_not_have_is_passed_over(self) -> None:
        feed = attached(head=5)
        feed.read_from()
        feed.loaded([item(2), item(5)])
        assert sent(feed) == [2, 5]
        assert feed.settle()

    def test_reading_waits_until_the_buffer_is_half_empty(self) -> None:
        feed = attached(head=100, limit=4)
        feed.read_from()
        feed.loaded(items(1, 3))
        assert feed.read_from() is None
        assert sent(feed, 1) == [1]
        assert feed.read_from() == 3


class TestNews:
    def test_a_gap_is_read_from_the_store(self) -> None:
        feed = live()
        feed.offer(item(2))
        assert feed.state is FeedState.CATCHING_UP and not feed.buffer
        assert feed.read_from() == 0

    def test_doubled_and_old_news_change_nothing(self) -> None:
        feed = live(cursor=5)
        feed.offer(item(6))
        for n in (6, 5, 1):
            feed.offer(item(n))
            feed.hint(n)
        assert [message.n for message in feed.buffer] == [6]
        assert feed.state is FeedState.LIVE

    def test_only_so_many_live_items_are_kept_in_memory(self) -> None:
        feed = live(limit=2)
        for n in range(1, 6):
            feed.offer(item(n))
        assert [message.n for message in feed.buffer] == [1, 2]
        assert feed.state is FeedState.CATCHING_UP
        assert sent(feed) == [1, 2]
        assert feed.read_from() == 2
        feed.loaded(items(3, 5))
        assert sent(feed) == [3, 4, 5]
        assert feed.settle()

    def test_a_hint_alone_makes_it_read(self) -> None:
        feed = live()
        feed.hint(3)
        assert feed.read_from() == 0
        feed.loaded(items(1, 4))  # the store knows more by now
        assert sent(feed) == [1, 2, 3, 4]
        assert feed.settle()

    def test_a_hint_beyond_the_truth_is_given_up(self) -> None:
        feed = live()
        feed.hint(9)
        assert feed.read_from() == 0
        feed.loaded([item(1)])
        sent(feed)
        assert feed.read_from() == 1
        feed.loaded([])
        assert feed.settle()
        feed.offer(item(2))
        assert sent(feed) == [2]

    @pytest.mark.parametrize("hint", [False, True])
    def test_what_is_said_during_a_read_is_not_forgotten_when_the_read_finds_nothing(self, hint: bool) -> None:
        """The read began before the item was committed, so it proves nothing about it."""
        feed = live()
        feed.hint(9)
        assert feed.read_from() == 0
        if hint:
            feed.hint(1)
        else:
            feed.offer(item(1))
        feed.loaded([])
        assert not feed.settle()
        assert feed.read_from() == 0
        feed.loaded([item(1)])
        assert sent(feed) == [1]

    def test_an_absent_device_remembers_nothing(self) -> None:
        feed = Feed(4)
        feed.offer(item(1))
        feed.hint(5)
        assert (feed.head, len(feed.buffer), feed.state) == (0, 0, FeedState.OFFLINE)


class TestAcknowledged:
    def test_the_cursor_moves_over_what_has_no_gap_before_it(self) -> None:
        feed = live(limit=5)
        for n in range(1, 6):
            feed.offer(item(n, peer="ann" if n % 2 else "ben"))
        sent(feed)
        for n in (2, 4, 5):
            feed.acknowledged(n)
            assert feed.collect() is None
        feed.acknowledged(1)
        assert feed.collect() == (2, {"ann": 1_001, "ben": 1_002})
        feed.acknowledged(3)
        assert feed.collect() == (5, {"ann": 1_005, "ben": 1_004})
        assert feed.collect() is None

    def test_an_acknowledgement_that_comes_twice_changes_nothing(self) -> None:
        feed = live()
        for n in (1, 2):
            feed.offer(item(n))
        sent(feed)
        for _ in range(2):
            feed.acknowledged(1)
        assert feed.collect() == (1, {"bob": 1_001})
        assert [message.n for message in feed.outstanding] == [2]

    def test_what_is_not_for_this_device_moves_the_cursor_only_behind_what_is(self) -> None:
        feed = live()
        for n in range(1, 5):
            feed.offer(item(n))
        for wanted in (False, True, False):
            message = feed.take()
            if wanted:
                feed.sent_one(message)
            else:
                feed.pass_over()
        assert feed.collect() == (1, {})  # and gives no receipt
        feed.acknowledged(2)
        assert feed.collect() == (3, {"bob": 1_002})
        feed.take()
        feed.pass_over()
        assert feed.collect() == (4, {})

    def test_nobody_gets_a_receipt_for_a_sync_copy(self) -> None:
        feed = live()
        feed.offer(item(1, peer=""))
        sent(feed)
        feed.acknowledged(1)
        assert feed.collect() == (1, {})

    def test_detaching_keeps_only_what_is_acknowledged(self) -> None:
        feed = live()
        for n in (1, 2, 3):
            feed.offer(item(n))
        sent(feed, 2)
        feed.acknowledged(1)
        feed.detach()
        assert feed.state is FeedState.OFFLINE
        assert not feed.buffer and not feed.outstanding
        assert feed.collect() == (1, {"bob": 1_001})
        feed.acknowledged(2)  # too late: the device has another owner now
        assert feed.collect() is None

    def test_a_read_that_ends_after_detaching_is_dropped(self) -> None:
        feed = attached(head=3)
        feed.read_from()
        feed.detach()
        feed.loaded(items(1, 3))
        assert not feed.buffer
        assert feed.read_from() is None
