"""What every journal promises about who stores which shard, in memory and on a real Redis."""

from __future__ import annotations

import asyncio

from tests.contract.journals import SHARDS, Journals


async def test_one_storer_takes_every_shard(journals: Journals) -> None:
    journal = await journals.node()
    found = await journal.leases("one", accepting=True)
    assert (found.held, found.surplus, found.accepting) == (frozenset(range(SHARDS)), 0, 0)


async def test_a_second_storer_gets_its_share_when_the_first_gives_up_its_surplus(journals: Journals) -> None:
    one, two = await journals.node(), await journals.node()
    await one.leases("one", accepting=True)
    assert (await two.leases("two", accepting=False)).held == frozenset()
    first = await one.leases("one", accepting=True)
    assert (first.surplus, first.accepting) == (SHARDS // 2, 0)
    await one.give_up("one", sorted(first.held)[: first.surplus])
    second = await two.leases("two", accepting=False)
    assert len(second.held) == SHARDS // 2 and second.accepting == 1
    first = await one.leases("one", accepting=True)
    assert first.held | second.held == frozenset(range(SHARDS)) and not first.held & second.held


async def test_nobody_gives_up_what_is_another_ones(journals: Journals) -> None:
    journal = await journals.node()
    await journal.leases("one", accepting=False)
    await journal.give_up("two", range(SHARDS))
    assert (await journal.leases("two", accepting=False)).held == frozenset()


async def test_who_leaves_leaves_everything(journals: Journals) -> None:
    journal = await journals.node()
    await journal.leases("one", accepting=True)
    await journal.leave("one")
    found = await journal.leases("two", accepting=False)
    assert (found.held, found.accepting) == (frozenset(range(SHARDS)), 0)


async def test_who_does_not_renew_loses_everything(journals: Journals) -> None:
    journal = await journals.node(lease=150)
    await journal.leases("one", accepting=True)
    await asyncio.sleep(0.3)
    found = await journal.leases("two", accepting=True)
    assert (found.held, found.accepting) == (frozenset(range(SHARDS)), 0)
    assert (await journal.leases("one", accepting=True)).held == frozenset()


async def test_who_does_not_store_has_no_share_and_still_accepts(journals: Journals) -> None:
    one, two = await journals.node(), await journals.node()
    assert len((await one.leases("one", accepting=True)).held) == SHARDS
    found = await one.leases("one", accepting=True, storing=False)
    assert (found.held, found.surplus) == (frozenset(), 0)
    found = await two.leases("two", accepting=False)
    assert (len(found.held), found.accepting) == (SHARDS, 1)
    assert (await one.leases("one", accepting=True)).held == frozenset()
    assert (await two.leases("two", accepting=False)).surplus == SHARDS // 2
