"""Faults to be planted into a good history, each with the invariants that must then go red, and no others.

Each takes the events (a copy) and changes them as a broken server would have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tests.faults.history import Event, What

Events = list[Event]
Plant = Callable[[Events], Events]

PLANTED: dict[str, tuple[Plant, set[str]]] = {}


def plant(*red: str) -> Callable[[Plant], Plant]:
    def register(change: Plant) -> Plant:
        PLANTED[change.__name__.replace("_", " ")] = change, set(red)
        return change

    return register


def _where(events: Events, what: What, **fields: Any) -> list[int]:
    return [
        index
        for index, event in enumerate(events)
        if event.what is what and all(getattr(event, key) == value for key, value in fields.items())
    ]


def _without(events: Events, *indices: int) -> Events:
    return [event for index, event in enumerate(events) if index not in indices]


def _changed(events: Events, index: int, **fields: Any) -> Events:
    events[index] = msgspec.structs.replace(events[index], **fields)
    return events


def _copied(events: Events, index: int, after: int, **fields: Any) -> Events:
    """The event once more, right after another one."""
    copy = msgspec.structs.replace(events[index], t=events[after].t + 0.01, **fields)
    return [*events[: after + 1], copy, *events[after + 1 :]]


TABLET = {"user": "bob", "device": "tablet"}
PHONE = {"user": "bob", "device": "phone"}
MINE = {"user": "ada", "device": "phone"}


@plant("everything_arrives", "no_holes", "store_and_wire_agree")
def a_message_is_lost_on_one_device(events: Events) -> Events:
    (got,) = _where(events, What.GOT, **TABLET, token="ada/phone>bob#7")
    return _without(events, got, got + 1)


@plant("everything_arrives", "store_and_wire_agree")
def the_last_message_is_lost_on_one_device(events: Events) -> Events:
    """No later n betrays it."""
    got = _where(events, What.GOT, **TABLET, kind="chat")[-1]
    return _without(events, got, got + 1)


@plant("everything_arrives", "copies_arrive", "store_and_wire_agree", "delivered_is_true")
def an_acknowledged_message_is_lost_altogether(events: Events) -> Events:
    """Ada's last one: nobody has it, nor the store; she was told `sent` and `delivered` all the same."""
    token = "ada/phone>bob#12"
    lost = {event.n for event in events if event.token == token and event.user == "bob"} - {0}
    late = {event.n for event in events if event.token == token and event.user == "ada"} - {0}
    events = [event for event in events if not (event.what is What.GOT and event.token == token)]
    for user, gone in (("bob", lost), ("ada", late)):
        (n,) = gone
        events = [
            msgspec.structs.replace(event, n=event.n - 1) if event.user == user and event.n > n else event
            for event in events
            if not (event.what is What.TAKING and event.user == user and event.n == n)
        ]
    (store,) = _where(events, What.STORE)
    data = msgspec.json.decode(msgspec.json.encode(events[store].data))
    (mid,) = [row[0] for row in data["messages"] if row[5] == token]
    data["messages"] = [row for row in data["messages"] if row[5] != token]
    for user, (base, head, mids) in data["inboxes"].items():
        data["inboxes"][user] = [base, head - 1, [one for one in mids if one != mid]]
    data["cursors"] = {user: {name: at - 1 for name, at in of.items()} for user, of in data["cursors"].items()}
    data["receipts"][0][2] -= 2
    return _changed(events, store, data=data)


@plant("copies_arrive", "no_holes", "store_and_wire_agree")
def a_copy_is_lost(events: Events) -> Events:
    got = _where(events, What.GOT, user="ada", device="laptop", kind="sync")[-1]
    return _without(events, got, got + 1)


@plant("everywhere_or_nowhere", "no_holes", "store_and_wire_agree")
def what_was_never_answered_is_somewhere_only(events: Events) -> Events:
    events = [
        event
        for event in events
        if not (event.what is What.ACKNOWLEDGED and event.token == "ada/phone>bob#11")
        and not (event.what is What.RECEIPT and event.kind == "sent" and event.user == "ada" and event.id == 11)
    ]
    (got,) = _where(events, What.GOT, user="ada", device="laptop", token="ada/phone>bob#11")
    return _without(events, got, got + 1)


@plant("once", "store_and_wire_agree")
def a_message_comes_under_a_second_number(events: Events) -> Events:
    last = _where(events, What.GOT, **PHONE)[-1]
    (got,) = _where(events, What.GOT, **PHONE, token="ada/phone>bob#5")
    return _copied(events, got, last + 1, n=events[last].n + 1)


@plant("once", "one_result_per_id", "store_and_wire_agree")
def a_message_is_stored_twice(events: Events) -> Events:
    last = _where(events, What.GOT, **PHONE)[-1]
    (got,) = _where(events, What.GOT, **PHONE, token="ada/phone>bob#5")
    return _copied(events, got, last + 1, n=events[last].n + 1, mid=9_999)


@plant("one_item_per_number", "once", "in_order", "store_and_wire_agree")
def two_devices_have_different_items_under_a_number(events: Events) -> Events:
    first, second = _where(events, What.GOT, **PHONE, kind="chat")[3:5]
    one, two = events[first], events[second]
    events = _changed(events, first, token=two.token, mid=two.mid, sum=two.sum)
    return _changed(events, second, token=one.token, mid=one.mid, sum=one.sum)


@plant("one_item_per_number", "once")
def a_repeat_of_a_number_is_another_item(events: Events) -> Events:
    got = _where(events, What.GOT, **PHONE, kind="chat")
    earlier = _where(events, What.GOT, **PHONE, kind="sync")[0]
    return _copied(events, got[4], got[5], n=events[earlier].n)


@plant("no_holes")
def items_come_in_the_wrong_order(events: Events) -> Events:
    """Within one device, each under its right number."""
    first, second = _where(events, What.GOT, user="bob", device="watch", kind="chat")[3:5]
    one, two = events[first].t, events[second].t
    events[first], events[second] = events[second], events[first]
    events = _changed(events, first, t=one)
    return _changed(events, second, t=two)


@plant("in_order")
def a_sender_is_stored_in_the_wrong_order(events: Events) -> Events:
    """Everywhere the same: as if the second of two messages had been committed first."""
    names = {"ada/phone>bob#3": "ada/phone>bob#4", "ada/phone>bob#4": "ada/phone>bob#3"}
    for index in _where(events, What.PUBLISHING, user="ada"):
        # the numbers of what was said change places; everything that the server did stays
        events = _renamed(events, index, names)
    events = [
        msgspec.structs.replace(event, token=names.get(event.token, event.token))
        if event.what in (What.GOT, What.ACKNOWLEDGED, What.AGAIN)
        else event
        for event in events
    ]
    (store,) = _where(events, What.STORE)
    data = msgspec.json.decode(msgspec.json.encode(events[store].data))
    data["messages"] = [[*row[:5], names.get(row[5], row[5])] for row in data["messages"]]
    return _changed(events, store, data=data)


def _renamed(events: Events, index: int, names: dict[str, str]) -> Events:
    token = events[index].token
    return _changed(events, index, token=names.get(token, token))


@plant("nobody_else")
def a_stranger_gets_a_message(events: Events) -> Events:
    (got,) = _where(events, What.GOT, **PHONE, token="ada/phone>bob#6")
    return _copied(events, got, got, user="eve", device="phone", conn=6, to="eve", n=1)


@plant("nobody_else")
def a_message_comes_on_the_topic_of_another(events: Events) -> Events:
    (got,) = _where(events, What.GOT, user="bob", device="watch", token="ada/phone>bob#6")
    return _changed(events, got, to="eve")


@plant("nobody_else", "one_item_per_number")
def a_message_is_said_to_be_from_another(events: Events) -> Events:
    (got,) = _where(events, What.GOT, user="bob", device="watch", token="ada/phone>bob#6")
    return _changed(events, got, peer="eve")


@plant("nobody_else")
def a_copy_names_the_wrong_device(events: Events) -> Events:
    got = _where(events, What.GOT, user="bob", device="watch", kind="sync")[2]
    return _changed(events, got, note="phone")


@plant("unaltered", "one_item_per_number")
def a_message_is_changed_on_the_way(events: Events) -> Events:
    (got,) = _where(events, What.GOT, **PHONE, token="ada/phone>bob#6")
    return _changed(events, got, sum=4711)


@plant("unaltered", "store_and_wire_agree")
def a_message_comes_that_nobody_sent(events: Events) -> Events:
    last = _where(events, What.GOT, **PHONE)[-1]
    return _copied(
        events, last, last + 1, n=events[last].n + 1, mid=9_999, kind="chat", token="ada/phone>bob#999", note=""
    )


@plant("nothing_after_forbidden", "store_and_wire_agree")
def a_blocked_user_gets_through(events: Events) -> Events:
    last = _where(events, What.GOT, user="ada", device="laptop")[-1]
    end = _where(events, What.PUBLISHING, user="carol", id="late")[0]
    late = {"n": events[last].n + 1, "mid": 6_000, "token": "carol/phone>ada#1000", "sum": 1, "note": ""}
    return _copied(events, last, end, **late, peer="carol", kind="chat")


@plant("nothing_after_a_kick")
def a_kicked_device_gets_something(events: Events) -> Events:
    (kicked,) = _where(events, What.KICKED)
    n = max(events[index].n for index in _where(events, What.GOT, user="bob", device="doomed")) + 1
    after = next(index for index in _where(events, What.GOT, **PHONE, n=n) if index > kicked)
    return _copied(events, after, after, device="doomed", conn=7)


@plant("nothing_after_a_kick")
def a_kicked_device_comes_back(events: Events) -> Events:
    (kicked,) = _where(events, What.KICKED)
    connected = _where(events, What.CONNECTED, device="doomed")[0]
    return _copied(events, connected, kicked + 5, conn=99)


@plant("one_owner")
def an_old_connection_is_still_served(events: Events) -> Events:
    middle = _where(events, What.GOT, user="bob", device="watch")[5]
    (subscribed,) = _where(events, What.SUBSCRIBED, user="bob", device="watch")
    return _copied(events, subscribed, middle, conn=98)


@plant("refusals_are_just")
def a_friend_is_refused(events: Events) -> Events:
    token = "eve/phone>ada#1"
    friends = _where(events, What.FRIENDS)[0]
    quiet = _where(events, What.FORBIDDING)[0]
    said = Event(
        events[quiet].t - 0.05, What.PUBLISHING, user="eve", device="phone", conn=6, token=token, to="ada", id=1, qos=1
    )
    failed = Event(said.t + 0.01, What.RECEIPT, user="eve", device="phone", conn=6, peer="ada", kind="failed", id=1)
    failed.note = "not_friend"
    return [
        *events[: friends + 1],
        msgspec.structs.replace(events[friends], user="ada", peer="eve"),
        *events[friends + 1 : quiet],
        said,
        failed,
        *events[quiet:],
    ]


@plant("refusals_are_just", "everything_arrives", "store_and_wire_agree")
def a_stranger_is_told_that_it_was_sent(events: Events) -> Events:
    failed = _where(events, What.RECEIPT, user="eve", kind="failed")[0]
    return _changed(events, failed, kind="sent", mid=7_777, note="")


@plant("one_result_per_id")
def a_repeat_gets_another_mid(events: Events) -> Events:
    again = _where(events, What.RECEIPT, user="ada", kind="sent", id=4)[1]
    return _changed(events, again, mid=8_888)


@plant("one_result_per_id")
def a_repeat_is_refused(events: Events) -> Events:
    """Bob has blocked Ada meanwhile, but the first answer was `sent`."""
    again = _where(events, What.RECEIPT, user="ada", kind="sent", id=4)[1]
    ended = Event(events[again].t - 0.01, What.FORBIDDING, user="bob", peer="ada")
    return [*_changed(events, again, kind="failed", mid=0, note="not_friend"), ended]


@plant("one_result_per_id", "sent_comes_first", "store_and_wire_agree")
def two_messages_get_one_mid(events: Events) -> Events:
    first = _where(events, What.RECEIPT, user="ada", kind="sent", id=5)[0]
    second = _where(events, What.RECEIPT, user="ada", kind="sent", id=6)[0]
    return _changed(events, second, mid=events[first].mid)


@plant("answered_before_acknowledged")
def an_acknowledgement_comes_without_an_answer(events: Events) -> Events:
    sent = _where(events, What.RECEIPT, user="ada", kind="sent", id=5)[0]
    return _without(events, sent)


@plant("delivered_is_true")
def delivered_comes_before_anybody_acknowledges(events: Events) -> Events:
    delivered = _where(events, What.RECEIPT, **MINE, kind="delivered")[4]
    sent = _where(events, What.RECEIPT, **MINE, kind="sent")[4 + 1]
    assert events[sent].mid == events[delivered].up_to
    return _copied(events, delivered, sent)


@plant("delivered_is_true")
def delivered_goes_too_far(events: Events) -> Events:
    delivered = _where(events, What.RECEIPT, **MINE, kind="delivered")[-1]
    return _changed(events, delivered, up_to=events[delivered].up_to + 2)


@plant("delivered_is_true", "store_and_wire_agree")
def delivered_leaves_out_an_item_that_no_device_has_taken(events: Events) -> Events:
    """The newest item is taken, one before it is not: a cumulative receipt would be a lie."""
    (got,) = _where(events, What.GOT, **PHONE, token="ada/phone>bob#6")
    n = events[got].n
    return [event for event in events if not (event.what is What.TAKING and event.user == "bob" and event.n == n)]


@plant("read_is_true")
def read_comes_before_the_app_says_so(events: Events) -> Events:
    read = _where(events, What.RECEIPT, **MINE, kind="read")[1]
    reading = _where(events, What.READING, user="bob")[1]
    return _copied(events, read, reading - 1)


@plant("sent_comes_first")
def delivered_overtakes_sent(events: Events) -> Events:
    sent = _where(events, What.RECEIPT, **MINE, kind="sent", id=5)[0]
    delivered = _where(events, What.RECEIPT, **MINE, kind="delivered", up_to=events[sent].mid)[0]
    late = msgspec.structs.replace(events[sent], t=events[delivered].t + 0.01)
    (acknowledged,) = _where(events, What.ACKNOWLEDGED, **MINE, token="ada/phone>bob#5")
    puback = msgspec.structs.replace(events[acknowledged], t=late.t + 0.01)
    moved = [*events[: delivered + 1], late, puback, *events[delivered + 1 :]]
    return [event for event in moved if event is not events[sent] and event is not events[acknowledged]]


@plant("receipts_never_fall")
def a_receipt_falls(events: Events) -> Events:
    delivered = _where(events, What.RECEIPT, **MINE, kind="delivered")
    return _copied(events, delivered[2], delivered[6])


@plant("receipts_arrive")
def the_last_receipt_never_comes(events: Events) -> Events:
    return _without(events, _where(events, What.RECEIPT, user="ada", device="laptop", kind="read")[-1])


@plant("epochs_never_fall")
def an_epoch_falls(events: Events) -> Events:
    last = _where(events, What.EPOCHS)[-1]
    return _changed(events, last, data={"ada": {"phone": 999}})


@plant("nothing_is_left_behind")
def memory_is_left_behind(events: Events) -> Events:
    last = _where(events, What.RESOURCES)[-1]
    return _changed(events, last, data={**events[last].data, "rss": 120 * 2**20})


@plant("nothing_is_left_behind")
def descriptors_are_left_behind(events: Events) -> Events:
    last = _where(events, What.RESOURCES)[-1]
    return _changed(events, last, data={**events[last].data, "descriptors": 70})


@plant("comes_to_rest")
def somebody_never_comes_back(events: Events) -> Events:
    return _changed(events, _where(events, What.END)[0], note="away: ['ada/phone']")


def _store(change: Callable[[dict[str, Any]], None]) -> Plant:
    def planted(events: Events) -> Events:
        (store,) = _where(events, What.STORE)
        data = msgspec.json.decode(msgspec.json.encode(events[store].data))
        change(data)
        return _changed(events, store, data=data)

    return planted


IN_THE_STORE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a hole in an inbox": lambda data: data["inboxes"]["bob"][2].pop(3),
    "the head is wrong": lambda data: data["inboxes"]["bob"].__setitem__(1, 99),
    "mids do not rise": lambda data: data["inboxes"]["bob"][2].reverse(),
    "a message is not there": lambda data: data["messages"].pop(2),
    "a message is there twice": lambda data: data["messages"].append([5_000, *data["messages"][2][1:]]),
    "a message of nobody": lambda data: data["messages"].append([5_000, "ada", "phone", "77", "bob", "made up"]),
    "a message to somebody else": lambda data: data["messages"][2].__setitem__(4, "eve"),
    "a refused message is there": lambda data: data["messages"].append(
        [5_000, "carol", "phone", '"late"', "ada", "carol/phone>ada#1000"]
    ),
    "a cursor stands behind": lambda data: data["cursors"]["bob"].__setitem__("phone", 3),
    "delivered goes too far": lambda data: data["receipts"][0].__setitem__(2, 5_000),
    "read goes too far": lambda data: data["receipts"][1].__setitem__(3, 5_000),
}
for _name, _change in IN_THE_STORE.items():
    PLANTED[f"in the store: {_name}"] = _store(_change), {"store_and_wire_agree"}
