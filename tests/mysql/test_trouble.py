"""The database server dies, stands still, refuses: every kind of it becomes `StoreUnavailable` in time, and passes.

kill -9 leaves the page cache of the operating system alone, so this proves atomicity and recovery, not the fsync; that
the server is one which asks for it is in `test_settings.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from aldis.bridge.accounts import Accounts, Database
from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import MySqlServer
from aldis.broker.ports import Batch, Committed, NewMessage, RetainedMessage, Stored, StoreUnavailable
from tests.contract.stores import chat, commit
from tests.databases import migrated, new_name
from tests.mariadb import MariaDb


@pytest.fixture
def database(own_server: MariaDb) -> MySqlServer:
    return replace(migrated(own_server, new_name()), answer_timeout=1.0, connect_timeout=1.0, pool_size=4)


@pytest.fixture
async def store(database: MySqlServer) -> AsyncIterator[MySqlStore]:
    store = MySqlStore(database)
    await store.open()
    yield store
    await store.close()


CALLS: dict[str, Callable[[MySqlStore], Awaitable[object]]] = {
    "commit": lambda store: commit(store, chat()),
    "claim": lambda store: store.claim("bob", "phone", now=1, limit=5),
    "release": lambda store: store.release("bob", "phone", epoch=1, last_seen=2),
    "forget": lambda store: store.forget_device("bob", "phone"),
    "items": lambda store: store.items("bob", after=0, limit=5),
    "head": lambda store: store.head("bob"),
    "receipts": lambda store: store.receipts_for("bob", limit=5),
    "last_seq": lambda store: store.last_seq("bob", "phone", "alice"),
    "find": lambda store: store.find("bob", "phone", "1"),
    "devices": lambda store: store.devices("bob"),
    "positions": lambda store: store.positions(["bob"]),
    "receipt changes": lambda store: store.receipt_changes(["bob"], since=0),
    "last seen": lambda store: store.last_seen(["bob"]),
    "retain": lambda store: store.retain([RetainedMessage("devices/bob/x", b"1", 0)]),
    "retained": lambda store: store.retained("devices/bob/", limit=5),
}


async def all_refuse(store: MySqlStore, *, within: float) -> None:
    """At once and together, as on a node: the pool is no queue behind which calls wait for ever."""

    async def refused(call: Callable[[MySqlStore], Awaitable[object]]) -> None:
        with pytest.raises(StoreUnavailable):
            await call(store)

    started = time.monotonic()
    await asyncio.gather(*map(refused, CALLS.values()), *[refused(CALLS["items"]) for _ in range(20)])
    assert time.monotonic() - started < within


async def all_answer(store: MySqlStore) -> None:
    await asyncio.gather(*[call(store) for call in CALLS.values()], *[CALLS["items"](store) for _ in range(20)])


async def test_a_server_that_stands_still(store: MySqlStore, own_server: MariaDb) -> None:
    await all_answer(store)
    before = await store.head("bob")
    own_server.pause()
    try:
        await all_refuse(store, within=8)
        await all_refuse(store, within=8)  # with new connections, which it does not even greet
    finally:
        own_server.resume()
    await all_answer(store)
    # the commits that found no answer have left nothing: theirs was not sent yet
    assert await store.head("bob") == before + 1


async def test_it_stands_still_in_the_middle_of_a_flood(store: MySqlStore, own_server: MariaDb) -> None:
    committed: list[bytes] = []
    writer = GroupCommit(
        store, on_committed=lambda batch, _: committed.extend(m.content for m in batch.messages), retry=0.05
    )
    writer.start()
    sent = []
    for number in range(3_000):
        sent.append(b'{"body":%d}' % number)
        writer.append(chat(content=sent[-1]))
        if number % 20 == 0:
            await asyncio.sleep(0.002)
        if number % 1_000 == 500:
            own_server.pause()
        if number % 1_000 == 700:
            await asyncio.sleep(1.5)
            own_server.resume()
    await writer.flush()
    await writer.stop()
    assert committed == sent
    items = await store.items("bob", after=0, limit=10_000)
    assert [item.content for item in items] == sent


async def test_the_accounts_do_not_hang_either(database: MySqlServer, own_server: MariaDb) -> None:
    accounts = Accounts(
        Database(database.engine(), asyncio.Lock()), master_key=b"m" * 32, max_friends=5, max_requests=5
    )
    await accounts.users.add("ada", name="", password_hash="x", now=1)
    own_server.pause()
    try:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await accounts.ready()
            with pytest.raises(StoreUnavailable):
                await accounts.users.add("bob", name="", password_hash="x", now=1)
            assert time.monotonic() - started < 8
    finally:
        own_server.resume()
    await accounts.users.add("bob", name="", password_hash="x", now=1)
    assert await accounts.users.find("ada") and await accounts.users.find("bob")
    await accounts.close()


async def test_a_server_that_is_gone_and_comes_back(store: MySqlStore, own_server: MariaDb) -> None:
    await all_answer(store)
    own_server.stop()
    await all_refuse(store, within=5)
    own_server.start()
    await all_answer(store)


async def test_an_idle_store_does_not_notice_a_restart(store: MySqlStore, own_server: MariaDb) -> None:
    await all_answer(store)
    own_server.stop()
    own_server.start()
    await asyncio.sleep(1.1)  # longer than a kept connection is taken to be good without asking
    await all_answer(store)


async def test_connections_that_the_server_closes(store: MySqlStore, own_server: MariaDb) -> None:
    """Some firewall, an administrator, `wait_timeout`."""
    await all_answer(store)
    for (number,) in own_server.ask("SELECT id FROM information_schema.processlist WHERE user = 'aldis'"):
        own_server.ask(f"KILL {number}")
    await asyncio.sleep(1.1)
    await all_answer(store)


@pytest.mark.timeout(120)
async def test_killed_again_and_again_in_mid_flood(store: MySqlStore, own_server: MariaDb) -> None:
    """What was reported as committed is there, where it was said to be; nothing is there twice, although not one
    message has an id."""
    reported: dict[bytes, Stored] = {}
    order: list[bytes] = []

    def note(batch: Batch, committed: Committed) -> None:
        for message, stored in zip(batch.messages, committed.stored, strict=True):
            assert message.content not in reported
            reported[message.content] = stored
            order.append(message.content)

    writer = GroupCommit(store, on_committed=note, retry=0.02, linger=0.0, limit=50)
    writer.start()
    stop = False
    sent: list[NewMessage] = []

    async def send() -> None:
        while not stop:
            message = chat(to=f"user{len(sent) % 5}", sync=len(sent) % 3 == 0, content=b'{"body":%d}' % len(sent))
            sent.append(message)
            writer.append(message)
            if writer.pending > 500 or len(sent) % 25 == 0:
                await asyncio.sleep(0.003)

    sending = asyncio.ensure_future(send())
    for life in range(6):
        enough = len(reported) + 300 + life * 37
        while len(reported) < enough:  # noqa: ASYNC110 it counts
            await asyncio.sleep(0.001 * (life + 1))
        own_server.kill()
        known = dict(reported)
        await asyncio.to_thread(own_server.start)
        for content, stored in list(known.items())[-200:]:
            number = int(content.removeprefix(b'{"body":').removesuffix(b"}"))
            (item,) = await store.items(f"user{number % 5}", after=stored.n - 1, limit=1)
            assert (item.content, item.mid) == (content, stored.mid), "acknowledged, and gone after the kill"
    stop = True
    await sending
    await writer.flush()
    await writer.stop()
    assert order == [message.content for message in sent]
    found: dict[bytes, int] = {}
    for user in [f"user{i}" for i in range(5)]:
        items = await store.items(user, after=0, limit=1_000_000)
        assert [item.n for item in items] == list(range(1, len(items) + 1))
        assert [item.mid for item in items] == sorted({item.mid for item in items})
        for item in items:
            assert (reported[item.content].n, reported[item.content].mid) == (item.n, item.mid)
            found[item.content] = found.get(item.content, 0) + 1
    assert found == dict.fromkeys(order, 1)
    copies = await store.items("alice", after=0, limit=1_000_000)
    assert [copy.content for copy in copies] == [message.content for message in sent if message.sync]


async def test_calls_that_are_cancelled_leave_the_pool_whole(store: MySqlStore, own_server: MariaDb) -> None:
    await commit(store, *[chat(content=b'{"body":"' + b"x" * 20_000 + b'"}') for _ in range(100)])
    for round_ in range(10):
        calls = [asyncio.ensure_future(store.items("bob", after=0, limit=100)) for _ in range(12)]
        await asyncio.sleep(0.001 * round_)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(len(pages) == 100 for pages in results[1::2] if not isinstance(pages, BaseException))
        assert not any(isinstance(result, Exception) for result in results)
    await all_answer(store)
    (connections,) = own_server.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'aldis'")[0]
    assert connections <= 4 + 2


async def test_a_cancelled_commit_is_found_out_by_the_next(store: MySqlStore) -> None:
    for delay in (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005):
        before = await store.head("bob")
        batch = Batch([chat() for _ in range(100)])
        running = asyncio.ensure_future(store.commit(batch))
        await asyncio.sleep(delay)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if running.cancelled():
            await store.commit(batch)
        assert await store.head("bob") == before + 100


async def test_a_server_that_may_not_be_written_to(store: MySqlStore, own_server: MariaDb) -> None:
    own_server.ask("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(StoreUnavailable, match="read-only"):
            await commit(store, chat())
        assert await store.head("bob") == 0
    finally:
        own_server.ask("SET GLOBAL read_only = OFF")
    assert (await commit(store, chat())).stored[0].n == 1


async def test_a_row_that_somebody_else_has_locked(
    store: MySqlStore, own_server: MariaDb, database: MySqlServer
) -> None:
    """An administrator's forgotten transaction: it costs its own inbox time, and is told."""
    await commit(store, chat())
    other = own_server.connection(database.address.database)
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM im_inbox WHERE user_id = 'bob' FOR UPDATE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"Lock wait timeout|no answer"):
            await commit(store, chat())
        assert time.monotonic() - started < 10 * 2
        other.rollback()
    other.close()
    assert (await commit(store, chat())).stored[0].n == 2
