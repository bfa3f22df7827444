"""What a device is told of its friends when it subscribes."""

from __future__ import annotations

import asyncio

from aldis.broker.presence_news import presence_of
from aldis.broker.presence_states import AT_ONCE
from tests import wire
from tests.unit.broker.chat import Person
from tests.unit.broker.lab import until
from tests.unit.broker.watching import (
    FRIENDS,
    GRACE,
    Unreachable,
    drained,
    hears,
    holdings_of,
    plugin,
    silence,
    watching,
)


class TestStates:
    async def test_at_the_subscribe_each_friend_is_told(self) -> None:
        async with watching(FRIENDS, ("ann", "cyd"), ("ann", "never"), ("dan", "ben")) as chat:
            cyd = await chat.person("cyd")
            cyd.close()
            ben = await chat.person("ben")
            await until(lambda: ("cyd", "phone") not in chat.node.sessions.subscribers)
            await asyncio.sleep(GRACE + 0.4)
            ann = Person(*await chat.open())
            ann.user = "ann"
            await ann.connected("phone", user="ann")
            # the SUBACK comes first
            await ann.subscribed(("inbox/ann/#", 1))
            await hears(ann, "ben", online=True)
            seen = await hears(ann, "cyd", online=False)
            (device,) = await chat.store.devices("cyd")
            assert seen["last_seen"] == device.last_seen
            await silence(ann)
            await hears(ben, "ann", online=True)
            ann.close()

    async def test_receipts_come_first(self) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            ann.say("ben", {"body": "hi"}, id=1)
            await ben.heard(1)
            assert [one["type"] if isinstance(one, dict) else one for one in await ann.told()]
            await asyncio.sleep(0.1)
            pad = await chat.person("ann", "pad")
            first, second = await pad.heard(2)
            assert first["type"] == "delivered"
            assert second["online"] is True

    async def test_a_resumed_session_is_told_too(self) -> None:
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann", clean=False)
            ann.close()
            await until(lambda: chat.node.sessions.subscribers["ann", "phone"].connection is None)
            await chat.person("ben")
            again = await chat.dial()
            await again.connected("phone", wire.RESUMED, user="ann", clean=False)
            await hears(again, "ben", online=True, to="ann")

    async def test_a_filter_that_was_there_already_tells_nothing_twice(self) -> None:
        async with watching(FRIENDS) as chat:
            await chat.person("ben")
            ann = await chat.person("ann")
            await hears(ann, "ben", online=True)
            await ann.subscribed(("inbox/ann/#", 1))
            await silence(ann)

    async def test_at_most_so_many_who_is_there_first_then_who_was_seen_last(self) -> None:
        pairs = [("ann", f"u{number}") for number in range(8)]
        async with watching(*pairs, max_states=4) as chat:
            for number in (5, 2, 7, 4):
                (await chat.person(f"u{number}")).close()
                await until(lambda user=f"u{number}": (user, "phone") not in chat.node.sessions.subscribers)  # type: ignore[misc]
            await chat.person("u0")
            await asyncio.sleep(GRACE + 0.6)
            ann = await chat.person("ann")
            await asyncio.sleep(0.1)
            assert await drained(ann) == [("u0", True), ("u4", False), ("u7", False), ("u2", False)]

    async def test_who_lingers_is_still_told_as_online_and_then_as_gone(self) -> None:
        async with watching(FRIENDS, grace=1.0) as chat:
            ben = await chat.person("ben")
            ben.close()
            await until(lambda: ("ben", "phone") not in chat.node.sessions.subscribers)
            ann = await chat.person("ann")
            await hears(ann, "ben", online=True)
            await hears(ann, "ben", online=False)

    async def test_what_is_told_live_is_not_overtaken_by_what_was_read_before(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            await chat.person("ben")
            status.gate.clear()
            ann = await chat.person("ann")
            await until(lambda: bool(plugin(chat)._states._readings))
            await asyncio.sleep(0.01)  # it was read that ben is there
            chat.node.pass_on("presence", "ann", presence_of("ben", "ann", online=False, last_seen=7))
            status.gate.set()
            assert (await hears(ann, "ben", online=False))["last_seen"] == 7
            await silence(ann)

    async def test_a_subscriber_that_goes_leaves_nothing_behind(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            await chat.person("ben")
            status.gate.clear()
            ann = await chat.person("ann")
            ann.close()
            await until(lambda: ("ann", "phone") not in chat.node.sessions.subscribers)
            status.gate.set()
            states = plugin(chat)._states
            await until(lambda: not states._asked and not states._readings)

    async def test_many_filters_while_one_reading_is_under_way_stay_bounded(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            ben = await chat.person("ben")
            status.gate.clear()
            ann = await chat.client("phone", user="ann")
            await ann.subscribed(("inbox/ann/presence/ben", 0))
            for number in range(2_500):
                filter = f"inbox/ann/presence/u{number}"
                ann.send(wire.subscribe(2, (filter, 0)), wire.unsubscribe(3, filter))
            ann.send(wire.subscribe(4, ("inbox/ann/presence/+", 0)))
            while await ann.packet() != wire.suback(4, 0):
                pass
            (asked,) = plugin(chat)._states._asked.values()
            assert 1 < len(asked) <= chat.node.limits.max_subscriptions
            assert len([one for one in asyncio.all_tasks() if one.get_name() == "presence of friends"]) == 1
            status.gate.set()
            await hears(ann, "ben", online=True, to="ann")
            await hears(ann, "ben", online=True, to="ann")  # asked for twice
            ben.close()

    async def test_only_those_are_asked_for_whom_the_filters_name(self) -> None:
        async with watching(FRIENDS, *[("ann", f"u{number}") for number in range(300)]) as chat:
            status = Unreachable(chat)
            await chat.person("ben")
            await until(lambda: not plugin(chat)._states._asked)
            status.sizes.clear()
            ann = await chat.client("phone", user="ann")
            await ann.subscribed(("inbox/ann/presence/ben", 0))
            await hears(ann, "ben", online=True, to="ann")
            await until(lambda: sum(status.sizes) >= 302)
            assert sorted(status.sizes) == [1, 101, 200], "ben, and the news for all"

    async def test_who_unsubscribes_while_it_is_read_is_told_nothing(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            await chat.person("ben")
            status.gate.clear()
            ann = await chat.client("phone", user="ann")
            await ann.subscribed(("inbox/ann/#", 0), ("inbox/ann/chat/+", 0))
            await until(lambda: bool(plugin(chat)._states._readings))
            ann.send(wire.unsubscribe(5, "inbox/ann/#"))
            await ann.expect(wire.unsuback(5))
            status.gate.set()
            await silence(ann)

    async def test_clients_that_do_not_read_hold_up_nobody(self) -> None:
        async with watching(FRIENDS, *[("ann", f"u{number}") for number in range(300)]) as chat:
            await holdings_of(chat).status.online([(f"u{number}", "phone") for number in range(300)])
            lazy = []
            for number in range(AT_ONCE + 1):
                lazy.append(await chat.client(f"pad{number}", user="ann"))
            for connection in chat.node.connections:
                connection.congested = True
            for client in lazy:
                client.send(wire.subscribe(1, ("inbox/ann/#", 0)))
            await until(lambda: len(plugin(chat)._states._asked) == AT_ONCE + 1)
            ben = await chat.person("ben")
            await hears(ben, "ann", online=True)
            for connection in chat.node.connections:
                connection.congested = False
