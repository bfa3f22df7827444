"""The outbox: ids, seqs, and what has to leave again after a reconnect."""

from aldis.mobile_client_demo.outbox import Outbox
from aldis.mobile_client_demo.wire import Receipt


def test_ids_are_unique_and_seq_counts_per_recipient():
    box = Outbox("p")
    messages = [box.new(to, "x", {"body": "x"}, ordered=True) for to in ("bob", "bob", "carol")]
    loose = box.new("bob", "x", {"body": "x"}, ordered=False)
    assert [message.id for message in [*messages, loose]] == ["p-1", "p-2", "p-3", "p-4"]
    assert [message.seq for message in [*messages, loose]] == [1, 2, 1, None]
    assert list(messages[0].content) == ["id", "seq", "body"] and list(loose.content) == ["id", "body"]


def test_only_what_the_app_has_sent_and_is_not_settled_waits_in_sending_order():
    box = Outbox("p")
    first, second, third, fourth, unsent = (box.new("bob", "x", {}, ordered=True) for _ in range(5))
    for message in (second, first, third, fourth, second):
        box.leaving(message)
    assert box.waiting() == [second, first, third, fourth]
    for message in (first, third):
        message.acknowledged = True
    box.answer(Receipt("sent", "bob", id=first.id, mid=9))
    box.answer(Receipt("failed", "bob", id=third.id, reason="blocked"))
    assert box.waiting() == [second, fourth]
    assert unsent not in box.waiting()


def test_neither_a_puback_nor_a_receipt_alone_settles_a_message():
    box = Outbox("p")
    acknowledged, answered = (box.new("bob", "x", {}, ordered=True) for _ in range(2))
    for message in (acknowledged, answered):
        box.leaving(message)
    acknowledged.acknowledged = True
    box.answer(Receipt("sent", "bob", id=answered.id, mid=9))
    assert box.waiting() == [acknowledged, answered]


def test_the_first_answers_stand():
    box = Outbox("p")
    message = box.new("bob", "x", {}, ordered=True)
    assert (message.mid, message.failed) == (0, "")
    for mid in (9, 12):
        box.answer(Receipt("sent", "bob", id=message.id, mid=mid))
    assert message.mid == 9 and [answer.mid for answer in message.answers] == [9, 12]


def test_a_settled_message_that_leaves_again_does_not_wait():
    box = Outbox("p")
    message = box.new("bob", "x", {}, ordered=True)
    message.acknowledged = True
    box.answer(Receipt("sent", "bob", id=message.id, mid=9))
    box.leaving(message)
    assert box.waiting() == []


def test_receipts_of_other_devices_and_peers_do_not_mix():
    box = Outbox("p")
    box.answer(Receipt("sent", "bob", id="q-1", mid=3))
    box.answer(Receipt("sent", "bob", id=1, mid=3))
    box.answer(Receipt("delivered", "bob", up_to=5))
    box.answer(Receipt("read", "carol", up_to=2))
    box.answer(Receipt("delivered", "bob", up_to=4))
    assert (box.progress("bob").delivered, box.progress("bob").read) == (5, 0)
    assert (box.progress("carol").delivered, box.progress("carol").read) == (0, 2)
