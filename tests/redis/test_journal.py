"""What is particular to the journal on Redis: what the server must be set to, what survives it, replicas, memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.redis_journal import RedisJournal
from aldis.bridge.redis_journal_durability import Durability
from aldis.bridge.redis_server import RedisServer
from aldis.broker.journal_ports import JournalRefused, JournalUnavailable
from tests.contract.journals import Writing, held, message, read
from tests.redis_server import RedisProcess, new_redis
from tests.tcp_proxy import TcpProxy

ALWAYS = "always"


@contextmanager
def server(*options: str, appendfsync: str | None = ALWAYS, password: str | None = None) -> Iterator[RedisProcess]:
    process = new_redis(*options, appendfsync=appendfsync, password=password).start()
    try:
        yield process
    finally:
        process.stop()


@asynccontextmanager
async def journal_on(
    redis: RedisProcess, durability: Durability | None = None, *, url: str | None = None, **bounds: int
) -> AsyncIterator[RedisJournal]:
    journal = RedisJournal(
        RedisServer(url or redis.url, connect_timeout=1, answer_timeout=1),
        durability or Durability(),
        JournalBounds(**{"shards": 4, **bounds}),
    )
    try:
        await journal.open(newest=0)
        yield journal
    finally:
        await journal.close()


async def refusal(redis: RedisProcess, durability: Durability | None = None) -> str:
    with pytest.raises(JournalRefused) as refused:
        async with journal_on(redis, durability):
            pass
    return str(refused.value)


async def later(attempt: Callable[[], object]) -> None:
    """Returns when it is not refused any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                await attempt()  # type: ignore[misc]
            except JournalUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


# Settings of the server


async def test_without_an_append_only_file_it_is_refused() -> None:
    with server(appendfsync=None) as redis:
        assert "appendonly is not yes: a restart would lose" in await refusal(redis)


@pytest.mark.parametrize(("flush", "words"), [("no", "appendfsync is no"), ("everysec", "the last second")])
async def test_a_weak_flush_is_refused(flush: str, words: str) -> None:
    with server(appendfsync=flush) as redis:
        assert words in await refusal(redis)


async def test_every_second_is_accepted_where_the_operator_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with server(appendfsync="everysec") as redis:
        async with journal_on(redis, Durability(flush_every_second=True)) as journal:
            await Writing(journal)(message(1))
    assert caplog.text.count("may cost the acknowledged messages of the last second") == 1
    with server(appendfsync="no") as redis:
        assert "appendfsync is no" in await refusal(redis, Durability(flush_every_second=True))


async def test_a_server_that_evicts_is_refused() -> None:
    with server("--maxmemory-policy", "allkeys-lru") as redis:
        assert "maxmemory-policy is not noeviction" in await refusal(redis)


async def test_a_server_that_does_not_tell_is_refused_unless_it_is_trusted(caplog: pytest.LogCaptureFixture) -> None:
    with server("--rename-command", "CONFIG", "") as redis:
        assert "cluster.journal.trust_durability" in await refusal(redis)
        async with journal_on(redis, Durability(trusted=True)) as journal:
            await Writing(journal)(message(1))
    assert "taken to be on disk" in caplog.text


async def test_settings_that_weaken_are_noticed_at_the_next_connection(caplog: pytest.LogCaptureFixture) -> None:
    """As after a failover to a server that is set otherwise."""
    with server() as redis:
        async with journal_on(redis) as journal:
            write = Writing(journal)
            await write(message(1))
            redis.ask("CONFIG", "SET", "appendfsync", "everysec")
            redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(JournalUnavailable):
                await write(message(2))  # meets the end of the old connection, or the new one
            for _ in range(3):
                with pytest.raises(JournalUnavailable, match="appendfsync is everysec"):
                    await write(message(2))
            redis.ask("CONFIG", "SET", "appendfsync", "always")
            await write(message(3))
            assert await held(journal) == [b"1", b"3"]
    assert caplog.text.count("the journal does not use this Redis") == 1


async def test_who_only_takes_out_asks_for_nothing() -> None:
    with server(appendfsync=None) as redis:
        async with journal_on(redis, Durability(required=False)) as journal:
            assert await journal.shards_in_use() == 4


async def test_another_number_of_shards_is_refused() -> None:
    with server() as redis:
        async with journal_on(redis):
            pass
        with pytest.raises(JournalRefused, match=r"has 4 shards, not 8.*aldis:journal:shards"):
            async with journal_on(redis, shards=8):
                pass


async def test_a_password_is_in_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with server(password="hush hush") as redis:
        async with journal_on(redis) as journal:
            await Writing(journal)(message(1))
            redis.kill()
            with pytest.raises(JournalUnavailable) as trouble:
                await Writing(journal, "other")(message(2))
            redis.start()
    assert "hush" not in str(trouble.value) + caplog.text


# Deaths and lost answers


async def test_what_was_answered_is_there_after_a_kill() -> None:
    with server() as redis:
        async with journal_on(redis) as journal:
            write = Writing(journal)
            before = [await write(message(number, number % 4, id=str(number))) for number in range(40)]
            redis.kill()
            with pytest.raises(JournalUnavailable):
                await write(message(99))
            redis.start()
            await later(lambda: journal.find("ann", "phone", "1"))
            assert [len(await held(journal, shard)) for shard in range(4)] == [10] * 4
            repeats = [message(number, number % 4, id=str(number)) for number in range(40)]
            again = await journal.append("another", 1, repeats)
            assert [one.mid for one in again if one] == [one.mid for (one,) in before if one]
            (after,) = await Writing(journal, "third")(message(100))
            newest = max(one.mid for (one,) in before if one)
            assert after is not None and after.mid > newest


async def test_an_append_whose_answer_was_lost_is_there_once() -> None:
    with server() as redis:
        async with TcpProxy(redis.port) as proxy, journal_on(redis, url=redis.url_at(proxy.port)) as journal:
            await journal.append("writer", 1, [message(1)])
            proxy.swallow_down = True
            with pytest.raises(JournalUnavailable):
                await journal.append("writer", 2, [message(2), message(3)])
            assert redis.ask("XLEN", "aldis:journal:0") == 3, "it had taken effect"
            proxy.swallow_down = False
            await later(lambda: journal.append("writer", 2, [message(2), message(3)]))
            assert await held(journal) == [b"1", b"2", b"3"]


async def test_a_server_that_stands_still_is_unavailable_in_bounded_time() -> None:
    with server() as redis:
        async with journal_on(redis) as journal:
            await journal.append("writer", 1, [message(1)])
            redis.pause()
            try:
                begun = asyncio.get_running_loop().time()
                with pytest.raises(JournalUnavailable):
                    await journal.append("writer", 2, [message(2)])
                assert asyncio.get_running_loop().time() - begun < 3
            finally:
                redis.resume()
            await later(lambda: journal.append("writer", 2, [message(2)]))
            assert await held(journal) == [b"1", b"2"]


async def test_an_emptied_server_goes_on_above_the_last_mid() -> None:
    with server() as redis:
        async with journal_on(redis) as journal:
            (first,) = await Writing(journal)(message(1))
            redis.flush()
            (second,) = await Writing(journal, "other")(message(2))
            assert first is not None and second is not None and first.mid < second.mid
            await journal.leases("one", accepting=True)
            assert await journal.shards_in_use() == 4


# Memory and replicas


async def test_full_memory_refuses_whole_batches_and_entries_can_be_taken_out() -> None:
    with server("--maxmemory", "6mb") as redis:
        async with journal_on(redis) as journal:
            number = 0
            with pytest.raises(JournalUnavailable, match="maxmemory"):
                while True:
                    number += 1
                    await journal.append("writer", number, [message(number, data=b"x" * 100_000)])
            assert len(await held(journal, 0)) == min(10, number - 1)  # as many as a million bytes
            assert len((await journal.leases("one", accepting=True)).held) == 4
            entries = await read(journal, 0, size=100_000_000)
            assert len(entries) == number - 1
            assert await journal.set_aside(0, entries[0], "why")
            await journal.stored({0: entries[-1]})
            await later(lambda: journal.append("writer", number, [message(number, data=b"x" * 100_000)]))
            assert (await journal.lengths())[0].entries == 1


async def test_replicas_must_have_it() -> None:
    with server() as master, server("--replicaof", f"127.0.0.1 {master.port}") as replica:
        async with journal_on(master, replicas=1, replica_timeout=300) as journal:
            write = Writing(journal)
            await later(lambda: write(message(1)))
            replica.pause()
            with pytest.raises(JournalUnavailable, match="0 of 1 replicas have what was appended"):
                await journal.append("other", 1, [message(2)])
            # over a new connection, which has written nothing that WAIT could wait for
            master.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(JournalUnavailable):
                await journal.append("other", 1, [message(2)])
            with pytest.raises(JournalUnavailable, match="0 of 1 replicas"):
                await journal.append("other", 1, [message(2)])
            replica.resume()
            await later(lambda: journal.append("other", 1, [message(2)]))
            assert (await held(journal))[-1] == b"2" and (await held(journal)).count(b"2") == 1
            assert replica.ask("XLEN", "aldis:journal:0") == len(await held(journal))
