"""Who is there: told to friends who are connected and want to know, to nobody else, and true in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aldis.broker import presence_states
from aldis.broker.cluster_ports import StatusUnavailable
from aldis.broker.connector import ConnectorError
from aldis.broker.holdings import Holdings
from aldis.broker.ports import StoreUnavailable
from aldis.broker.presence_news import PORTION, presence_of
from aldis.plugins.presence import Presence
from tests import wire
from tests.unit.broker.chat import OURS, Chat, Person, chatting
from tests.unit.broker.lab import Client, Plugins, until
from tests.unit.broker.test_cluster import Nodes, nodes

PRESENCE = "aldis.plugins.presence.Presence"
GRACE = 0.1
FRIENDS = ("ann", "ben")
START = 1_700_000_000_000
"""Where the clocks of these servers begin."""


def with_presence(**options: Any) -> Plugins:
    return {**OURS, PRESENCE: {"grace": GRACE, "settle": 0.3, **options}}


@asynccontextmanager
async def watching(*pairs: tuple[str, str], **options: Any) -> AsyncIterator[Chat]:
    async with chatting(*pairs, plugins=with_presence(**options)) as chat:
        yield chat


async def hears(client: Client, of: str, *, online: bool, to: str | None = None) -> dict[str, Any]:
    """The next thing that comes tells this."""
    published = await client.publication()
    user = to or getattr(client, "user", "")
    assert (published.topic, published.qos, published.retain) == (f"inbox/{user}/presence/{of}", 0, False)
    assert list(published.document) == ["online", "last_seen"]
    assert published.document["online"] is online
    return dict(published.document)


async def silence(*clients: Client, seconds: float = GRACE + 0.4) -> None:
    """Nothing comes, for longer than a grace and the tick after it."""
    await asyncio.sleep(seconds)
    for client in clients:
        await client.nothing()


async def drained(client: Client) -> list[tuple[str, bool]]:
    """Whatever has been told so far: friend, online."""
    told = [wire.published(packet) for packet in await client.settled()]
    return [(one.topic.rsplit("/", 1)[1], one.document["online"]) for one in told]


def holdings_of(chat: Chat) -> Holdings:
    services: Any = chat.connector.services
    return services.holdings  # type: ignore[no-any-return]


def plugin(chat: Chat) -> Presence:
    found: Presence = chat.plugin("Presence")
    return found


class Unreachable:
    """A user status that answers nobody while `away`; `sizes` are those of the questions."""

    def __init__(self, chat: Chat) -> None:
        self.away = False
        self.sizes: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        status: Any = holdings_of(chat).status
        self._status, self._present = status, status.present
        for name in ("online", "away", "offline", "restore"):
            setattr(status, name, self._guarded(getattr(status, name)))
        status.present = self.present

    def _guarded(self, call: Any) -> Any:
        async def guarded(*arguments: Any) -> Any:
            if self.away:
                raise StatusUnavailable("no route to Redis")
            return await call(*arguments)

        return guarded

    async def present(self, users: Sequence[str]) -> frozenset[str]:
        self.sizes.append(len(users))
        if self.away:
            raise StatusUnavailable("no route to Redis")
        found: frozenset[str] = await self._present(users)
        await self.gate.wait()
        return found


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
            for number in range(3_000):
                filter = f"inbox/ann/presence/u{number}"
                ann.send(wire.subscribe(1, (filter, 0)), wire.unsubscribe(2, filter))
            ann.send(wire.subscribe(3, ("inbox/ann/presence/ben", 0)))
            while await ann.packet() != wire.suback(3, 0):
                pass
            (asked,) = plugin(chat)._states._asked.values()
            assert len(asked) <= chat.node.limits.max_subscriptions
            assert len([one for one in asyncio.all_tasks() if one.get_name() == "presence of friends"]) == 1
            status.gate.set()
            await hears(ann, "ben", online=True, to="ann")
            ben.close()


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


class TestTrouble:
    async def test_news_wait_for_the_user_status(self) -> None:
        async with watching(FRIENDS, grace=0.5) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            status = Unreachable(chat)
            ben.close()
            await until(lambda: ("ben", "phone") not in chat.node.sessions.subscribers)
            await asyncio.sleep(0.05)
            status.away = True
            await silence(ann, seconds=1.0)
            status.away = False
            await hears(ann, "ben", online=False)

    async def test_who_leaves_while_the_user_status_is_away_is_told_when_it_is_back(self) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            status, holdings = Unreachable(chat), holdings_of(chat)
            status.away = True
            ben.close()
            await until(lambda: holdings.unregistered)
            status.away = False
            await holdings.restore()
            await hears(ann, "ben", online=False)

    async def test_who_comes_while_the_user_status_is_away_is_told_when_it_is_back(self) -> None:
        async with watching(FRIENDS) as chat:
            ann = await chat.person("ann")
            status, holdings = Unreachable(chat), holdings_of(chat)
            status.away = True
            await chat.person("ben")
            await silence(ann, seconds=0.3)
            status.away = False
            await holdings.restore()
            await hears(ann, "ben", online=True)

    async def test_who_subscribes_meanwhile_is_told_later(self) -> None:
        async with watching(FRIENDS) as chat:
            await chat.person("ben")
            status = Unreachable(chat)
            status.away = True
            ann = await chat.person("ann")
            await until(lambda: plugin(chat)._states._again_at is not None)
            await ann.nothing()
            status.away = False
            await hears(ann, "ben", online=True)

    async def test_after_a_hole_everything_is_told_again_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            for _ in range(100):
                holdings_of(chat).doubt()
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            # and again not before the pause is over
            holdings_of(chat).doubt()
            await silence(ann, ben, seconds=1.0)
            states = plugin(chat)._states
            assert states._again_at is not None
            assert states._again_at > chat.node.now + presence_states.PAUSE - 5

    async def test_the_store_away_only_takes_away_when_friends_were_seen(self) -> None:
        async with watching(FRIENDS, ("ann", "cyd")) as chat:
            (await chat.person("cyd")).close()
            await asyncio.sleep(GRACE + 0.4)
            ben = await chat.person("ben")

            async def down(users: Sequence[str]) -> dict[str, int]:
                raise StoreUnavailable("the disk is full")

            chat.store.last_seen = down  # type: ignore[method-assign]
            ann = await chat.person("ann")
            await hears(ann, "ben", online=True)
            ben.close()
            await hears(ann, "ben", online=False)

    async def test_who_the_friends_are_is_asked_until_it_is_known(self) -> None:
        async with watching(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            chat.friends.unavailable = True
            ben.close()
            await silence(ann)
            chat.friends.unavailable = False
            await hears(ann, "ben", online=False)

    @pytest.mark.parametrize(
        "options", [{"grace": -1}, {"settle": float("inf")}, {"max_states": 0}, {"max_per_second": 0}, {"gracious": 1}]
    )
    async def test_options_are_checked(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConnectorError, match=next(iter(options))):
            async with watching(**options):
                pass

    async def test_options_change_while_it_runs(self) -> None:
        async with watching(FRIENDS, grace=60) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            await hears(ann, "ben", online=True)
            plugin(chat).configure(Presence.Config(grace=0.1))
            ben.close()
            await hears(ann, "ben", online=False)


@asynccontextmanager
async def cluster(*pairs: tuple[str, str], count: int = 2, **options: Any) -> AsyncIterator[Nodes]:
    options = {"settle": 60.0, **options}  # the beginning is a hole, too
    async with nodes(*pairs, count=count, plugins=with_presence(**options)) as made:
        yield made


class TestSeveralNodes:
    async def test_friends_on_other_nodes_are_told(self) -> None:
        async with cluster(FRIENDS, count=3) as made:
            phone, pad = await made[0].person("ann"), await made[2].person("ann", "pad")
            ben = await made[1].person("ben")
            await hears(ben, "ann", online=True)
            for ann in (phone, pad):
                await hears(ann, "ben", online=True)
            ben.close()
            for ann in (phone, pad):
                await hears(ann, "ben", online=False)
                await ann.nothing()

    async def test_states_are_those_of_all_nodes(self) -> None:
        async with cluster(FRIENDS) as made:
            await made[1].person("ben")
            ann = await made[0].person("ann")
            await hears(ann, "ben", online=True)

    async def test_who_moves_to_another_node_does_not_flicker(self) -> None:
        async with cluster(FRIENDS) as made:
            ann = await made[0].person("ann")
            ben = await made[0].person("ben")
            await hears(ann, "ben", online=True)
            again = await made[1].person("ben")  # taken over
            assert await ben.closed()
            await silence(ann)
            again.close()
            await until(lambda: ("ben", "phone") not in made[1].node.sessions.subscribers)
            await made[0].person("ben")  # left, then came elsewhere within the grace
            assert set(await drained_after(ann)) <= {("ben", True)}

    async def test_when_a_node_dies_another_tells_it(self) -> None:
        async with cluster(FRIENDS) as made:
            ann = await made[0].person("ann")
            await made[1].person("ben")
            await hears(ann, "ben", online=True)
            before = plugin(made[0])._news._now_ms()
            made.board.lapse("b")
            told = await hears(ann, "ben", online=False)
            assert told["last_seen"] >= before  # nobody knows better

    async def test_a_relation_that_ends_elsewhere_ends_here(self) -> None:
        async with cluster(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            made[0].relation("ann", "ben", friends=False)
            await until(lambda: not plugin(made[1])._correspondents.known["ben"])
            ben.close()
            await silence(ann)

    async def test_new_friends_on_two_nodes_are_told_of_each_other(self) -> None:
        async with cluster(("ann", "cyd")) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made[0].relation("ann", "ben", friends=True)
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)

    async def test_who_was_told_offline_and_returned_in_silence_is_looked_at_again(self) -> None:
        """Ann subscribes at one node while ben lingers with another, which says nothing when he is back."""
        async with cluster(FRIENDS, grace=1.0) as made:
            ben = await made[1].person("ben")
            ben.close()
            await until(lambda: ("ben", "phone") not in made[1].node.sessions.subscribers)
            await asyncio.sleep(0.05)
            ann = await made[0].person("ann")
            await hears(ann, "ben", online=False)
            await made[1].person("ben")
            await hears(ann, "ben", online=True)

    async def test_the_second_look_repeats_nothing(self) -> None:
        async with watching(FRIENDS) as chat:
            (await chat.person("ben")).close()
            await asyncio.sleep(GRACE + 0.4)
            ann = await chat.person("ann")
            await hears(ann, "ben", online=False)
            await chat.person("ben")
            await hears(ann, "ben", online=True)
            await silence(ann, seconds=2.0)
            assert not plugin(chat)._states._readings

    async def test_an_offline_that_was_overtaken_is_put_right(self) -> None:
        """Ben comes to another node between the question whether he is there and the telling that he is not."""
        async with cluster(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            await hears(ann, "ben", online=True)
            status = Unreachable(made[1])
            ben.close()
            await until(lambda: ("ben", "phone") not in made[1].node.sessions.subscribers)
            status.gate.clear()
            asked = len(status.sizes)
            await until(lambda: len(status.sizes) > asked)
            await made[0].person("ben")
            await asyncio.sleep(0.05)
            status.gate.set()
            told = await drained_after(ann)
            assert told[-1] == ("ben", True) and ("ben", False) in told

    async def test_what_was_lost_on_the_way_is_told_again(self) -> None:
        async with cluster(FRIENDS, settle=0.3) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            made.wire.cut("a")
            ben.close()
            await asyncio.sleep(GRACE + 0.6)
            made.wire.mend()
            assert (await drained_after(ann, seconds=1.0))[-1] == ("ben", False)

    async def test_everything_that_the_user_status_knew_is_lost(self) -> None:
        async with cluster(FRIENDS, ("ann", "cyd"), settle=0.3) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            await hears(ann, "ben", online=True)
            await hears(ben, "ann", online=True)
            made.board.cut()
            ben.close()
            await made[1].person("cyd")
            await silence(ann)
            made.board.flush()
            made.board.mend()
            await until(lambda: not plugin(made[1])._news.comings.anything(made[1].node.now))
            told = dict(await drained_after(ann, seconds=2.0))
            assert told == {"ben": False, "cyd": True}


async def drained_after(client: Client, seconds: float = GRACE + 0.6) -> list[tuple[str, bool]]:
    await asyncio.sleep(seconds)
    return await drained(client)
