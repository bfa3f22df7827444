"""Message ids that the caller gives beside those that the database gives, on several nodes and kinds of servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from aldis.bridge.mysql import MySqlStore
from aldis.broker.ports import Batch, Committed, StoreUnavailable
from tests.contract.stores import chat, commit
from tests.databases import empty_database, migrated, new_name
from tests.mariadb import MariaDb, shared_server
from tests.mysql.proxy import At, CuttingProxy
from tests.mysql.test_doubt import answer_lost, check_once, commit_late, commit_lost


@pytest.fixture
async def nodes() -> AsyncIterator[list[MySqlStore]]:
    server = empty_database()
    nodes = [MySqlStore(server) for _ in range(2)]
    for node in nodes:
        await node.open()
    yield nodes
    for node in nodes:
        await node.close()


async def test_given_mids_and_others_never_meet(nodes: list[MySqlStore]) -> None:
    """A storer and a group commit side by side: the journal gives mids near those that the database gives at the same
    time, and commits them later. Every message is stored, under its own."""
    storer, writer = nodes
    chance = random.Random(5)
    waiting: list[int] = []
    committed: list[Committed] = []

    async def give() -> None:
        for _ in range(60):
            start = await storer.highest_mid() // 2 * 2 + 2
            waiting.extend(mid for mid in range(start, start + 12, 2) if mid not in waiting)
            await asyncio.sleep(0)
            chance.shuffle(waiting)
            entries = [chat(mid=waiting.pop(), to=f"user{i % 3}", sync=True) for i in range(len(waiting) // 2)]
            committed.append(await commit(storer, *entries))

    async def draw() -> None:
        for _ in range(60):
            messages = [chat(to=f"user{i % 3}", sender="$server") for i in range(5)]
            committed.append(await commit(writer, *messages))

    await asyncio.gather(give(), draw())
    stored = [one for part in committed for one in part.stored]
    assert not any(one.repeated for one in stored)
    mids = [one.mid for one in stored]
    assert len(set(mids)) == len(mids)
    found = [item.mid for i in range(3) for item in await writer.items(f"user{i}", after=0, limit=10_000)]
    assert sorted(found) == sorted(mids)


async def test_the_database_gives_odd_ones(nodes: list[MySqlStore]) -> None:
    for given in (100, 102, 1_000):
        drawn = [one for node in nodes for one in (await commit(node, *[chat() for _ in range(7)])).stored]
        assert all(one.mid % 2 for one in drawn)
        await commit(nodes[0], chat(mid=given))


@pytest.mark.parametrize("lock_mode", [0, 1, 2])
async def test_every_mode_of_the_servers_lock_on_ids(own_server: MariaDb, lock_mode: int) -> None:
    """And every distance of ids, which servers that replicate to each other are set to; over a restart, too."""
    own_server.stop()
    own_server.start(f"--innodb-autoinc-lock-mode={lock_mode}")
    server = migrated(own_server, new_name())
    highest = 0
    for increment, offset in [(1, 1), (3, 2), (2, 2), (5, 1), (1, 7), (1, 1)]:
        own_server.ask(f"SET GLOBAL auto_increment_increment = {increment}")
        own_server.ask(f"SET GLOBAL auto_increment_offset = {offset}")
        one, other = MySqlStore(server), MySqlStore(server)
        await one.open()
        await other.open()
        given = highest // 2 * 2 + 50
        mixed = [*[chat(to="ann")] * 20, chat(to="ann", mid=given), *[chat(to="ann")] * 5]
        first, second = await asyncio.gather(commit(one, *mixed), commit(other, *[chat(to="ben")] * 30))
        third = await commit(other, *[chat(to="cid", mid=given + 2_000 + 4 * i) for i in range(30)])
        for user, part in [("ann", first.stored), ("ben", second.stored), ("cid", third.stored)]:
            items = await one.items(user, after=part[0].n - 1, limit=100)
            assert [(item.n, item.mid) for item in items] == [(x.n, x.mid) for x in part]
        drawn = [x.mid for x in first.stored if x.mid != given]
        assert drawn == sorted(drawn) and drawn[0] > given
        drawn += [x.mid for x in second.stored]
        # odd, and half of it is what the server is to draw
        assert all(mid % 2 and (mid + 1) // 2 % increment == min(offset, increment) % increment for mid in drawn)
        mids = drawn + [x.mid for x in third.stored]
        assert len({given, *mids}) == 86
        highest = await one.highest_mid()
        assert highest == max(mids)
        await one.close()
        await other.close()
        own_server.stop()
        own_server.start(f"--innodb-autoinc-lock-mode={lock_mode}")


@pytest.mark.parametrize("at", [answer_lost, commit_lost, commit_late])
async def test_a_commit_whose_answer_was_lost(at: At) -> None:
    """By the storer itself, and by the one that takes over: each message is there once."""
    async with CuttingProxy(shared_server().port) as proxy:
        server = empty_database()
        through = replace(server, url=shared_server().url("aldis_contract", proxy.port), answer_timeout=5.0)
        storer, other = MySqlStore(through), MySqlStore(server)
        await storer.open()
        await other.open()
        epoch = await storer.claim_shard(3)
        messages = [chat(to=f"user{i % 3}", mid=1_000 + 2 * i, sync=i % 2 == 0) for i in range(20)]
        work = Batch(messages, shards=[(3, epoch)])
        proxy.at = at
        with pytest.raises(StoreUnavailable):
            await storer.commit(work)
        committed = await storer.commit(work)
        assert not any(one.repeated for one in committed.stored)
        await check_once(other, committed, messages)
        epoch = await other.claim_shard(3)
        again = await commit(other, *messages, chat(mid=2_000), shards=[(3, epoch)])
        assert [(one.mid, one.n, one.repeated) for one in again.stored[:-1]] == [
            (one.mid, one.n, True) for one in committed.stored
        ]
        await storer.close()
        await other.close()
