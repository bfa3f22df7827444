"""The connection breaks around COMMIT, and nobody knows what became of it: the same batch, committed again, is there
once, messages without an id included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.mysql import MySqlStore
from aldis.broker.ports import (
    Batch,
    Committed,
    CursorMove,
    Delivered,
    NewMessage,
    Read,
    ReceiptState,
    Store,
    StoreUnavailable,
)
from tests.contract.stores import chat
from tests.databases import empty_database
from tests.mariadb import shared_server
from tests.mysql.proxy import At, CuttingProxy, Line


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(shared_server().port) as proxy:
        yield proxy


def through(proxy: CuttingProxy, *, answer_timeout: float = 5.0) -> MySqlStore:
    server = empty_database()
    return MySqlStore(
        replace(server, url=shared_server().url("aldis_contract", proxy.port), answer_timeout=answer_timeout)
    )


@pytest.fixture
async def store(proxy: CuttingProxy) -> AsyncIterator[MySqlStore]:
    store = through(proxy)
    await store.open()
    yield store
    await store.close()


def batch(epoch: int, size: int = 20) -> Batch:
    messages = [chat(sync=i % 2 == 0, seq=i + 1, to=f"user{i % 3}") for i in range(size)]
    return Batch(
        [chat(), *messages],
        [CursorMove("bob", "phone", epoch, 1), CursorMove("bob", "phone", epoch + 7, 1, tag="stale")],
        [Delivered("bob", "alice", 1)],
        [Read("bob", "alice", 1)],
    )


async def answer_lost(line: Line) -> None:
    """The server has committed; its answer never arrives."""
    line.deaf = True
    await line.send_commit()
    await asyncio.sleep(0.2)
    line.cut_client()
    line.cut_server()


async def commit_lost(line: Line) -> None:
    """COMMIT never arrives, and both ends are told."""
    line.cut_client()
    line.cut_server()


async def commit_late(line: Line) -> None:
    """The client gives up, but its COMMIT is still on the way, and arrives while the batch is being repeated."""
    line.deaf = True
    line.cut_client()
    await asyncio.sleep(0.5)
    await line.send_commit()
    await asyncio.sleep(0.2)
    line.cut_server()


async def rolled_back_late(line: Line) -> None:
    """The client gives up; the server hears of it while the batch is being repeated."""
    line.deaf = True
    line.cut_client()
    await asyncio.sleep(0.5)
    line.cut_server()


async def check_once(store: Store, committed: Committed, messages: list[NewMessage]) -> None:
    """Every message is there once, where `committed` says."""
    seen: dict[int, int] = {}
    for user in {message.recipient for message in messages} | {"alice"}:
        items = await store.items(user, after=0, limit=1_000)
        assert [item.n for item in items] == list(range(1, len(items) + 1)), "n is gap-free"
        assert await store.head(user) == len(items)
        for item in items:
            seen[item.mid] = seen.get(item.mid, 0) + 1
    for message, stored in zip(messages, committed.stored, strict=True):
        assert seen.pop(stored.mid) == 1 + message.sync
        assert (await store.items(message.recipient, after=stored.n - 1, limit=1))[0].mid == stored.mid
    assert seen == {}, "nothing is there twice"


@pytest.mark.parametrize("at", [answer_lost, commit_lost, commit_late, rolled_back_late])
async def test_the_same_batch_again_is_one_batch(store: MySqlStore, proxy: CuttingProxy, at: At) -> None:
    claim = await store.claim("bob", "phone", now=1, limit=5)
    work = batch(claim.epoch)
    proxy.at = at
    with pytest.raises(StoreUnavailable):
        await store.commit(work)
    committed = await store.commit(work)
    await check_once(store, committed, work.messages)
    # the results are those of the first attempt, although it is the second that returns
    assert [one.tag for one in committed.fenced] == ["stale"]
    (receipt,) = committed.receipts
    assert receipt == ReceiptState("bob", "alice", 1, 1)
    assert not any(one.repeated for one in committed.stored)
    assert (await store.devices("bob"))[0].cursor == 1
    another = await store.commit(Batch([chat()]))
    assert another.stored[0].n == 2


@pytest.mark.parametrize("at", [answer_lost, commit_lost])
async def test_the_first_batch_of_a_store_as_well(store: MySqlStore, proxy: CuttingProxy, at: At) -> None:
    work = Batch([chat(), chat('"a"'), chat()])
    proxy.at = at
    with pytest.raises(StoreUnavailable):
        await store.commit(work)
    await check_once(store, await store.commit(work), work.messages)


async def test_the_answer_is_lost_again_and_again(store: MySqlStore, proxy: CuttingProxy) -> None:
    work = Batch([chat(), chat()])
    for at in (commit_lost, commit_lost, answer_lost):
        proxy.at = at
        with pytest.raises(StoreUnavailable):
            await store.commit(work)
    committed = await store.commit(work)
    await check_once(store, committed, work.messages)
    for _ in range(3):
        await check_once(store, committed, work.messages)


async def test_an_equal_batch_is_not_the_same_batch(store: MySqlStore, proxy: CuttingProxy) -> None:
    proxy.at = answer_lost
    with pytest.raises(StoreUnavailable):
        await store.commit(Batch([chat()]))
    (stored,) = (await store.commit(Batch([chat()]))).stored
    assert stored.n == 2


@pytest.mark.alone
async def test_a_link_that_breaks_without_a_word(proxy: CuttingProxy) -> None:
    """Neither end hears of the break. The client gives up, the server ends the transaction after a while, and until
    then its locks stand in the way of everybody, for a bounded time."""
    store = through(proxy, answer_timeout=1.0)
    await store.open()

    async def black_hole(line: Line) -> None:
        line.deaf = True

    work = Batch([chat(), chat()])
    proxy.at = black_hole
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"no answer within 1 seconds"):
        await store.commit(work)
    assert time.monotonic() - started < 3
    while True:
        try:
            committed = await store.commit(work)
            break
        except StoreUnavailable:
            assert time.monotonic() - started < 20
    await check_once(store, committed, work.messages)
    await store.close()


async def test_the_group_commit_loses_and_doubles_nothing(store: MySqlStore, proxy: CuttingProxy) -> None:
    committed: list[tuple[NewMessage, int]] = []

    def note(done: Batch, result: Committed) -> None:
        committed.extend((message, stored.n) for message, stored in zip(done.messages, result.stored, strict=True))

    writer = GroupCommit(store, on_committed=note, retry=0.05)
    writer.start()
    troubles = [answer_lost, commit_lost, commit_late, rolled_back_late, answer_lost]
    for number in range(500):
        if number % 100 == 50:
            proxy.at = troubles[number // 100]
        writer.append(chat(content=b'{"body":%d}' % number))
        if number % 7 == 0:
            await asyncio.sleep(0.005)
    await writer.flush()
    await writer.stop()
    assert proxy.at is None
    items = await store.items("bob", after=0, limit=1_000)
    assert [item.content for item in items] == [b'{"body":%d}' % number for number in range(500)]
    assert [n for _, n in committed] == [item.n for item in items] == list(range(1, 501))


async def test_a_mark_is_gone_after_an_orderly_end(proxy: CuttingProxy) -> None:
    store = through(proxy)
    await store.open()
    await store.commit(Batch([chat()]))
    assert len(shared_server().ask("SELECT * FROM im_writer", "aldis_contract")) == 1
    await store.close()
    assert shared_server().ask("SELECT * FROM im_writer", "aldis_contract") == []
