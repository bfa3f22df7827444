"""Who holds which device: what every user status promises, on one board in memory and on a real Redis."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from aldis.broker.cluster_ports import Holding, StatusUnavailable, UserStatus
from tests.contract.statuses import Statuses, arrive, where

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
