"""Who holds which device: what every user status promises, on one board in memory and on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from aldis.broker.cluster_ports import Holding, StatusUnavailable, UserStatus
from tests.contract.statuses import STATUSES, Statuses


@pytest.fixture(params=list(STATUSES))
async def statuses(request: pytest.FixtureRequest) -> AsyncIterator[Statuses]:
    statuses = STATUSES[request.param]()
    yield statuses
    await statuses.end()


async def arrive(status: UserStatus, user: str, device: str = "phone") -> Holding:
    (arrival,) = await status.online([(user, device)])
    return arrival.holding


async def where(status: UserStatus, user: str) -> set[str]:
    return set((await status.connectors([user]))[user])


# Coming and going


async def test_the_first_device_of_a_user(statuses: Statuses) -> None:
    one = await statuses.node("one")
    phone, tablet, other = await one.online([("ann", "phone"), ("ann", "tablet"), ("bob", "phone")])
    assert [each.first for each in (phone, tablet, other)] == [True, False, True]
    assert [each.previous for each in (phone, tablet, other)] == [None, None, None]
    assert (phone.holding.user, phone.holding.device, phone.holding.node) == ("ann", "phone", "one")
    assert phone.holding.turn < tablet.holding.turn < other.holding.turn
    assert await one.connectors(["ann", "nobody"]) == {"ann": {"one"}, "nobody": frozenset()}
    assert await one.present(["ann", "bob", "nobody"]) == {"ann", "bob"}


async def test_a_device_that_comes_to_another_node(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    old = await arrive(one, "ann")
    (arrival,) = await two.online([("ann", "phone")])
    assert arrival.previous == old
    assert arrival.holding.turn > old.turn
    assert not arrival.first
    assert await where(one, "ann") == await where(two, "ann") == {"two"}


async def test_a_device_that_comes_back_to_its_node(statuses: Statuses) -> None:
    one = await statuses.node("one")
    old = await arrive(one, "ann")
    (arrival,) = await one.online([("ann", "phone")])
    assert (arrival.previous, arrival.first) == (old, False)
    again, further = await one.online([("ann", "phone"), ("ann", "phone")])
    assert (again.previous, further.previous) == (arrival.holding, again.holding)


async def test_devices_on_two_nodes(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    await arrive(one, "ann", "phone")
    (arrival,) = await two.online([("ann", "tablet")])
    assert (arrival.previous, arrival.first) == (None, False)
    assert await where(one, "ann") == {"one", "two"}


async def test_away_counts_for_connectors_and_not_for_present(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    phone, tablet = await arrive(one, "ann", "phone"), await arrive(two, "ann", "tablet")
    assert await one.away([phone]) == [False]
    assert await one.present(["ann"]) == {"ann"}
    assert await two.away([tablet]) == [True]
    assert await one.present(["ann"]) == frozenset()
    assert await where(one, "ann") == {"one", "two"}
    (arrival,) = await one.online([("ann", "phone")])
    assert (arrival.previous, arrival.first) == (phone, True)


async def test_offline_says_when_the_last_connection_ends(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    phone, tablet = await arrive(one, "ann", "phone"), await arrive(two, "ann", "tablet")
    assert await one.offline([phone]) == [False]
    assert await where(one, "ann") == {"two"}
    assert await two.offline([tablet]) == [True]
    assert await two.offline([tablet]) == [False]  # this call changed nothing
    assert await where(one, "ann") == set()


async def test_a_session_that_ends_while_away_changes_nobodys_presence(statuses: Statuses) -> None:
    one = await statuses.node("one")
    phone = await arrive(one, "ann")
    assert await one.away([phone]) == [True]
    assert await one.offline([phone]) == [False]
    assert await where(one, "ann") == set()


@pytest.mark.parametrize("how", ["away", "offline"])
async def test_who_was_replaced_changes_nothing(statuses: Statuses, how: str) -> None:
    """The old holder's end comes late, as it does when a link breaks without a word."""
    one, two = await statuses.node("one"), await statuses.node("two")
    old = await arrive(one, "ann")
    await arrive(two, "ann")
    assert await getattr(one, how)([old]) == [False]
    assert await where(one, "ann") == {"two"}
    assert await one.present(["ann"]) == {"ann"}


async def test_who_was_replaced_on_the_same_node_changes_nothing(statuses: Statuses) -> None:
    one = await statuses.node("one")
    old = await arrive(one, "ann")
    new = await arrive(one, "ann")
    assert await one.offline([old, old]) == [False, False]
    assert await one.present(["ann"]) == {"ann"}
    assert await one.offline([new]) == [True]


async def test_large_batches_keep_their_order(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    asked = [(f"user{number % 450}", f"device{number}") for number in range(900)]
    arrivals = await one.online(asked)
    assert [(each.holding.user, each.holding.device) for each in arrivals] == asked
    assert [each.first for each in arrivals] == [True] * 450 + [False] * 450
    turns = [each.holding.turn for each in arrivals]
    assert turns == sorted(set(turns))
    await two.online([(f"user{number}", "second") for number in range(0, 450, 2)])
    found = await two.connectors([f"user{number}" for number in range(451)])
    assert found == {
        **{f"user{number}": {"one", "two"} if number % 2 == 0 else {"one"} for number in range(450)},
        "user450": frozenset(),
    }
    gone = await one.offline([each.holding for each in arrivals])
    assert gone == [False] * 450 + [number % 2 == 1 for number in range(450)]
    assert await one.present([f"user{number}" for number in range(450)]) == {f"user{n}" for n in range(0, 450, 2)}


async def test_empty_batches(statuses: Statuses) -> None:
    one = await statuses.node("one")
    assert await one.online([]) == await one.away([]) == await one.offline([]) == await one.restore([], []) == []
    assert await one.connectors([]) == {}
    assert await one.present([]) == frozenset()


async def test_any_client_identifier(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    devices = [
        "",
        " ",
        "\n",
        "a\nb",
        "a/b",
        "3:a",
        "\u0001",
        "é",
        "😀" * 50,
        "x" * 3_000,
        "%s %d",
        "\\",
        '"',
        "1 2 3 1",
    ]
    first = await one.online([(user, device) for user in ("ann", "ann.2") for device in devices])
    second = await two.online([("ann", device) for device in devices])
    assert [each.previous for each in second] == [each.holding for each in first[: len(devices)]]
    await statuses.die(two)
    assert statuses.ears[one].left == {"ann": 1}
    assert await one.connectors(["ann", "ann.2"]) == {"ann": frozenset(), "ann.2": {"one"}}
    assert await one.offline([each.holding for each in first[len(devices) :]]) == [False] * (len(devices) - 1) + [True]


async def test_names_differ_by_case(statuses: Statuses) -> None:
    one = await statuses.node("one")
    for user, device in (("ann", "phone"), ("Ann", "phone"), ("ann", "Phone")):
        (arrival,) = await one.online([(user, device)])
        assert arrival.previous is None


# Nodes die


async def test_what_a_dead_node_held_does_not_count(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    await arrive(two, "ann")
    await statuses.die(two)
    assert await where(one, "ann") == set()
    assert await one.present(["ann"]) == frozenset()
    (arrival,) = await one.online([("ann", "phone")])
    assert (arrival.previous, arrival.first) == (None, True)


async def test_those_who_lost_their_last_connection_are_told_to_one_living_node(statuses: Statuses) -> None:
    one, two, three = [await statuses.node(name) for name in ("one", "two", "three")]
    await three.online([("only", "phone"), ("only", "tablet"), ("also", "phone")])
    await arrive(one, "also", "tablet")
    away = await arrive(three, "away")
    await three.away([away])
    await statuses.die(three)
    assert statuses.ears[one].left + statuses.ears[two].left == {"only": 1}
    await statuses.settle()
    assert statuses.ears[one].left + statuses.ears[two].left == {"only": 1}


async def test_many_who_are_left_behind(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    await two.online([(f"user{number}", device) for number in range(450) for device in ("phone", "tablet")])
    await statuses.die(two)
    assert statuses.ears[one].left == {f"user{number}": 1 for number in range(450)}


async def test_a_name_is_taken_over_at_once(statuses: Statuses) -> None:
    """A process that was killed must be able to start again before its lease runs out."""
    one = await statuses.node("one")
    old = await arrive(one, "ann")
    again, other = await statuses.node("one"), await statuses.node("other")
    assert await where(other, "ann") == set()
    (arrival,) = await again.online([("ann", "phone")])
    assert (arrival.previous, arrival.first) == (None, True)
    assert arrival.holding.turn > old.turn
    assert statuses.ears[one].superseded_times == 1
    assert statuses.ears[again].superseded_times == statuses.ears[again].lost == 0
    assert statuses.ears[again].left + statuses.ears[other].left == {"ann": 1}


async def test_a_superseded_process_holds_nobody_any_more(statuses: Statuses) -> None:
    one = await statuses.node("one")
    held = await arrive(one, "ann")
    again = await statuses.node("one")
    with pytest.raises(StatusUnavailable):
        await one.online([("ann", "phone")])
    with pytest.raises(StatusUnavailable):
        await one.restore([held], [True])
    await one.close()
    new = await arrive(again, "ann")
    await statuses.settle()
    assert await where(again, "ann") == {"one"}
    assert await again.offline([new]) == [True]
    assert statuses.ears[again].superseded_times == 0
    assert statuses.ears[one].superseded_times == 1


async def test_a_younger_process_keeps_its_name_when_all_is_lost(statuses: Statuses) -> None:
    one = await statuses.node("one")
    again = await statuses.node("one")
    await statuses.flush()
    await statuses.settle()
    await arrive(again, "ann")
    assert await where(again, "ann") == {"one"}
    assert (statuses.ears[one].superseded_times, statuses.ears[again].superseded_times) == (1, 0)


async def test_closing_gives_everything_up_at_once(statuses: Statuses) -> None:
    one, two = await statuses.node("one"), await statuses.node("two")
    await arrive(one, "ann")
    await one.close()
    await one.close()
    assert await where(two, "ann") == set()
    assert await two.present(["ann"]) == frozenset()
    with pytest.raises(StatusUnavailable):
        await one.online([("ann", "phone")])
    await statuses.settle()
    assert statuses.ears[two].left == {"ann": 1}


async def test_the_next_that_comes_is_told_what_the_last_one_left(statuses: Statuses) -> None:
    one = await statuses.node("one")
    await one.online([("ann", "phone"), ("bob", "phone")])
    await statuses.die(one)
    two = await statuses.node("two")
    assert statuses.ears[two].left == {"ann": 1, "bob": 1}


# Leases and the whole back end are lost


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
    assert await two.offline([Holding("ann", "phone", "two", new.turn + 1)]) == [False]
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


async def test_two_nodes_fight_for_a_device(statuses: Statuses) -> None:
    both = [await statuses.node("one"), await statuses.node("two")]

    async def come_and_go(status: UserStatus) -> list[tuple[Holding, Holding | None]]:
        seen = []
        for _ in range(40):
            (arrival,) = await status.online([("ann", "phone")])
            seen.append((arrival.holding, arrival.previous))
            assert await status.offline([seen[max(0, len(seen) - 3)][0]]) in ([False], [True])
        return seen

    rounds = await asyncio.gather(*(come_and_go(status) for status in both), come_and_go(both[0]))
    arrivals = sorted((pair for seen in rounds for pair in seen), key=lambda pair: pair[0].turn)
    assert len({holding.turn for holding, _ in arrivals}) == len(arrivals) == 120
    for (before, _), (_, previous) in pairwise(arrivals):
        assert previous in (before, None)  # nobody between; None where it had gone offline
    last = arrivals[-1][0]
    assert await where(both[1], "ann") in ({last.node}, set())
