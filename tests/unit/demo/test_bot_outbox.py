"""The outbox of the bot kit on its file, under a server that keeps ids and seqs, and crashes at any moment."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aldis.mobile_client_demo.bot.disk import Disk
from aldis.mobile_client_demo.bot.stored_outbox import WINDOW, OutboxFull, StoredOutbox
from aldis.mobile_client_demo.wire import Receipt


@pytest.fixture
def file(tmp_path):
    return tmp_path / "bot.db"


def opened(file, limit=1000):
    disk = Disk(file, "me", "phone")
    return disk, StoredOutbox(disk, limit=limit)


def put(box, text="x", to="bob", **how):
    return box.put(to, {"body": text}, **({"ordered": False} | how))


def ids(messages):
    return [message.id for message in messages]


def answer(box, message, mid=1):
    box.answer(Receipt("sent", message.to, id=message.id, mid=mid))
    box.acknowledge(message)


def test_what_was_put_leaves_after_a_crash_with_the_same_id_and_no_id_comes_twice(file):
    disk, box = opened(file)
    first = [put(box, str(i)) for i in range(3)]
    assert ids(box.departing()) == ids(first)
    answer(box, first[0])
    disk.close()
    disk, box = opened(file)
    again = list(box.departing())
    assert ids(again) == ids(first[1:]) and [one.content for one in again] == [one.content for one in first[1:]]
    assert put(box).id not in ids(first)
    disk.close()


def test_an_answer_that_was_only_noted_costs_a_repeat_with_the_same_id(file):
    disk, box = opened(file)
    message = put(box)
    list(box.departing())
    answer(box, message)
    disk._sql.close()  # as a crash would: what was noted is gone
    disk, box = opened(file)
    assert ids(box.departing()) == [message.id]
    disk.close()


def test_no_more_than_the_window_is_under_way_and_no_more_than_the_limit_waits(file):
    disk, box = opened(file, limit=WINDOW + 1)
    messages = [put(box) for _ in range(WINDOW + 1)]
    assert ids(box.departing()) == ids(messages[:WINDOW])
    with pytest.raises(OutboxFull):
        put(box)
    answer(box, messages[0])
    assert ids(box.departing()) == [messages[WINDOW].id]
    put(box)
    disk.close()


def test_a_refused_message_has_not_used_its_seq(file):
    disk, box = opened(file)
    first, second, third = (put(box, ordered=True) for _ in range(3))
    other = put(box, to="carol", ordered=True)
    assert [(one.id, one.seq) for one in box.departing()] == [(first.id, 1), (other.id, 1)]
    box.answer(Receipt("failed", "bob", id=first.id, reason="not_friend"))
    box.acknowledge(first)
    assert [(one.id, one.seq) for one in box.departing()] == [(second.id, 1)]
    answer(box, second)
    assert [(one.id, one.seq) for one in box.departing()] == [(third.id, 2)]
    disk.close()


def test_a_server_that_has_forgotten_our_counter_is_counted_for_anew(file):
    disk, box = opened(file)
    first, second, third = (put(box, ordered=True) for _ in range(3))
    list(box.departing())
    answer(box, first)
    assert [one.seq for one in box.departing()] == [2]
    box.answer(Receipt("failed", "bob", id=second.id, reason="gap"))
    assert [(one.id, one.content["seq"]) for one in box.departing()] == [(second.id, 1)]
    answer(box, second)
    assert [(one.id, one.seq) for one in box.departing()] == [(third.id, 2)]
    disk.close()


def test_a_gap_that_is_said_twice_makes_no_stored_message_a_failed_one(file):
    """It left twice under its old number, over a reconnect, and both were answered."""
    disk, box = opened(file)
    first, second = (put(box, ordered=True) for _ in range(2))
    list(box.departing())
    answer(box, first)
    assert [one.seq for one in box.departing()] == [2]
    box.answer(Receipt("failed", "bob", id=second.id, reason="gap"))
    assert [one.seq for one in box.departing()] == [1]
    box.answer(Receipt("failed", "bob", id=second.id, reason="gap"))
    assert not second.settled and not second.failed
    answer(box, second, mid=9)
    assert not second.failed and second.mid == 9 and disk.last_seq("bob") == 1
    disk.close()


def test_what_was_too_much_at_the_time_leaves_later(file):
    disk, box = opened(file)
    message = put(box)
    list(box.departing())
    box.answer(Receipt("failed", "bob", id=message.id, reason="rate"))
    box.acknowledge(message)
    assert not message.settled and list(box.departing()) == []
    box.try_later()
    assert ids(box.departing()) == [message.id]
    disk.close()


def answered_in_an_earlier_run(file):
    """The outbox after a start, with the message that an unhandled item has caused: sent, answered."""
    disk, box = opened(file)
    message = put(box, id="p-7.0.1", cause=7)
    list(box.departing())
    answer(box, message)
    disk.close()
    return opened(file)


def test_a_message_that_an_item_has_caused_is_known_until_the_item_is_handled(file):
    disk, box = answered_in_an_earlier_run(file)
    assert list(box.departing()) == []
    again = put(box, "another nonce", id="p-7.0.1", cause=7)
    assert again.content["body"] == "x"
    # Nobody knows any more what it was answered, and whoever sends it again may wait for that.
    assert ids(box.departing()) == ["p-7.0.1"]
    assert put(box, id="p-7.0.1", cause=7) is again and list(box.departing()) == []
    answer(box, again)
    assert put(box, id="p-7.0.1", cause=7) is again and list(box.departing()) == []
    disk.has_handled(7)
    box.handled(7)
    assert disk.outbox() == [] and box.message("p-7.0.1") is None
    disk.close()


def test_one_that_is_asked_for_again_and_not_answered_before_its_item_is_handled_goes_with_its_answer(file):
    disk, box = answered_in_an_earlier_run(file)
    again = put(box, id="p-7.0.1", cause=7)
    list(box.departing())
    disk.has_handled(7)
    box.handled(7)
    assert ids(box.waiting()) == ["p-7.0.1"]
    answer(box, again)
    assert disk.outbox() == [] and box.message("p-7.0.1") is None and len(box) == 0
    disk.close()


class Sending(RuleBasedStateMachine):
    """Against a server of the contract: an id is one message for ever, a seq is one more than the last one stored."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "bot.db"
        self.disk, self.box = opened(self.file)
        self.put, self.stored, self.refused, self.next_seq = [], {}, set(), 1
        self.wire = []

    @rule(ordered=st.booleans())
    def send(self, ordered):
        self.put.append((put(self.box, ordered=ordered).id, ordered))

    @rule()
    def leave(self):
        self.wire += [(one.id, one.seq) for one in self.box.departing()]

    @precondition(lambda self: self.wire)
    @rule(lost=st.booleans(), refuse=st.integers(0, 5))
    def serve(self, lost, refuse):
        id, seq = self.wire.pop(0)
        reason = ""
        if id not in self.stored:
            if refuse == 0:
                reason = "not_friend"
            else:
                assert seq in (None, self.next_seq), "a seq with a gap, or one that was used"
                self.next_seq += seq is not None
                self.stored[id] = len(self.stored) + 1
        if lost:
            self.reconnect()
            return
        message = self.box.message(id)
        if reason:
            self.refused.add(id)
        kind = "failed" if reason else "sent"
        self.box.answer(Receipt(kind, "bob", id=id, mid=self.stored.get(id, 0), reason=reason))
        self.box.acknowledge(message)

    @rule()
    def reconnect(self):
        self.wire = []
        self.box.offline()

    @rule(clean=st.booleans())
    def crash(self, clean):
        if clean:
            self.disk.close()
        else:
            self.disk._sql.close()
        self.disk, self.box = opened(self.file)
        self.wire = []

    @invariant()
    def nothing_is_forgotten_before_it_is_answered(self):
        open = set(ids(self.box.waiting()))
        assert {id for id, _ in self.put} <= open | set(self.stored) | self.refused

    def teardown(self):
        self.reconnect()
        while batch := list(self.box.departing()):
            for message in batch:
                if message.id not in self.stored:
                    self.stored[message.id] = len(self.stored) + 1
                answer(self.box, message, self.stored[message.id])
        # What an unordered crash has sent twice was refused, then stored; all others keep the order of sending.
        for ordered in (True, False):
            sent = [id for id, how in self.put if how is ordered and id in self.stored and id not in self.refused]
            assert sent == sorted(sent, key=self.stored.__getitem__)
        self.disk.close()
        self.folder.cleanup()


Sending.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestSending = Sending.TestCase
