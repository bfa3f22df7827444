"""What a user status promises when leases run out and the back end loses everything, or cannot be reached."""

from __future__ import annotations

import asyncio
import time

import pytest

from aldis.broker.cluster_ports import Holding, StatusUnavailable
from tests.contract.statuses import Statuses, arrive, where


async def test_a_node_that_stood_still_learns_that_its_lease_was_lost(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    stayed, moved, away = [await arrive(one, user) for user in ("stayed", "moved", "away")]
    await one.away([away])
    await statuses.lapse(one)
    assert statuses.ears[two].left == {"stayed": 1, "moved": 1}
    new = await arrive(two, "moved")
    await statuses.settle()
    assert statuses.ears[one].lost == 1
    assert statuses.ears[two].lost == 0
    assert await one.restore([stayed, moved, away], [True, True, False]) == [None, new, None]
    found = await two.connectors(["stayed", "moved", "away"])
    assert found == {"stayed": {"one"}, "moved": {"two"}, "away": {"one"}}
    assert await one.present(["stayed", "moved", "away"]) == {"stayed", "moved"}
    assert await one.offline([stayed, moved, away]) == [True, False, False]


async def test_a_call_is_enough_to_take_a_lost_lease_again(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    await statuses.lapse(one)
    await arrive(one, "ann")
    assert await where(two, "ann") == {"one"}
    await asyncio.sleep(0)
    assert statuses.ears[one].lost == 1
    await statuses.settle()
    assert statuses.ears[one].lost == 1


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
async def test_when_all_is_lost_the_later_holder_wins_whoever_speaks_first(
    statuses: Statuses, order: tuple[str, str]
) -> None:
    node = {name: await statuses.node(name) for name in ("one", "two")}
    held = {"one": await arrive(node["one"], "ann"), "two": await arrive(node["two"], "ann")}
    await statuses.flush()
    await statuses.settle()
    assert [statuses.ears[status].lost for status in node.values()] == [1, 1]
    answers = {name: (await node[name].restore([held[name]], [True]))[0] for name in order}
    assert answers["two"] is None
    assert answers["one"] == (held["two"] if order == ("two", "one") else None)
    assert await where(node["one"], "ann") == {"two"}
    assert await node["one"].offline([held["one"]]) == [False]
    assert await node["two"].offline([held["two"]]) == [True]


async def test_turns_rise_also_when_all_is_lost(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    turns = []
    for _ in range(3):
        for status in (one, two):
            turns += [each.holding.turn for each in await status.online([("ann", "phone"), ("bob", "phone")])]
        await statuses.flush()
    assert turns == sorted(set(turns))


async def test_a_turn_from_a_clock_that_is_ahead_is_overtaken(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    ahead = round((time.time() + 3_600) * 1_000_000)
    assert await one.restore([Holding("ann", "phone", "one", ahead)], [True]) == [None]
    (arrival,) = await two.online([("ann", "phone")])
    assert arrival.holding.turn > ahead
    assert arrival.previous == Holding("ann", "phone", "one", ahead)
    further = round((time.time() + 7_200) * 1_000_000)
    assert await one.restore([Holding("bob", "phone", "one", further)], [True]) == [None]
    assert await one.offline([Holding("bob", "phone", "one", further)]) == [True]
    assert (await arrive(two, "bob")).turn > further
    (arrival,) = await two.online([("ann", "phone")])
    await statuses.flush()
    assert (await arrive(two, "ann")).turn > arrival.holding.turn  # the node remembers, if nobody else does


async def test_what_was_held_is_put_back_as_it_was(statuses: Statuses) -> None:
    one = await statuses.node("one")
    held = await arrive(one, "ann")
    assert await one.restore([held], [False]) == [None]
    assert await one.present(["ann"]) == frozenset()
    (arrival,) = await one.online([("ann", "phone")])
    assert (arrival.previous, arrival.first) == (held, True)


async def test_a_node_that_could_not_wait_for_its_turn_keeps_the_one_it_made_up(statuses: Statuses) -> None:
    one = await statuses.node("one")
    made_up = Holding("ann", "phone", "one", round(time.time() * 1_000_000) - 1_000)
    await arrive(one, "ann")  # the answer came too late
    assert await one.restore([made_up], [True]) == [None]
    assert await one.offline([made_up]) == [True]
    assert await one.present(["ann"]) == frozenset()


@pytest.mark.parametrize("how", ["away", "offline"])
async def test_what_is_said_again_too_late_goes_with_the_next(statuses: Statuses, how: str) -> None:
    """The device comes back to its node while that node says again what it holds."""
    one, two = await statuses.node("one"), await statuses.node("two")
    held = await arrive(one, "ann")
    new = await arrive(one, "ann")
    assert await one.restore([held], [True]) == [None]
    assert await two.offline([new]) == [False]
    for other in (one, two):
        assert await other.offline([Holding("ann", "phone", "two", new.turn + 1)]) == [False]
    assert await getattr(one, how)([new]) == [True]
    assert await two.present(["ann"]) == frozenset()


async def test_an_unreachable_back_end(statuses: Statuses) -> None:
    statuses.timeout = 0.3
    one = await statuses.node("one")
    held = await arrive(one, "ann")
    await statuses.cut()
    late = await statuses.node("late")
    for call in (one.online([("ann", "phone")]), one.offline([held]), one.connectors(["ann"]), one.present(["ann"])):
        with pytest.raises(StatusUnavailable):
            await call
    with pytest.raises(StatusUnavailable):
        await late.connectors(["ann"])
    assert statuses.ears[one].lost == statuses.ears[late].lost == 0
    await statuses.mend()
    assert statuses.ears[one].lost == statuses.ears[late].lost == 1
    assert await arrive(late, "bob")
    assert await one.restore([held], [True]) == [None]
    assert await late.connectors(["ann", "bob"]) == {"ann": {"one"}, "bob": {"late"}}
