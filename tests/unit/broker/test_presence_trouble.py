"""Presence over several nodes, and while something is away: true in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aldis.broker import presence_states
from aldis.broker.connector import ConnectorError
from aldis.broker.core.reasons import CloseReason
from aldis.broker.ports import StoreUnavailable
from aldis.plugins.presence import Presence
from tests.unit.broker.lab import until
from tests.unit.broker.test_cluster import Nodes, nodes
from tests.unit.broker.watching import (
    FRIENDS,
    GRACE,
    Unreachable,
    drained_after,
    hears,
    holdings_of,
    plugin,
    silence,
    watching,
    with_presence,
)


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

    async def test_when_a_node_stops_another_tells_it(self) -> None:
        """But not of who has come back at another node meanwhile."""
        async with cluster(FRIENDS, ("ann", "cyd")) as made:
            ann = await made[0].person("ann")
            for user in ("ben", "cyd"):
                await made[1].person(user)
                await hears(ann, user, online=True)
            stopping = made[1].cluster
            assert stopping is not None
            stopping.holdings.leave_behind()
            for connection in list(made[1].node.connections):
                connection.end(CloseReason.SERVER_SHUTDOWN)
            await made[0].person("cyd")
            await stopping.close()
            assert await drained_after(ann) == [("ben", False)]

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

    async def test_an_online_that_was_told_too_late_is_put_right(self) -> None:
        """Ben has left for good, from another node, before the one where he came gets to tell that he is there."""
        async with cluster(FRIENDS) as made:
            ann = await made[0].person("ann")
            status = Unreachable(made[1])
            status.gate.clear()
            phone = await made[1].person("ben")
            pad = await made[0].person("ben", "pad")
            for device in (phone, pad):
                device.close()
            await hears(ann, "ben", online=False)
            status.gate.set()
            assert await drained_after(ann) == [("ben", True), ("ben", False)]

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
