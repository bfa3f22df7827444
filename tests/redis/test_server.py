"""A client of Redis: where it finds its server, what it never waits for, what it never shows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import uvloop
from redis.asyncio import Redis

from aldis.bridge.client_tls import tls_context
from aldis.bridge.redis_server import RedisServer
from tests.redis_server import PASSWORD, RedisProcess, new_redis
from tests.secure import Papers


@asynccontextmanager
async def connected(server: RedisServer, size: int = 4, retries: int = 0) -> AsyncIterator[Redis]:
    client = server.client(size=size, retries=retries)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://ann:secret@host", "host:6379/0"),
        ("redis://:secret@host:7000/3", "host:7000/3"),
        ("rediss://:secret@[::1]:7000", "[::1]:7000/0"),
        ("redis://host/0?db=5", "host:6379/5"),
        ("unix:///run/re%20dis.sock?db=2", "/run/re dis.sock 2"),
    ],
)
def test_the_name_is_the_address_without_the_secret(url: str, name: str) -> None:
    server = RedisServer(url, password="secret")
    assert server.name == name
    assert "secret" not in repr(server)
    assert "secret" not in repr(server.client())


def test_another_scheme_is_refused_without_showing_the_address() -> None:
    with pytest.raises(ValueError, match="must begin with redis://") as refused:
        RedisServer("http://:secret@host").client()
    assert "secret" not in str(refused.value)


async def test_every_way_to_the_server_and_every_database() -> None:
    process = new_redis(password=PASSWORD).start()
    server = RedisServer(process.url.removesuffix("/0") + "/3")
    async with connected(server) as client:
        await client.set("a", "1")
    async with connected(RedisServer(f"redis://127.0.0.1:{process.port}/3", password=PASSWORD)) as client:
        assert await client.get("a") == b"1"
    async with connected(RedisServer(f"unix://{process.socket}?db=3", password=PASSWORD)) as client:
        assert await client.get("a") == b"1"
    async with connected(RedisServer(f"redis://127.0.0.1:{process.port}/0", password=PASSWORD)) as client:
        assert await client.get("a") is None
    with pytest.raises(redis.AuthenticationError) as refused:
        async with connected(RedisServer(process.url, password="wrong secret")) as client:
            await client.ping()
    assert "wrong secret" not in str(refused.value)
    process.stop()


async def test_tls(tmp_path: Path) -> None:
    papers, others = Papers(tmp_path / "ours"), Papers(tmp_path / "theirs")
    plain = new_redis()
    process = new_redis(
        *("--tls-port", str(plain.port), "--tls-cert-file", str(papers.certfile)),
        *("--tls-key-file", str(papers.keyfile), "--tls-ca-cert-file", str(papers.ca)),
    ).start()
    server = RedisServer(f"rediss://127.0.0.1:{plain.port}/0")
    certfile, keyfile = papers.client("node")
    async with connected(replace(server, tls=tls_context(papers.ca, certfile, keyfile))) as client:
        assert await client.ping()
    for wrong in (tls_context(others.ca, certfile, keyfile), None):
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            async with connected(replace(server, tls=wrong)) as client:
                await client.ping()
    with pytest.raises(redis.ConnectionError):  # without our own certificate
        async with connected(replace(server, tls=tls_context(papers.ca))) as client:
            await client.ping()
    process.stop()


@pytest.mark.alone
async def test_a_log_in_that_takes_too_long_is_given_up(own_redis: RedisProcess) -> None:
    """Connecting succeeds, and every single answer would have two seconds."""
    own_redis.pause()
    server = RedisServer(f"{own_redis.url.removesuffix('0')}1", password="x", connect_timeout=0.3, answer_timeout=2.0)
    async with connected(server) as client:
        begun = time.monotonic()
        with pytest.raises(redis.TimeoutError, match=r"no session within 0\.3 seconds"):
            await client.ping()
        assert time.monotonic() - begun < 1.0


@pytest.mark.alone
async def test_an_answer_that_takes_too_long_is_given_up(own_redis: RedisProcess) -> None:
    async with connected(RedisServer(own_redis.url, answer_timeout=0.3)) as client:
        await client.ping()
        own_redis.pause()
        begun = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert time.monotonic() - begun < 1.0
        own_redis.resume()
        assert await client.echo("not the answer to the PING") == b"not the answer to the PING"


async def test_a_command_is_sent_once_unless_asked_otherwise(own_redis: RedisProcess) -> None:
    async with connected(RedisServer(own_redis.url, answer_timeout=0.2)) as client:
        await client.ping()
        own_redis.pause()
        with pytest.raises(redis.TimeoutError):
            await client.incr("times")
        own_redis.resume()
        assert await client.get("times") == b"1"
    for retries in (0, 2):
        pool = RedisServer(own_redis.url).client(retries=retries).connection_pool
        assert pool.make_connection().retry.get_retries() == retries


async def test_a_restart_of_the_server_is_not_met_by_the_next_command(own_redis: RedisProcess) -> None:
    async with connected(RedisServer(own_redis.url), size=3) as client:
        await asyncio.gather(*(client.ping() for _ in range(3)))
        own_redis.kill()
        own_redis.start()
        await asyncio.sleep(0.05)
        assert all(await asyncio.gather(*(client.ping() for _ in range(3))))


async def test_more_callers_than_connections_wait(redis_server: RedisProcess) -> None:
    async with connected(RedisServer(redis_server.url), size=2) as client:
        answers = await asyncio.gather(*(client.echo(str(number)) for number in range(200)))
        assert answers == [str(number).encode() for number in range(200)]
        own = await client.client_id()
        names = [each["name"] for each in await client.client_list() if each["id"] == str(own)]
        assert names == ["aldis"]


async def test_callers_who_give_up_take_no_connection_with_them(redis_server: RedisProcess) -> None:
    chance = random.Random(4)
    async with connected(RedisServer(redis_server.url, answer_timeout=5.0), size=2) as client:

        async def impatient(number: int) -> None:
            async with asyncio.timeout(chance.random() * 0.01):
                assert await client.echo(str(number)) == str(number).encode()

        for _ in range(20):
            await asyncio.gather(*(impatient(number) for number in range(40)), return_exceptions=True)
            async with asyncio.timeout(2):
                await asyncio.gather(*(client.ping() for _ in range(4)))


def test_on_the_loop_of_the_real_server_a_closed_connection_is_trouble_like_any_other(
    redis_server: RedisProcess,
) -> None:
    """uvloop would say RuntimeError, which nobody expects of Redis; the next command has a new connection."""

    async def play() -> None:
        async with connected(RedisServer(redis_server.url), size=1) as client:
            assert await client.ping()
            connection = await client.connection_pool.get_connection()
            connection._writer.transport.abort()
            await asyncio.sleep(0.01)
            with pytest.raises(redis.ConnectionError, match="closed the connection"):
                await connection.send_command("PING")
            await client.connection_pool.release(connection)
            assert await client.ping()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(play())
