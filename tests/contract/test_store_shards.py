"""Promises of `Store` about the journal's shards, on every back end: who has claimed one last commits, nobody else."""

from __future__ import annotations

import pytest

from aldis.broker.ports import CursorMove, Delivered, Read, ShardLost, Store
from tests.contract.stores import Reopen, chat, commit


async def test_a_claim_raises_the_epoch_of_its_shard_by_one(store: Store) -> None:
    assert [await store.claim_shard(7) for _ in range(3)] == [1, 2, 3]
    assert await store.claim_shard(0) == 1
    assert await store.claim_shard(7) == 4


async def test_the_current_epoch_commits(store: Store) -> None:
    epoch = await store.claim_shard(3)
    stored = (await commit(store, chat(mid=100), chat(), shards=[(3, epoch)])).stored
    assert [one.n for one in stored] == [1, 2]
    # another shard's claim is nothing to it
    await store.claim_shard(4)
    assert (await commit(store, chat(), shards=[(3, epoch)])).stored[0].n == 3


@pytest.mark.parametrize("distance", [-1, 1])
async def test_another_epoch_is_refused_with_all_that_is_in_the_batch(store: Store, distance: int) -> None:
    await store.claim_shard(3)
    epoch = await store.claim_shard(3)
    claim = await store.claim("bob", "phone", now=1, limit=5)
    await commit(store, chat(), shards=[(3, epoch)])
    with pytest.raises(ShardLost):
        await commit(
            store,
            chat('"a"', mid=100, sync=True, seq=5),
            moves=[CursorMove("bob", "phone", claim.epoch, 1)],
            delivered=[Delivered("bob", "alice", 1)],
            reads=[Read("bob", "alice", 1)],
            shards=[(3, epoch + distance)],
        )
    assert (await store.head("bob"), await store.head("alice")) == (1, 0)
    assert await store.find("alice", "phone", '"a"') is None
    assert await store.last_seq("alice", "phone", "bob") == 0
    assert await store.receipts_for("alice", limit=9) == []
    assert (await store.devices("bob"))[0].cursor == 0
    # what comes after is as if it had never been
    stored = (await commit(store, chat('"a"', mid=100), chat(), shards=[(3, epoch)])).stored
    assert [(one.n, one.repeated) for one in stored] == [(2, False), (3, False)]


async def test_one_batch_may_belong_to_several_shards(store: Store) -> None:
    fences = [(shard, await store.claim_shard(shard)) for shard in (9, 2, 5)]
    messages = [chat(mid=100), chat(to="carol", mid=102), chat(mid=104)]
    assert [one.n for one in (await commit(store, *messages, shards=fences)).stored] == [1, 1, 2]
    await store.claim_shard(7)
    assert [one.repeated for one in (await commit(store, *messages, shards=fences)).stored] == [True] * 3


async def test_one_stale_epoch_of_several_refuses_all_and_says_which(store: Store) -> None:
    fences = [(shard, await store.claim_shard(shard)) for shard in (9, 2, 5, 3)]
    await store.claim_shard(2)
    await store.claim_shard(9)
    with pytest.raises(ShardLost) as lost:
        await commit(store, chat('"a"', mid=100), shards=fences)
    assert lost.value.shards == {2, 9}
    assert await store.head("bob") == 0 and await store.find("alice", "phone", '"a"') is None
    # without what belongs to them the rest is
    assert (await commit(store, chat('"a"', mid=100), shards=fences[2:])).stored[0].n == 1


async def test_a_shard_that_nobody_has_claimed_is_nobodys(store: Store) -> None:
    for epoch in (0, 1):
        with pytest.raises(ShardLost):
            await commit(store, chat(), shards=[(3, epoch)])
    assert await store.head("bob") == 0
    assert await store.claim_shard(3) == 1


async def test_a_batch_without_content_asks_all_the_same(store: Store) -> None:
    epoch = await store.claim_shard(3)
    await commit(store, shards=[(3, epoch)])
    await store.claim_shard(3)
    with pytest.raises(ShardLost):
        await commit(store, shards=[(3, epoch)])


async def test_a_batch_that_names_no_shard_asks_nobody(store: Store) -> None:
    await store.claim_shard(0)
    await store.claim_shard(0)
    assert (await commit(store, chat())).stored[0].n == 1


async def test_repeats_are_refused_too(store: Store) -> None:
    """What a deposed storer holds is none of its business any more, stored or not."""
    old = await store.claim_shard(3)
    await commit(store, chat(mid=100), shards=[(3, old)])
    await store.claim_shard(3)
    with pytest.raises(ShardLost):
        await commit(store, chat(mid=100), shards=[(3, old)])


async def test_epochs_outlive_a_reopening(reopen: Reopen) -> None:
    store = reopen()
    await store.open()
    epoch = await store.claim_shard(3)
    await store.close()
    store = reopen()
    await store.open()
    try:
        await commit(store, chat(), shards=[(3, epoch)])
        assert await store.claim_shard(3) == epoch + 1
    finally:
        await store.close()
