"""Two stores on one database, and a shard of the journal that goes from the one to the other: what of the old one's
work takes effect, and what does not."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import BoundedConnection
from aldis.broker.ports import Batch, ShardLost, StoreUnavailable
from tests.contract.stores import chat, commit
from tests.databases import empty_database

PAUSE = 1.0
"""Seconds that a transaction may stand still before the server ends it."""


@pytest.fixture
async def nodes() -> AsyncIterator[list[MySqlStore]]:
    server = replace(empty_database(), pause_timeout=PAUSE)
    nodes = [MySqlStore(server) for _ in range(2)]
    for node in nodes:
        await node.open()
    yield nodes
    for node in nodes:
        await node.close()


class Halt:
    """`reached` when the node stands still, which it does until `go_on` is set."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()


@contextmanager
def halted(node: MySqlStore, *, before: bytes = b"", after: bytes = b"") -> Iterator[Halt]:
    """Its commits stand still before they send a statement, or after they have had its answer."""
    halt = Halt()
    link = node._now().committer._link
    get = link.get

    async def stand_still() -> None:
        halt.reached.set()
        await halt.go_on.wait()

    async def get_halting() -> BoundedConnection:
        driver = await get()
        run = type(driver).run

        async def halting(statement: bytes) -> tuple[tuple[object, ...], ...]:
            if before and before in statement:
                await stand_still()
            answer = await run(driver, statement)
            if after and after in statement:
                await stand_still()
            return answer

        driver.run = halting  # type: ignore[method-assign]
        return driver

    link.get = get_halting  # type: ignore[method-assign]
    try:
        yield halt
    finally:
        link.get = get  # type: ignore[method-assign]
        halt.go_on.set()


async def test_a_claim_waits_for_the_commit_that_is_under_way(nodes: list[MySqlStore]) -> None:
    old, new = nodes
    epoch = await old.claim_shard(3)
    with halted(old, after=b"im_shard") as halt:
        committing = asyncio.create_task(commit(old, chat(mid=100), shards=[(3, epoch)]))
        await halt.reached.wait()
        assert await new.claim_shard(4) == 1, "who claims another shard waits for nobody"
        claiming = asyncio.create_task(new.claim_shard(3))
        await asyncio.sleep(PAUSE / 3)
        assert not claiming.done()
        halt.go_on.set()
        assert await claiming == epoch + 1
        assert await new.head("bob") == 1, "what the claim has waited for is there when it returns"
        assert (await committing).stored[0].n == 1
    with pytest.raises(ShardLost):
        await commit(old, chat(mid=102), shards=[(3, epoch)])
    assert (await commit(new, chat(mid=104), shards=[(3, epoch + 1)])).stored[0].n == 2


@pytest.mark.alone
async def test_a_commit_that_comes_after_the_claim_has_no_effect(nodes: list[MySqlStore]) -> None:
    """However far the old storer had come by then: it had read its batch, and begun its transaction."""
    old, new = nodes
    epoch = await old.claim_shard(3)
    with halted(old, before=b"im_shard") as halt:
        committing = asyncio.create_task(commit(old, chat(mid=100), chat(to="carol", mid=102), shards=[(3, epoch)]))
        await halt.reached.wait()
        assert await new.claim_shard(3) == epoch + 1
        assert (await commit(new, chat(mid=104), shards=[(3, epoch + 1)])).stored[0].n == 1
        halt.go_on.set()
        with pytest.raises(ShardLost):
            await committing
    assert [item.mid for item in await new.items("bob", after=0, limit=9)] == [104]
    # its transaction has ended at once: nobody waits for what it had locked
    begun = time.monotonic()
    assert (await commit(new, chat(to="carol", mid=106), shards=[(3, epoch + 1)])).stored[0].n == 1
    assert time.monotonic() - begun < PAUSE / 2


@pytest.mark.alone
async def test_a_frozen_storer_holds_its_shard_for_the_pause_only_and_then_has_lost_it(nodes: list[MySqlStore]) -> None:
    """SIGSTOP in the middle of a commit: here the transaction of the old storer just does not go on."""
    old, new = nodes
    epoch = await old.claim_shard(3)
    work = Batch([chat(mid=100), chat(mid=102)], shards=[(3, epoch)])
    with halted(old, after=b"im_shard") as halt:
        committing = asyncio.create_task(old.commit(work))
        await halt.reached.wait()
        begun = time.monotonic()
        assert await new.claim_shard(3) == epoch + 1
        assert PAUSE / 3 < time.monotonic() - begun < PAUSE + 3
        assert (await commit(new, chat(mid=100), shards=[(3, epoch + 1)])).stored[0].n == 1
    with pytest.raises(StoreUnavailable):
        await committing
    for _ in range(2):
        with pytest.raises(ShardLost):
            await old.commit(work)
    assert [item.mid for item in await new.items("bob", after=0, limit=9)] == [100]
    assert (await commit(new, chat(mid=102), shards=[(3, epoch + 1)])).stored[0].n == 2


async def test_batches_of_the_same_shards_never_wait_in_a_circle(
    nodes: list[MySqlStore], caplog: pytest.LogCaptureFixture
) -> None:
    """In whichever order they name them."""
    caplog.set_level(logging.INFO, logger="aldis.bridge")
    fences = [(shard, await nodes[0].claim_shard(shard)) for shard in range(16)]

    async def write(node: MySqlStore, shards: list[tuple[int, int]], user: str) -> None:
        for _ in range(60):
            await commit(node, chat(to=user), shards=shards)

    await asyncio.gather(write(nodes[0], fences, "bob"), write(nodes[1], fences[::-1], "carol"))
    assert [record for record in caplog.records if "again" in record.message] == []
    assert (await nodes[0].head("bob"), await nodes[0].head("carol")) == (60, 60)


async def test_claims_wait_in_the_way_of_no_reader(nodes: list[MySqlStore]) -> None:
    """A node takes over all shards of a frozen one: those who read from the pool meanwhile find a connection."""
    old, new = nodes
    epoch = await old.claim_shard(3)
    with halted(old, after=b"im_shard") as halt:
        committing = asyncio.create_task(commit(old, chat(mid=100), shards=[(3, epoch)]))
        await halt.reached.wait()
        claiming = [asyncio.create_task(new.claim_shard(3)) for _ in range(20)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(PAUSE / 2):
            assert await asyncio.gather(*[new.head("bob") for _ in range(20)]) == [0] * 20
    assert sorted(await asyncio.gather(*claiming)) == list(range(epoch + 1, epoch + 21))
    await asyncio.gather(committing, return_exceptions=True)


async def test_nothing_of_an_older_epoch_comes_after_a_newer_one(
    nodes: list[MySqlStore], caplog: pytest.LogCaptureFixture
) -> None:
    """Both take the shards from each other all the time, and commit until they notice; the group commits of both write
    to the same inboxes in between. No inbox has an epoch behind a later one, and nobody waits in a circle."""
    caplog.set_level(logging.INFO, logger="aldis.bridge")
    users = [f"user{i}" for i in range(6)]
    done = False
    lost = 0

    async def store_shard(node: MySqlStore, name: int) -> None:
        nonlocal lost
        mid = 1_000_000 * (name + 1)
        chance = random.Random(name)
        for turn in range(200):
            if turn >= 20 and lost >= 10:
                break
            shard = chance.randrange(2)
            epoch = await node.claim_shard(shard)
            for _ in range(4):
                messages = []
                for user in users[shard::2]:
                    mid += 2
                    messages.append(chat(to=user, mid=mid, content=b"%d" % epoch, sync=True))
                try:
                    await commit(node, *messages, shards=[(shard, epoch)])
                except ShardLost:
                    lost += 1
                    break

    async def write(node: MySqlStore) -> None:
        while not done:
            await commit(node, *[chat(to=user, sender="$server", content=b"") for user in users[::-1]])
            await asyncio.sleep(0)

    storers = [MySqlStore(node._server) for node in nodes]
    for storer in storers:
        await storer.open()
    writers = [asyncio.create_task(write(node)) for node in nodes]
    await asyncio.gather(*[store_shard(storer, number) for number, storer in enumerate(storers)])
    done = True
    await asyncio.gather(*writers)
    for storer in storers:
        await storer.close()
    assert lost >= 10, "they did meet"
    for user in users:
        items = await nodes[0].items(user, after=0, limit=10_000)
        assert [item.n for item in items] == list(range(1, len(items) + 1))
        epochs = [int(item.content) for item in items if item.content]
        assert epochs and epochs == sorted(epochs)
        assert len({item.mid for item in items}) == len(items)
    assert len([record for record in caplog.records if "again" in record.message]) <= 5
