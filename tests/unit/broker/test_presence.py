"""Who is there: told to friends who are connected and want to know, and to nobody else."""

from __future__ import annotations

import asyncio

from aldis.broker.presence_news import PORTION
from tests import wire
from tests.unit.broker.chat import chatting
from tests.unit.broker.lab import until
from tests.unit.broker.watching import (
    FRIENDS,
    GRACE,
    START,
    Unreachable,
    hears,
    plugin,
    silence,
    watching,
)


class TestChanges:
    async def test_friends_are_told_who_comes_and_who_goes(self) -> None:
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann")
            ben = await chat.person("ben")
            assert (await hears(ann, "ben", online=True))["last_seen"] > START
            await hears(ben, "ann", online=True)
            ben.close()
            await hears(ann, "ben", online=False)
            await ann.nothing()

    async def test_nobody_else_is_told(self) -> None:
        async with watching(FRIENDS, ("cyd", "dan")) as chat:
            cyd, pad = await chat.person("cyd"), await chat.person("ann", "pad")
            ben = await chat.person("ben")
            await hears(pad, "ben", online=True)
            await hears(ben, "ann", online=True)
            ann = await chat.person("ann", "phone")
            await hears(ann, "ben", online=True)
            ben.close()
            ann.close()
            await hears(pad, "ben", online=False)
            await silence(cyd, pad)

    async def test_only_who_has_subscribed_is_told(self) -> None:
        async with watching(FRIENDS) as chat:
            chats = await chat.client("chats", user="ann")
            await chats.subscribed(("inbox/ann/chat/+", 1), ("inbox/ann/receipt/+", 1))
            narrow = await chat.client("narrow", user="ann")
            await narrow.subscribed(("inbox/ann/presence/cyd", 1))
            ben = await chat.client("phone", user="ben")
            await chats.nothing()
            await narrow.nothing()
            await narrow.subscribed(("inbox/ann/presence/ben", 1))
            await hears(narrow, "ben", online=True, to="ann")
            ben.close()
            await hears(narrow, "ben", online=False, to="ann")
            await chats.nothing()

    async def test_only_the_first_device_comes_and_only_the_last_one_goes(self) -> None:
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann")
            phone = await chat.person("ben", "phone")
            await hears(ann, "ben", online=True)
            pad = await chat.person("ben", "pad")
            phone.close()
            await silence(ann)
            pad.send(wire.DISCONNECT)
            await hears(ann, "ben", online=False)

    async def test_a_persistent_session_that_waits_is_nobody_there(self) -> None:
        async with watching(FRIENDS) as chat:
            ben = await chat.person("ben", clean=False)
            ann = await chat.person("ann")
            await hears(ann, "ben", online=True)
            ben.close()
            await hears(ann, "ben", online=False)

    async def test_nothing_is_told_before_the_grace_is_over_and_nothing_at_all_on_a_return(self) -> None:
        async with watching(FRIENDS, grace=1.0) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            ben.close()
            await silence(ann, seconds=0.5)
            ben = await chat.person("ben")
            await silence(ann, seconds=1.5)
            ben.close()
            begun = asyncio.get_running_loop().time()
            await hears(ann, "ben", online=False)
            assert 0.7 < asyncio.get_running_loop().time() - begun < 3

    async def test_a_take_over_is_no_leaving(self) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            again = await chat.person("ben")
            assert await ben.closed()
            await hears(again, "ann", online=True)
            await silence(ann)

    async def test_last_seen_is_when_it_was_last_heard(self) -> None:
        """Silent for longer than its keep alive allows: not the moment at which that was noticed."""
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann")
            ben = await chat.client("phone", user="ben", keep_alive=1)
            await hears(ann, "ben", online=True)
            connection = next(one for one in chat.node.connections if one.session and one.session.user == "ben")
            before = plugin(chat)._news._now_ms()
            assert await ben.closed() == []
            quiet = chat.node.now - connection.heard
            assert quiet >= 1.4
            told = await hears(ann, "ben", online=False)
            # the clock of this server hardly moves
            assert before - quiet * 1_000 - 10 < told["last_seen"] < before - 1_000

    async def test_the_figures_know_it(self) -> None:
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann")
            ben = await chat.person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            assert chat.node.figures.sent_by_kind()["presence"] == [2, 0, 0]
            assert chat.node.figures.sent_by_kind()["plain"] == [0, 0, 0]
            assert plugin(chat).gauges() == {"presence_waiting": 0}

    async def test_without_the_plugin_nobody_is_told(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ben.close()
            await silence(ann)

    async def test_of_thousands_each_is_asked_for_in_portions(self) -> None:
        """5,000 friends: nobody has to wait for more than a portion, and only those who are there are told."""
        crowd = [("ann", f"u{number}") for number in range(5_000)]
        async with watching(*crowd) as chat:
            status = Unreachable(chat)
            bystander = await chat.person("u77")
            status.sizes.clear()
            ann = await chat.person("ann")
            await hears(bystander, "ann", online=True)
            await until(lambda: sum(status.sizes) >= 10_000)
            assert max(status.sizes) == PORTION
            await hears(ann, "u77", online=True)
            await ann.nothing()


class TestRelations:
    async def test_who_is_no_friend_any_more_learns_nothing(self) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            chat.relation("ann", "ben", friends=False)
            ben.close()
            await silence(ann)
            ben = await chat.person("ben")
            await silence(ann, ben)

    async def test_an_end_within_the_grace_counts(self) -> None:
        async with watching(FRIENDS, grace=0.5) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            ben.close()
            await until(lambda: ("ben", "phone") not in chat.node.sessions.subscribers)
            chat.relation("ann", "ben", friends=False)
            await silence(ann, seconds=1.0)

    async def test_an_end_while_it_is_being_told_counts(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            status.gate.clear()
            ben.close()
            await until(lambda: ("ben", "phone") not in chat.node.sessions.subscribers)
            asked = len(status.sizes)
            await until(lambda: len(status.sizes) > asked)  # is ben elsewhere?
            status.gate.set()
            status.gate.clear()
            await until(lambda: len(status.sizes) > asked + 1)  # is ann there?
            chat.relation("ann", "ben", friends=False)
            await asyncio.sleep(0.01)
            status.gate.set()
            await silence(ann)

    async def test_an_end_while_the_states_are_being_read_counts(self) -> None:
        async with watching(FRIENDS) as chat:
            status = Unreachable(chat)
            await chat.person("ben")
            status.gate.clear()
            ann = await chat.person("ann")
            await until(lambda: bool(plugin(chat)._states._readings))
            chat.relation("ann", "ben", friends=False)
            await asyncio.sleep(0.01)
            status.gate.set()
            await silence(ann)

    async def test_new_friends_are_told_of_each_other_at_once(self) -> None:
        async with watching(("ann", "cyd")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await silence(ann, ben, seconds=0.1)
            chat.relation("ann", "ben", friends=True)
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            ben.close()
            await hears(ann, "ben", online=False)

    async def test_of_a_new_friend_who_is_away_one_learns_when_it_was_seen(self) -> None:
        async with watching(("ann", "cyd")) as chat:
            (await chat.person("ben")).close()
            await until(lambda: ("ben", "phone") not in chat.node.sessions.subscribers)
            await asyncio.sleep(GRACE + 0.4)
            ann = await chat.person("ann")
            chat.relation("ann", "ben", friends=True)
            await hears(ann, "ben", online=False)
