"""The pure parts of the bot kit: arrivals, back-off, handles, filters, and its file."""

import asyncio
import gc
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.mobile_client_demo.bot.arrivals import Arrivals, Verdict
from aldis.mobile_client_demo.bot.backoff import Backoff
from aldis.mobile_client_demo.bot.disk import Disk, NotOurs
from aldis.mobile_client_demo.bot.handlers import DeviceMessage, Handlers, Message, matches
from aldis.mobile_client_demo.bot.handles import Handles, SendFailed, Stopped
from aldis.mobile_client_demo.encryption import RelationKey
from aldis.mobile_client_demo.outbox import Outgoing
from aldis.mobile_client_demo.wire import Item, Receipt


@given(st.lists(st.sampled_from(["deliver", "handle", "reconnect", "crash"]), max_size=80), st.integers(1, 4))
def test_every_item_is_handled_once_in_order_whatever_breaks(steps, room):
    """A server that delivers from its cursor on, within a window; a handler; connections and processes that die."""
    handled, cursor, place, number = [], 0, 0, 0
    arrivals, queue = Arrivals(0), []
    for step in [*steps, *["reconnect", *["deliver", "handle"] * 12] * 3]:
        if step == "deliver" and place < 10:
            place, number = place + 1, number + 1
            verdict = arrivals.take(place, number, room=len(queue) < room)
            if verdict is Verdict.NEW:
                queue.append(place)
            elif verdict is Verdict.HANDLED:
                cursor = max(cursor, place)
        elif step == "handle" and queue:
            n = queue.pop(0)
            handled.append(n)
            ticket = arrivals.done(n)
            assert ticket <= number
            cursor = max(cursor, n)
        elif step == "reconnect":
            place = cursor
            arrivals.connected()
        elif step == "crash":
            arrivals, queue, place = Arrivals(handled[-1] if handled else 0), [], cursor
    assert handled == list(range(1, len(handled) + 1)) and len(handled) == 10


def test_the_newest_packet_of_an_item_is_acknowledged():
    arrivals = Arrivals(0)
    assert arrivals.take(1, "old", room=True) is Verdict.NEW
    assert arrivals.take(1, "new", room=True) is Verdict.WAITING
    assert arrivals.done(1) == "new"
    assert arrivals.take(1, "again", room=True) is Verdict.HANDLED


def test_nothing_passes_what_was_refused():
    arrivals = Arrivals(0)
    assert arrivals.take(1, 1, room=False) is Verdict.REFUSED
    assert arrivals.take(2, 2, room=True) is Verdict.REFUSED
    arrivals.connected()
    assert arrivals.take(1, 3, room=True) is Verdict.NEW


def test_the_back_off_doubles_up_to_its_bound_with_chance_and_calms_down():
    late, early = Backoff(lambda: 1.0, first=1, most=8), Backoff(lambda: 0.0, first=1, most=8)
    assert [late.delay() for _ in range(5)] == [1, 2, 4, 8, 8]
    assert [early.delay() for _ in range(5)] == [0.5, 1, 2, 4, 4]
    late.calm()
    assert late.delay() == 1


def outgoing(id="p-1", to="bob"):
    return Outgoing(id, to, None, "", {"id": id, "body": "x"})


def test_a_handle_goes_from_sent_to_read():
    handles = Handles()
    handle = handles.of(outgoing())
    handles.take(Receipt("delivered", "bob", up_to=4))
    assert not handle.sent and not handle.delivered
    handles.take(Receipt("sent", "bob", id="p-1", mid=5))
    assert handle.sent.wait(0) == 5 and handle.mid == 5 and not handle.delivered
    handles.take(Receipt("delivered", "carol", up_to=9))
    assert not handle.delivered
    handles.take(Receipt("delivered", "bob", up_to=5))
    assert handle.delivered.wait(0) == 5 and not handle.read
    with pytest.raises(TimeoutError):
        handle.read.wait(0.01)
    handles.take(Receipt("read", "bob", up_to=6))
    assert handle.read.wait(0) == 5


def test_a_read_says_delivered_too_and_a_receipt_that_came_first_counts():
    handles = Handles()
    handles.take(Receipt("read", "bob", up_to=7))
    handle = handles.of(outgoing())
    handles.take(Receipt("sent", "bob", id="p-1", mid=7))
    assert handle.delivered and handle.read


def test_a_failure_fails_all_three_and_a_stop_ends_every_wait():
    handles = Handles()
    failed, waiting = handles.of(outgoing()), handles.of(outgoing("p-2"))
    handles.take(Receipt("failed", "bob", id="p-1", reason="not_friend"))
    for milestone in (failed.sent, failed.delivered, failed.read):
        with pytest.raises(SendFailed, match="not_friend"):
            milestone.wait(0)
    handles.stop()
    with pytest.raises(Stopped):
        waiting.sent.wait(0)


async def test_one_who_stops_waiting_does_not_disturb_another():
    handles = Handles()
    handle = handles.of(outgoing())

    async def wait():
        return await handle.sent

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    handles.take(Receipt("sent", "bob", id="p-1", mid=5))
    assert await second == 5 and first.cancelled()


def test_a_handle_that_nobody_holds_is_forgotten_but_not_while_a_part_of_it_is_held():
    handles = Handles()
    sent = handles.of(outgoing()).sent
    gc.collect()
    handles.take(Receipt("sent", "bob", id="p-1", mid=5))
    assert sent.wait(0) == 5
    del sent
    gc.collect()
    assert len(handles._known) == 0


@pytest.mark.parametrize(
    ("filter", "topic", "fits"),
    [("a/b", "a/b", True), ("a/+", "a/b", True), ("+", "a/b", False), ("a/#", "a", True), ("#", "x/y", True),
     ("a/b", "a", False), ("a", "a/b", False), ("a/#", "b/a", False)],
)  # fmt: skip
def test_filters_are_those_of_mqtt(filter, topic, fits):
    assert matches(filter, topic) is fits


def test_handlers_are_chosen_by_kind_type_and_sender_and_keep_their_places():
    handlers = Handlers()
    handlers.add("message", print)
    handlers.add("message", repr, type="alert")
    handlers.add("message", str, sender="shop-*")
    handlers.add("device", len, type="command/#")
    item = Item("chat", "shop-1", "me", 1, 1, 1, {"type": "text", "body": "x"})
    assert list(handlers.fitting("message", Message(item, "x"))) == [(0, print), (2, str)]
    assert list(handlers.fitting("device", DeviceMessage("command/x", b"", False))) == [(3, len)]
    assert list(handlers.fitting("device", DeviceMessage("status", b"", False))) == []
    assert handlers.filters == ["command/#"]


def test_the_file_is_one_devices_and_one_process_at_a_time(tmp_path):
    disk = Disk(tmp_path / "bot.db", "me", "phone")
    with pytest.raises(NotOurs, match="cannot be used now"):
        Disk(tmp_path / "bot.db", "me", "phone")
    disk.close()
    with pytest.raises(NotOurs, match="belongs to me on phone"):
        Disk(tmp_path / "bot.db", "me", "tablet")
    assert stat.S_IMODE((tmp_path / "bot.db").stat().st_mode) == 0o600


def test_the_file_keeps_keys_what_was_shown_and_how_far_it_came(tmp_path):
    disk = Disk(tmp_path / "bot.db", "me", "phone")
    disk.add_key("bob", RelationKey(3, bytes(32)))
    disk.shown("bob", 9)
    disk.shown("bob", 7)
    disk.has_handled(12)
    disk.close()
    disk = Disk(tmp_path / "bot.db", "me", "phone")
    assert disk.relation_keys() == [("bob", RelationKey(3, bytes(32)))]
    assert disk.untold() == [("bob", 9)]
    assert disk.handled == 12
    disk.told("bob", 9)
    assert disk.untold() == []
    disk.close()
