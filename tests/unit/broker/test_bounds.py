"""Each limit of sessions and messages at the connector: what fits is taken, one more meets what the operator was told.

Who gets in at all is in `test_door.py`; readers slow and silent are in `tests/integration`.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from aldis.broker.core.envelope import Reason
from aldis.broker.core.reasons import CloseReason
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.chat import QUICK, chatting
from tests.unit.broker.lab import Client, Lab, running, until

REFUSED = 0x80


# Filters


async def test_wildcards_and_levels_of_a_filter() -> None:
    async with running(limits=Limits(max_filter_wildcards=3, max_topic_levels=4)) as lab:
        client = await lab.client()
        await client.subscribed(
            ("+/+/+", 0), ("+/+/#", 1), ("a/b/c/d", 2),
            ("+/+/+/+", 0), ("+/+/+/#", 0), ("a/b/c/d/e", 0), ("a/b/c/d/#", 0),
            codes=(0, 1, 2, REFUSED, REFUSED, REFUSED, REFUSED),
        )  # fmt: skip
        await client.nothing()


async def test_the_length_of_a_filter() -> None:
    async with running(limits=Limits(max_filter_length=10)) as lab:
        client = await lab.client()
        await client.subscribed(("a/" + "b" * 8, 0), ("a/" + "b" * 9, 0), codes=(0, REFUSED))


async def test_receipts_about_names_that_are_too_long_are_not_remembered() -> None:
    """Refused publishes name whom they were for; a client that invents names of 60,000 characters fills no memory."""
    async with chatting() as chat:
        ada = await chat.person("ada")
        for number in range(150):
            for name in (f"u{number}", f"{number}" + "u" * 60_000):
                ada.say(name, {"body": "x"}, id=1)
                assert (await ada.heard(1))[0]["reason"] == "not_friend"
                await ada.expect_acknowledged(1)
        (connection,) = chat.node.connections
        assert len(connection.receipt_topics) <= 100
        assert sum(len(peer) + len(topic) for peer, topic in connection.receipt_topics.items()) < 10_000


async def test_subscriptions_of_a_session() -> None:
    """One that is there may be repeated, and its place is free again after UNSUBSCRIBE."""
    async with running(limits=Limits(max_subscriptions=2)) as lab:
        client = await lab.client()
        await client.subscribed(("a", 0), ("b", 0), ("c", 0), codes=(0, 0, REFUSED))
        await client.subscribed(("c", 0), ("a", 1), codes=(REFUSED, 1))
        client.send(wire.unsubscribe(2, "b"))
        await client.expect(wire.unsuback(2))
        await client.subscribed(("c", 0))


async def test_a_node_that_stood_still_gives_a_new_client_its_whole_time() -> None:
    """The clock of the node is behind then, by as long as it stood still."""
    async with running(timeouts=Timeouts(connect=1)) as lab:
        assert lab.node._ticker is not None
        lab.node._ticker.cancel()
        await asyncio.sleep(3)
        client = await lab.dial()
        await until(lambda: len(lab.node.connections) == 1)
        lab.node._tick()
        await client.connected()
        await client.nothing()


async def test_ten_thousand_filters_in_one_subscribe() -> None:
    """What fits is granted, the rest refused, at once; and whoever talks meanwhile does not notice: in seconds of
    work, not of waiting for the machine."""
    filters = [(f"+/{number:04x}/#", 0) for number in range(10_000)]
    async with running(limits=Limits(max_subscriptions=1_000)) as lab:
        greedy, other = await lab.client("greedy"), await lab.client("other")
        began, slowest = time.process_time(), 0.0
        greedy.send(wire.subscribe(1, *filters))
        answer = asyncio.ensure_future(greedy.packet())
        while not answer.done():
            asked = time.process_time()
            await other.nothing()
            slowest = max(slowest, time.process_time() - asked)
        assert (await answer).endswith(bytes(1_000) + bytes([REFUSED]) * 9_000)
        assert time.process_time() - began < 2.0
        assert slowest < 0.25


# Wills


async def test_the_size_of_a_will() -> None:
    async with running(limits=Limits(max_will_size=100)) as lab:
        await lab.client("small", will=wire.Will("state", bytes(100)))
        large = await lab.dial()
        large.send(wire.connect("large", will=wire.Will("state", bytes(101))))
        assert await large.closed() == [wire.refused(5)]
        assert len(lab.node.sessions.subscribers) == 1


# Retained messages


async def kept(lab: Lab) -> dict[str, bytes]:
    client = await lab.client("looks")
    client.send(wire.subscribe(1, ("#", 0)))
    found = [wire.published(packet) for packet in await client.settled() if wire.is_publish(packet)]
    client.close()
    return {one.topic: one.payload for one in found}


async def test_the_number_of_retained_messages(caplog: pytest.LogCaptureFixture) -> None:
    """At the limit a new topic is not retained, with one line for many; those there may change, and make room."""
    async with running(limits=Limits(max_retained=2)) as lab:
        client = await lab.client()
        for topic in ("a", "b", "c", "d", "e"):
            client.send(wire.publish(topic, topic.encode(), retain=True))
        client.send(wire.publish("a", b"new", retain=True))
        await client.nothing()
        assert await kept(lab) == {"a": b"new", "b": b"b"}
        client.send(wire.publish("a", b"", retain=True), wire.publish("c", b"c", retain=True))
        await client.nothing()
        assert await kept(lab) == {"b": b"b", "c": b"c"}
    assert len([one for one in caplog.records if "not retained" in one.getMessage()]) == 1


async def test_the_bytes_of_retained_messages() -> None:
    """One too many is delivered, but not retained; and no old value stays where a new one does not fit."""
    async with running(limits=Limits(max_retained_bytes=202, max_retained_size=150)) as lab:
        client, listener = await lab.client(), await lab.client("listener")
        await listener.subscribed(("#", 0))
        said = [("a", bytes(100)), ("b", bytes(100)), ("c", b"x"), ("b", bytes(101)), ("a", bytes(151)), ("c", b"x")]
        for topic, payload in said:
            client.send(wire.publish(topic, payload, retain=True))
        assert [((one := await listener.publication()).topic, one.payload) for _ in said] == said
        assert await kept(lab) == {"c": b"x"}
        assert lab.node.router.retained.bytes == 2


async def test_more_retained_messages_than_a_buffer_holds_are_all_sent() -> None:
    """In pieces, as fast as the client takes them: the node does not hold them all for it."""
    async with running(limits=Limits(max_write_buffer=20_000)) as lab:
        client = await lab.client()
        for number in range(1_200):
            client.send(wire.publish(f"t/{number}", bytes(5_000), retain=True))
        await client.nothing()
        reader = await lab.client("reader")
        await reader.subscribed(("t/#", 0))
        await asyncio.sleep(0.3)
        (connection,) = [one for one in lab.node.connections if one.session and one.session.device == "reader"]
        assert sum(map(len, connection.out)) < 50_000
        found = {(await reader.publication()).topic for _ in range(1_200)}
        assert len(found) == 1_200


# The queue of a session


async def queued(policy: Any, count: int = 6, **limits: int) -> tuple[list[bytes], CloseReason | None]:
    """What a device gets that was connected, but acknowledged nothing of the first two, after so many messages."""
    bounds = Limits(queue_policy=policy, max_inflight=2, **{"max_queued": 3, **limits})
    async with running(limits=bounds) as lab:
        sender, device = await lab.client("sender"), await lab.client("device", clean=False)
        await device.subscribed(("t", 1))
        (connection,) = [one for one in lab.node.connections if one.session and one.session.device == "device"]
        for number in range(count):
            sender.send(wire.publish("t", b"%d" % number, qos=1, id=1))
            await sender.expect(wire.puback(1))
        first = [await device.publication(), await device.publication()]
        if policy == "disconnect" and count > 5:
            assert await device.closed() == []
            device = await (await lab.dial()).connected("device", wire.RESUMED, clean=False)
            first = [await device.publication(), await device.publication()]
        found = list(first)
        device.send(*(wire.puback(one.id) for one in first))
        for packet in await device.settled():
            found.append(wire.published(packet))
            device.send(wire.puback(found[-1].id))
        found += [wire.published(packet) for packet in await device.settled()]
        return [one.payload for one in found], connection.closed


@pytest.mark.parametrize(
    ("policy", "left", "reason"),
    [
        ("drop_new", [b"0", b"1", b"2", b"3", b"4"], None),
        ("drop_oldest", [b"0", b"1", b"3", b"4", b"5"], None),
        ("disconnect", [b"0", b"1", b"2", b"3", b"4"], CloseReason.QUEUE_FULL),
    ],
)
async def test_a_full_queue(policy: str, left: list[bytes], reason: CloseReason | None) -> None:
    assert await queued(policy) == (left, reason)


async def test_a_queue_is_bounded_in_bytes_too() -> None:
    assert await queued("drop_new", max_queued=100, max_queued_bytes=2) == ([b"0", b"1", b"2", b"3"], None)


@pytest.mark.parametrize("policy", ["drop_new", "drop_oldest", "disconnect"])
async def test_at_the_limit_nothing_is_lost(policy: str) -> None:
    assert await queued(policy, 5) == ([b"0", b"1", b"2", b"3", b"4"], None)


# Publish rate


def rate(**limits: float) -> Limits:
    return Limits(**{"publish_burst": 10, "publishes_per_second": 40, "publish_bytes_per_second": 0, **limits})


async def acknowledged(client: Client) -> int:
    packet = await client.packet()
    assert packet[0] == 0x40
    return int.from_bytes(packet[2:], "big")


async def test_who_publishes_too_fast_is_read_more_slowly() -> None:
    """Nothing is refused of what comes in steps: TCP makes the sender wait. Others are not held up."""
    async with running(limits=rate()) as lab:
        sender, other = await lab.client("s", user="ada"), await lab.client("o", user="bob")
        clock = asyncio.get_running_loop().time
        began = clock()
        for id in range(1, 51):
            sender.send(wire.publish("t", b"x", qos=1, id=id))
            assert await acknowledged(sender) == id
            if id == 20:
                asked = clock()
                other.send(wire.publish("t", b"x", qos=1, id=1))
                assert await acknowledged(other) == 1
                assert clock() - asked < 0.2
        assert 0.7 < clock() - began < 2.5  # (50 - 10) / 40, met by a clock of 0.25 s


async def test_what_was_read_already_is_taken_up_to_a_second_burst_and_then_refused() -> None:
    """Each with its acknowledgement and, refused, with a receipt that says `rate`; also those of QoS 2."""
    async with running(limits=rate(publishes_per_second=0.5)) as lab:
        sender, listener = await lab.client("s", user="ada"), await lab.client("l")
        await sender.subscribed(("inbox/ada/#", 0))
        await listener.subscribed(("t", 0))
        sender.send(*(wire.publish("t", b"%d" % id, qos=1 + id % 2, id=id) for id in range(1, 31)))
        packets = [await sender.packet() for _ in range(30 + 10)]
        failed = [wire.published(one).document for one in packets if wire.is_publish(one)]
        assert failed == 10 * [{"type": "failed", "id": None, "reason": "rate", "topic": "t"}]
        answers = [one for one in packets if not wire.is_publish(one)]
        assert answers == [(wire.pubrec if id % 2 else wire.puback)(id) for id in range(1, 31)]
        assert [(await listener.publication()).payload for _ in range(20)] == [b"%d" % id for id in range(1, 21)]
        await listener.nothing()


async def test_the_connections_of_a_user_share_and_reconnecting_does_not_help() -> None:
    async with running(limits=rate(publishes_per_second=0.1)) as lab:
        for number in range(2):
            client = await lab.client(f"c{number}", user="ada")
            client.send(*(wire.publish("t", b"x", qos=1, id=id) for id in range(1, 6)))
            for id in range(1, 6):
                await client.expect(wire.puback(id))
            client.close()
        await until(lambda: not lab.node.connections)
        listener, late = await lab.client("l"), await lab.client("late", user="ada")
        await listener.subscribed(("t", 0))
        late.send(*(wire.publish("t", b"x") for _ in range(11)))  # a debt of ten, and one too many
        await until(lambda: lab.node.figures.refused[Reason.RATE] == 1)
        assert len(await listener.settled()) == 10
        assert len(lab.node.allowances) == 1
        stranger = await lab.client("stranger", user="bob")
        stranger.send(wire.publish("t", b"from bob"))
        assert (await listener.publication()).payload == b"from bob"


async def test_bytes_are_limited_too() -> None:
    limits = Limits(publishes_per_second=0, publish_bytes_burst=10_000, publish_bytes_per_second=20_000)
    async with running(limits=limits) as lab:
        sender = await lab.client("s", user="ada")
        clock = asyncio.get_running_loop().time
        began = clock()
        for id in range(1, 9):
            sender.send(wire.publish("t", bytes(4_999), qos=1, id=id))
            assert await acknowledged(sender) == id
        assert 0.7 < clock() - began < 2.5  # (40,000 - 10,000 - the last) / 20,000


async def test_a_throttled_client_is_neither_silent_nor_slow() -> None:
    """What we do not read it cannot be blamed for: keep alive, acknowledgements."""
    timeouts = Timeouts(acknowledge=0.25, max_retries=1)
    async with running(limits=rate(publish_burst=4, publishes_per_second=1.5), timeouts=timeouts) as lab:
        client = await lab.client("s", user="ada", keep_alive=1)
        await client.subscribed(("t", 1))
        client.send(*(wire.publish("t", b"x", qos=1, id=id) for id in range(1, 9)))
        found = [await client.packet() for _ in range(16)]
        await asyncio.sleep(2.4)  # in debt for 2.7 s: longer than keep alive and retries together
        client.send(*(wire.puback(wire.published(one).id) for one in found if wire.is_publish(one)))
        client.send(wire.PINGREQ)
        while await client.packet() != wire.PINGRESP:
            pass


async def test_a_user_without_debt_is_forgotten() -> None:
    async with running(limits=rate(publishes_per_second=1_000)) as lab:
        for number in range(20):
            client = await lab.client("c", user=f"user{number}")
            client.send(wire.publish("t", b"x"), wire.DISCONNECT)
            await client.closed()
        await until(lambda: len(lab.node.allowances) == 0)


# What waits for the store


async def test_bytes_that_wait_for_the_store_stop_reading_from_their_senders() -> None:
    """Only from them: who has nothing waiting is read as before. When the store is back, everything is committed."""
    limits = Limits(max_unacknowledged_bytes=50_000)
    async with chatting(("ada", "bob"), limits=limits) as chat:
        ada, bob = await chat.person("ada"), await chat.person("bob")
        chat.store.gate.clear()
        for id in range(1, 201):
            ada.say("bob", {"body": "x" * 1_000}, id=id)
            await asyncio.sleep(0)
        await until(lambda: chat.node.burden.full)
        waiting = chat.node.burden.bytes
        await asyncio.sleep(0.1)
        assert chat.node.burden.bytes == waiting < 50_000 + 70_000  # what one read from the network held besides
        await bob.nothing()
        chat.store.gate.set()
        for id in range(1, 201):
            await ada.expect_acknowledged(id)
        assert [document["n"] for document in await bob.heard(200)] == list(range(1, 201))
        assert (chat.node.burden.bytes, chat.node.burden.full) == (0, False)


async def test_what_is_held_back_counts_and_is_given_back_however_it_ends() -> None:
    """Released, failed for its gap, repeated, or its connection gone."""
    async with chatting(("ada", "bob"), timeouts=QUICK) as chat:
        ada = await chat.person("ada")
        burden = chat.node.burden
        ada.say("bob", {"id": "1", "seq": 1, "body": "x"}, id=1)
        await ada.expect_acknowledged(1)
        assert burden.bytes == 0
        held = {"id": "3", "seq": 3, "body": "x" * 1_000}
        ada.say("bob", held, id=2)
        ada.say("bob", held, id=3)
        ada.say("bob", held, id=4, qos=2)
        await until(lambda: burden.bytes > 3_000)
        ada.say("bob", {"id": "2", "seq": 2, "body": "x"}, id=5)
        await ada.expect_acknowledged(5)
        await until(lambda: burden.bytes == 0)
        ada.say("bob", {"id": "9", "seq": 9, "body": json.dumps("x" * 500)}, id=6)
        await until(lambda: burden.bytes > 500)
        await ada.expect_acknowledged(6)  # failed: `gap`
        assert burden.bytes == 0
        ada.say("bob", {"id": "8", "seq": 8, "body": "x"}, id=7)
        await until(lambda: burden.bytes > 0)
        ada.close()
        await until(lambda: burden.bytes == 0)
