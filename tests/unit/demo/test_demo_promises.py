"""The demo's own judges must go red: every rule is fed a good run and runs with one violation each."""

from dataclasses import replace

import pytest

from aldis.mobile_client_demo import promises as rules
from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    ItemAcknowledged,
    Malformed,
    Missing,
    Published,
    ReadSaid,
    ReceiptArrived,
    Subscribed,
)
from aldis.mobile_client_demo.promises import Broken, Checklist, arrived_as_sent, expect
from aldis.mobile_client_demo.rest import Unreachable
from aldis.mobile_client_demo.wire import Item, Receipt

ALICE = {"user": "alice", "device": "phone"}
BOB = {"user": "bob", "device": "laptop"}
EVERY_RULE = [
    rules.well_formed,
    rules.once_and_in_order,
    rules.same_inbox_everywhere,
    rules.one_message_per_id,
    rules.sent_comes_first,
    rules.never_back,
    rules.delivered_after_puback,
    rules.read_after_the_app,
]


def item(n, mid, *, kind="chat", **fields):
    return Item(kind, "alice", "bob", n, mid, 1, {"id": f"p-{mid}", **fields})


def came(n, mid, *, repeated=False, device="laptop", **fields):
    return Arrived(user="bob", device=device, item=item(n, mid, **fields), text="x", repeated=repeated)


def published(id, *, seq=None, again=False):
    return Published(**ALICE, to="bob", id=id, seq=seq, text="x", again=again)


def receipt(type, **fields):
    return ReceiptArrived(**ALICE, receipt=Receipt(type, "bob", **fields))


def acknowledged(n, mid, **fields):
    return ItemAcknowledged(**BOB, item=item(n, mid, **fields))


GOOD = [
    Subscribed(**ALICE, resumed=False),
    published("p-5", seq=1),
    receipt("sent", id="p-5", mid=5, ts=1),
    published("p-6", seq=2),
    receipt("sent", id="p-6", mid=6, ts=1),
    came(1, 5),
    came(2, 6),
    acknowledged(1, 5),
    acknowledged(2, 6),
    receipt("delivered", up_to=6),
    ReadSaid(**BOB, peer="alice", up_to=6),
    receipt("read", up_to=6),
    Disconnected(**BOB, because="test"),
    Subscribed(**BOB, resumed=True),
    came(2, 6, repeated=True),
    published("p-6", seq=2, again=True),
    receipt("sent", id="p-6", mid=6, ts=1),
    receipt("delivered", up_to=6),
    came(1, 5, device="phone"),
]


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_a_good_run_breaks_no_rule(rule):
    assert rule(GOOD) == []


@pytest.mark.parametrize(
    ("rule", "events", "complaint"),
    [
        (rules.well_formed, [Malformed(**BOB, problem="n is not a number")], "bob on laptop: n is not a number"),
        # n that is new must be above all before it
        (rules.once_and_in_order, [came(1, 5), came(3, 7), came(2, 6)], "n 2 came after n 3"),
        (rules.once_and_in_order, [came(2, 6), came(1, 5)], "n 1 came after n 2"),
        # one n, two messages
        (rules.once_and_in_order, [came(1, 5), came(1, 6)], "n 1 came twice with different contents"),
        (rules.once_and_in_order, [came(1, 5), came(1, 5, body="forged")], "n 1 came twice with different contents"),
        # one message, two n: doubled although the client drops repeats of n
        (rules.once_and_in_order, [came(1, 5), came(2, 6), came(3, 5)], "mid 5 came as n 1 and as n 3"),
        (rules.once_and_in_order, [came(1, 5), came(2, 5)], "mid 5 came as n 1 and as n 2"),
        (rules.once_and_in_order, [came(1, 5), came(2, 4)], "mid 4 at n 2 came after mid 5"),
        (rules.same_inbox_everywhere, [came(1, 5), came(1, 6, device="phone")], "bob on phone: n 1 is another item"),
        (
            rules.one_message_per_id,
            [receipt("sent", id="p", mid=5), receipt("sent", id="p", mid=6)],
            "message p got mid 5 and then mid 6",
        ),
        (
            rules.one_message_per_id,
            [receipt("sent", id="p", mid=5), receipt("sent", id="q", mid=5)],
            "mid 5 was given to two messages",
        ),
        (
            rules.one_message_per_id,
            [
                published("p", seq=1),
                published("q", seq=2),
                receipt("sent", id="q", mid=5),
                receipt("sent", id="p", mid=6),
            ],
            "seq 2 to bob has mid 5, seq 1 has mid 6",
        ),
        (
            rules.sent_comes_first,
            [published("p"), receipt("delivered", up_to=5), receipt("sent", id="p", mid=5)],
            "delivered up to 5 came before sent for mid 5",
        ),
        (
            rules.sent_comes_first,
            [published("p"), receipt("read", up_to=9), receipt("sent", id="p", mid=5)],
            "read up to 9 came before sent for mid 5",
        ),
        (
            rules.never_back,
            [receipt("delivered", up_to=6), receipt("delivered", up_to=5)],
            "delivered fell from 6 to 5",
        ),
        (rules.never_back, [receipt("read", up_to=6), receipt("read", up_to=5)], "read fell from 6 to 5"),
        (rules.delivered_after_puback, [came(1, 5), receipt("delivered", up_to=5)], "has acknowledged only up to 0"),
        (
            rules.delivered_after_puback,
            [acknowledged(1, 5), receipt("delivered", up_to=6)],
            "delivered up to 6, but bob has acknowledged only up to 5",
        ),
        (
            rules.delivered_after_puback,
            [acknowledged(1, 5, kind="system"), receipt("delivered", up_to=5)],
            "has acknowledged only up to 0",
        ),
        (rules.read_after_the_app, [acknowledged(1, 5), receipt("read", up_to=5)], "bob's app said 0"),
        (
            rules.read_after_the_app,
            [ReadSaid(**BOB, peer="alice", up_to=5), receipt("read", up_to=6)],
            "read up to 6, but bob's app said 5",
        ),
        (
            rules.read_after_the_app,
            [ReadSaid(**BOB, peer="carol", up_to=5), receipt("read", up_to=5)],
            "bob's app said 0",
        ),
    ],
)
def test_a_violation_is_found_and_named(rule, events, complaint):
    problems = rule(events)
    assert any(complaint in problem for problem in problems), problems


def test_a_sent_that_was_lost_with_its_connection_may_come_after_delivered():
    lost = [
        published("p"),
        Disconnected(**ALICE, because="test"),
        receipt("delivered", up_to=5),
        published("p", again=True),
        receipt("sent", id="p", mid=5),
    ]
    assert rules.sent_comes_first(lost) == []


def test_a_disconnect_excuses_only_its_own_device():
    events = [
        published("p"),
        Disconnected(**BOB, because="test"),
        receipt("delivered", up_to=5),
        receipt("sent", id="p", mid=5),
    ]
    assert len(rules.sent_comes_first(events)) == 1


@pytest.mark.parametrize(
    ("mids", "difference"),
    [
        ([5, 6, 7], ""),
        ([5, 6], "1 of 3 missing: p-7"),
        ([5, 6, 6, 7], "came twice: p-6"),
        ([5, 6, 7, 8], "came unasked: p-8"),
        ([5, 7, 6], "came in the order p-5, p-7, p-6 in place of p-5, p-6, p-7"),
        ([], "3 of 3 missing: p-5, p-6, p-7"),
    ],
)
def test_exactly_the_expected_messages_in_the_expected_order(mids, difference):
    assert arrived_as_sent(["p-5", "p-6", "p-7"], [item(n, mid) for n, mid in enumerate(mids, 1)]) == difference


def test_a_message_without_id_is_unasked():
    strange = replace(item(1, 5), content={"body": "x"})
    assert arrived_as_sent([], [strange]) == "came unasked: None"


# The list


def checklist():
    return Checklist({"a": "first", "b": "second"})


def problems(checks):
    return [promise.problem for promise in checks.finish()]


def test_a_block_that_ends_well_keeps_its_promise():
    checks = checklist()
    for key in ("a", "b"):
        with checks.judging(key):
            expect(True, "never said")
    assert all(promise.kept for promise in checks.finish())


@pytest.mark.parametrize("failure", [Broken("it is red"), Missing("it is red"), Unreachable("it is red")])
def test_a_block_that_fails_breaks_its_promise_and_ends_the_scene(failure):
    checks = checklist()
    with pytest.raises(Broken, match="it is red"), checks.judging("a"):
        raise failure
    assert problems(checks) == ["it is red", "not reached: the run ended early"]


def test_a_mistake_of_the_demo_itself_is_no_verdict_on_the_server():
    checks = checklist()
    with pytest.raises(ZeroDivisionError), checks.judging("a"):
        raise ZeroDivisionError
    assert problems(checks) == ["not reached: the run ended early"] * 2


def test_a_broken_promise_is_not_mended_by_a_later_good_block():
    checks = checklist()
    with pytest.raises(Broken), checks.judging("a"):
        expect(False, "red")
    with checks.judging("a"):
        pass
    checks.judge("a", [])
    assert problems(checks)[0] == "red"


def test_judging_by_rules_names_the_first_problem_and_counts_the_rest():
    checks = checklist()
    checks.judge("a", [])
    checks.judge("b", ["one", "two", "three"])
    assert problems(checks) == ["", "one (and 2 more)"]


def test_a_promise_that_was_not_reached_names_the_newest_obstacle():
    checks = checklist()
    checks.stopped("no connection")
    checks.stopped("interrupted")
    assert problems(checks) == ["not reached: interrupted"] * 2
