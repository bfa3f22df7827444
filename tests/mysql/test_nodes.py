"""Two stores on one database, as two nodes have them: what both write to the same inboxes at the same time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace

import pytest

from aldis.bridge import mysql_commit
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_literals import listed, text
from aldis.bridge.mysql_reads import RECEIPT_CHANGES
from aldis.bridge.mysql_repeats import Repeats, look_for_repeats
from aldis.bridge.mysql_server import BoundedConnection
from aldis.bridge.mysql_trips import Trips
from aldis.broker.ports import (
    Batch,
    Claim,
    CursorMove,
    Delivered,
    Item,
    NewMessage,
    Position,
    Read,
    RetainedMessage,
    Stored,
    StoreUnavailable,
    TooManyDevices,
)
from tests.contract.stores import chat, commit
from tests.databases import empty_database
from tests.mariadb import shared_server

USERS = [f"user{i}" for i in range(8)]


@pytest.fixture
async def nodes() -> AsyncIterator[list[MySqlStore]]:
    server = empty_database()
    nodes = [MySqlStore(server) for _ in range(2)]
    for node in nodes:
        await node.open()
    yield nodes
    for node in nodes:
        await node.close()


async def whole(node: MySqlStore, user: str) -> list[Item]:
    items: list[Item] = []
    while page := await node.items(user, after=len(items), limit=500):
        items += page
    assert [item.n for item in items] == list(range(1, len(items) + 1)), "n is gap-free"
    mids = [item.mid for item in items]
    assert mids == sorted(set(mids)), "mid rises with n"
    assert await node.head(user) == len(items)
    return items


async def flood(node: MySqlStore, name: str, rounds: int, stored: dict[bytes, Stored]) -> None:
    chance = random.Random(name)
    claims = {user: await node.claim(user, name, now=1, limit=5) for user in USERS}
    for number in range(rounds):
        # in another order every time: who sorts nothing meets the other one in a circle
        users = chance.choices(USERS, k=30)
        messages = [
            chat(
                sender=chance.choice(USERS),
                device=name,
                to=user,
                seq=number * 30 + i + 1,
                sync=chance.random() < 0.3,
                content=b'{"body":"%b %d %d"}' % (name.encode(), number, i),
            )
            for i, user in enumerate(users)
        ]
        moves = [CursorMove(user, name, claims[user].epoch, number) for user in set(users)]
        delivered = [Delivered(user, chance.choice(USERS), number + 1) for user in set(users)]
        reads = [Read(user, chance.choice(USERS), number + 1) for user in set(users)]
        chance.shuffle(moves)
        committed = await node.commit(Batch(messages, moves, delivered, reads))
        assert committed.fenced == []
        stored.update((m.content, s) for m, s in zip(messages, committed.stored, strict=True))


async def test_both_write_to_the_same_inboxes(nodes: list[MySqlStore], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="aldis.bridge")
    done = False
    seen: dict[str, int] = dict.fromkeys(USERS, 0)

    async def follow(node: MySqlStore, user: str) -> None:
        """A reader never sees a gap that is filled later."""
        while not done:
            for item in await node.items(user, after=seen[user], limit=100):
                assert item.n == seen[user] + 1
                seen[user] = item.n
            await asyncio.sleep(0.002)

    readers = [asyncio.ensure_future(follow(nodes[i % 2], user)) for i, user in enumerate(USERS)]
    stored: dict[bytes, Stored] = {}
    rounds = 60
    await asyncio.gather(*[flood(node, f"node{i}", rounds, stored) for i, node in enumerate(nodes)])
    done = True
    await asyncio.gather(*readers)
    assert len(stored) == 2 * rounds * 30
    found: dict[bytes, list[Item]] = {}
    for user in USERS:
        for item in await whole(nodes[0], user):
            found.setdefault(item.content, []).append(item)
    for content, one in stored.items():
        places = {(item.n, item.mid) for item in found.pop(content)}
        assert (one.n, one.mid) in places
        assert places == {(one.n, one.mid)} | ({(one.sync_n, one.mid)} if one.sync_n is not None else set())
    assert found == {}
    for i in range(2):
        assert max([await nodes[i].last_seq(u, f"node{i}", v) for u in USERS for v in USERS]) > 0
    again = [record for record in caplog.records if "runs again" in record.message]
    assert len(again) <= rounds // 10, "no deadlock storms: sorted writers wait for one another"


async def test_one_id_on_both_nodes_is_one_message(nodes: list[MySqlStore]) -> None:
    """The same sender's device, on two nodes at once (its connection hangs on the first), sends the same again, in
    other batches and another order."""
    ids = [f'"{number}"' for number in range(300)]

    async def send(node: MySqlStore, order: list[str]) -> dict[str, Stored]:
        results: dict[str, Stored] = {}
        for start in range(0, len(order), 20):
            part = order[start : start + 20]
            # to many recipients: the head of one inbox does not keep the two apart
            sent = [chat(id, to=USERS[int(id.strip('"')) % 8]) for id in part]
            results.update(zip(part, (await node.commit(Batch(sent))).stored, strict=True))
        return results

    backwards = [*reversed(ids)]
    shuffled = random.Random(1).sample(ids, len(ids))
    one, two = await asyncio.gather(send(nodes[0], ids), send(nodes[1], shuffled))
    three, four = await asyncio.gather(send(nodes[0], backwards), send(nodes[1], ids))
    for id in ids:
        results = [one[id], two[id], three[id], four[id]]
        assert len({(result.mid, result.n, result.created) for result in results}) == 1
        assert sorted(result.repeated for result in results) == [False, True, True, True]
    assert sum([len(await whole(nodes[0], user)) for user in USERS]) == len(ids)


@pytest.mark.parametrize("sync", [False, True], ids=["alone", "with copies"])
async def test_a_batch_does_not_lose_against_the_other_node_for_ever(
    nodes: list[MySqlStore], monkeypatch: pytest.MonkeyPatch, *, sync: bool
) -> None:
    """However often the other node stores one more of its messages, between the look for repeats and the locks."""
    sent = [chat(f"{number}", to=USERS[number % 8], sync=sync) for number in range(40)]
    by_other: list[Stored] = []

    async def look_and_be_late(trips: Trips, messages: list[NewMessage]) -> Repeats:
        found = await look_for_repeats(trips, messages)
        if messages is batch.messages:
            by_other.extend((await commit(nodes[1], sent[len(by_other)])).stored)
        return found

    monkeypatch.setattr(mysql_commit, "look_for_repeats", look_and_be_late)
    by_other += (await commit(nodes[1], sent[0])).stored
    batch = Batch(sent)
    results = (await nodes[0].commit(batch)).stored
    k = len(by_other)
    assert k == 2, "refused once, and not again"
    assert [Stored(one.mid, one.n, one.created, one.sync_n, True) for one in by_other] == results[:k]
    assert not any(one.repeated for one in results[k:])
    for user in USERS:
        assert len(await whole(nodes[0], user)) == 5
    assert len(await whole(nodes[0], "alice")) == (40 if sync else 0)


async def test_one_seq_on_both_nodes_is_one_message(nodes: list[MySqlStore]) -> None:
    """A client whose PUBACK was lost sends again at the other node, while the first commit is still under way."""
    rounds = 60

    def sent(number: int) -> list[NewMessage]:
        return [
            chat(seq=number * 3 + i + 1, to=to, sync=True, content=b"%d" % (number * 3 + i + 1))
            for i in range(3)
            for to in USERS
        ]

    results: list[Stored] = []
    for number in range(rounds):
        backwards = sorted(sent(number), key=lambda message: message.recipient, reverse=True)
        both = await asyncio.gather(nodes[0].commit(Batch(sent(number))), nodes[1].commit(Batch(backwards)))
        results += [one for committed in both for one in committed.stored]
    repeated = [one for one in results if one.repeated]
    assert repeated == [Stored(0, 0, 0, None, True)] * (rounds * 3 * len(USERS))
    for user in USERS:
        items = await whole(nodes[0], user)
        assert [int(item.content) for item in items] == list(range(1, rounds * 3 + 1))
    assert len(await whole(nodes[0], "alice")) == rounds * 3 * len(USERS)


async def test_positions_wait_for_nobody(nodes: list[MySqlStore]) -> None:
    """Not even for a node that stands still in the middle of its transaction."""
    await commit(nodes[0], chat())
    claim = await nodes[0].claim("bob", "phone", now=10, limit=3)
    await commit(nodes[0], delivered=[Delivered("bob", "alice", 1)])
    with closing(shared_server().connection("aldis_contract")) as stopped, stopped.cursor() as cursor:
        stopped.begin()
        for table in ("im_inbox", "im_device", "im_receipt"):
            assert cursor.execute(f"SELECT * FROM {table} FOR UPDATE") == 1
        async with asyncio.timeout(2):
            assert await nodes[1].positions(["bob"]) == {"bob": Position(1, {"phone": claim.epoch})}
            assert await nodes[1].last_seen(["bob"]) == {"bob": 10}
            assert len(await nodes[1].receipt_changes(["alice"], since=0)) == 1


async def test_changed_receipts_are_found_by_an_index(nodes: list[MySqlStore]) -> None:
    """Also with as many peers as a sweep asks about, among very many receipts."""
    peers = [f"peer{i}" for i in range(2_000)]
    for start in range(0, len(peers), 500):
        await commit(nodes[0], delivered=[Delivered("bob", peer, 1) for peer in peers[start : start + 500]])
    assert len(await nodes[1].receipt_changes(peers[:500], since=0)) == 500
    wanted = listed(map(text, peers[:500])), b"%d" % (time.time_ns() // 1_000_000 - 1)
    server = shared_server()
    server.ask("ANALYZE TABLE im_receipt", "aldis_contract")
    (plan,) = server.ask("EXPLAIN " + (RECEIPT_CHANGES % wanted).decode(), "aldis_contract")
    assert "im_receipt_peer" in plan


async def test_both_retain_the_same_topics(nodes: list[MySqlStore], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="aldis.bridge")
    chance = random.Random(3)
    topics = [f"devices/{user}/{i}" for user in USERS for i in range(10)]
    for _ in range(20):
        payloads = [[(topic, chance.choice([b"", b"1", b"2"])) for topic in topics] for _ in nodes]
        for part in payloads:
            chance.shuffle(part)
        await asyncio.gather(
            *[
                node.retain([RetainedMessage(topic, payload, 1) for topic, payload in part])
                for node, part in zip(nodes, payloads, strict=True)
            ]
        )
        choices = [dict(part) for part in payloads]
        for user in USERS:
            for message in await nodes[0].retained(f"devices/{user}/", limit=20):
                assert message.payload in {choice[message.topic] for choice in choices}
    assert len([record for record in caplog.records if "runs again" in record.message]) <= 2


async def test_claims_on_both_nodes(nodes: list[MySqlStore]) -> None:
    claims = await asyncio.gather(*[nodes[i % 2].claim("bob", "phone", now=10, limit=3) for i in range(20)])
    epochs = sorted(claim.epoch for claim in claims)
    assert epochs == list(range(epochs[0], epochs[0] + 20))
    assert sum(claim.created for claim in claims) == 1


async def test_the_limit_of_devices_holds_over_both_nodes(nodes: list[MySqlStore]) -> None:
    results = await asyncio.gather(
        *[nodes[i % 2].claim("bob", f"d{i}", now=10, limit=3) for i in range(10)], return_exceptions=True
    )
    assert sum(isinstance(result, Claim) for result in results) == 3
    assert sum(isinstance(result, TooManyDevices) for result in results) == 7


async def test_a_take_over_fences_the_node_that_had_the_device(nodes: list[MySqlStore]) -> None:
    old, new = nodes
    await commit(old, chat(), chat(), chat())
    first = await old.claim("bob", "phone", now=10, limit=3)
    second = await new.claim("bob", "phone", now=11, limit=3)
    late = CursorMove("bob", "phone", first.epoch, 3)
    assert (await old.commit(Batch([chat()], [late]))).fenced == [late]
    assert (await new.commit(Batch([], [CursorMove("bob", "phone", second.epoch, 2)]))).fenced == []
    assert [device.cursor for device in await old.devices("bob")] == [2]


async def test_claims_and_commits_wait_for_one_another_and_not_in_a_circle(
    nodes: list[MySqlStore], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="aldis.bridge")

    async def come_and_go(node: MySqlStore, name: str, *, commits: bool = False) -> None:
        for turn in range(10):
            claims = await asyncio.gather(*[node.claim(user, name, now=turn + 1, limit=9) for user in USERS])
            moves = [CursorMove(u, name, c.epoch, turn) for u, c in zip(USERS, claims, strict=True)]
            if commits:
                assert (await node.commit(Batch([], moves[::-1]))).fenced == []
            leaving = zip(USERS, claims, strict=True)
            await asyncio.gather(*[node.release(u, name, epoch=c.epoch, last_seen=turn + 2) for u, c in leaving])

    stored: dict[bytes, Stored] = {}
    await asyncio.gather(
        flood(nodes[0], "node0", 30, stored),
        come_and_go(nodes[1], "a", commits=True),  # a store takes one commit at a time
        come_and_go(nodes[1], "b"),
        come_and_go(nodes[0], "c"),
    )
    for user in USERS:
        await whole(nodes[1], user)
    assert len([record for record in caplog.records if "again" in record.message]) <= 5


@pytest.mark.alone
async def test_a_node_that_is_frozen_in_a_transaction_holds_up_the_others_for_the_pause_only() -> None:
    """SIGSTOP in the middle of a commit: here the node's transaction just does not go on."""
    server = replace(empty_database(), pause_timeout=1.0)
    frozen, other = MySqlStore(server), MySqlStore(server)
    await frozen.open()
    await other.open()
    went_on = asyncio.Event()
    link = frozen._now().committer._link
    end = link.get

    async def get() -> BoundedConnection:
        driver = await end()
        run = driver.run

        async def halt(statement: bytes) -> tuple[tuple[object, ...], ...]:
            answer = await run(statement)
            if b"im_inbox" in statement:
                await went_on.wait()
            return answer

        driver.run = halt  # type: ignore[method-assign]
        return driver

    link.get = get  # type: ignore[method-assign]
    await commit(other, chat())
    committing = asyncio.create_task(commit(frozen, chat(device="pad")))
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    (stored,) = (await commit(other, chat())).stored
    assert stored.n == 2
    assert 0.3 < time.monotonic() - begun < 3.0
    link.get = end  # type: ignore[method-assign]
    went_on.set()
    with pytest.raises(StoreUnavailable):
        await committing
    await frozen.close()
    await other.close()
