"""The balancer of `make cluster`: who gets a connection, and that bytes and ends of streams pass as they came."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from scripts.balancer import CHUNK, FORGET_AFTER, Address, Balancer

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def target(handler: Handler) -> AsyncIterator[Address]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


@asynccontextmanager
async def balancing(*targets: Address) -> AsyncIterator[Balancer]:
    balancer = Balancer(("127.0.0.1", 0), targets)
    await balancer.start()
    try:
        yield balancer
    finally:
        await balancer.stop()


def dead() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[:2]


def saying(word: bytes) -> Handler:
    """Tells who it is, then echoes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    return handler


async def greeted(balancer: Balancer) -> tuple[bytes, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*balancer.address)
    return await asyncio.wait_for(reader.readexactly(1), 5), writer


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST."""
    connection: socket.socket = writer.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.01)


async def test_the_target_with_the_fewest_connections_gets_the_next() -> None:
    async with target(saying(b"a")) as a, target(saying(b"b")) as b, balancing(a, b) as balancer:
        open_now = [await greeted(balancer) for _ in range(6)]
        assert sorted(word for word, _ in open_now) == [b"a"] * 3 + [b"b"] * 3
        gone = [writer for word, writer in open_now if word == b"a"]
        for writer in gone:
            writer.close()
        await until(lambda: [one.connections for one in balancer.targets] == [0, 3])
        open_now += [await greeted(balancer) for _ in range(3)]
        assert [word for word, _ in open_now[6:]] == [b"a"] * 3


async def test_equal_targets_take_turns() -> None:
    async with target(saying(b"a")) as a, target(saying(b"b")) as b, balancing(a, b) as balancer:
        for _ in range(4):
            _, writer = await greeted(balancer)
            writer.close()
            await until(lambda: not any(one.connections for one in balancer.targets))
        assert [one.taken for one in balancer.targets] == [2, 2]


async def test_a_dead_target_is_passed_over_and_comes_back() -> None:
    nobody = dead()
    async with target(saying(b"b")) as b, balancing(nobody, b) as balancer:
        kept = [await greeted(balancer) for _ in range(4)]
        assert balancer.targets[0].connections == 0
        server = await asyncio.start_server(saying(b"a"), *nobody)
        await asyncio.sleep(FORGET_AFTER)
        kept += [await greeted(balancer) for _ in range(4)]
        assert [word for word, _ in kept] == [b"b"] * 4 + [b"a"] * 4
        server.close()


async def test_without_any_target_the_connection_ends() -> None:
    async with balancing(dead(), dead()) as balancer:
        reader, _ = await asyncio.open_connection(*balancer.address)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 5)


async def test_a_half_close_passes_and_nothing_before_it_is_lost() -> None:
    """The client ends its side first, the target answers with much after that, then ends its own."""
    asked, answer = b"q" * 300_000, b"r" * 5_000_000

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read(-1)
        writer.write(answer if got == asked else b"?")
        writer.close()

    async with target(handler) as there, balancing(there) as balancer:
        reader, writer = await asyncio.open_connection(*balancer.address)
        writer.write(asked)
        writer.write_eof()
        await asyncio.sleep(0.2)  # a slow reader: much is on its way when the target is through
        assert await asyncio.wait_for(reader.read(-1), 10) == answer
        await until(lambda: balancer.targets[0].connections == 0)


async def test_who_does_not_read_is_not_read_for() -> None:
    """Only what buffers hold leaves the client while the target stands still; then all of it arrives."""
    go_on, got = asyncio.Event(), bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        while data := await reader.read(CHUNK):
            got.extend(data)
        writer.close()

    async with target(handler) as there, balancing(there) as balancer:
        _, writer = await asyncio.open_connection(*balancer.address)
        size = 40_000_000
        writer.write(b"x" * size)
        before = -1
        while before != (before := writer.transport.get_write_buffer_size()):  # noqa: ASYNC110 - nor here
            await asyncio.sleep(0.3)
        assert before > size / 2
        go_on.set()
        await asyncio.wait_for(writer.drain(), 10)
        writer.write_eof()
        await until(lambda: len(got) == size)


@pytest.mark.parametrize("side", ["client", "target"])
async def test_a_connection_that_breaks_breaks_on_the_other_side(side: str) -> None:
    there_writer: list[asyncio.StreamWriter] = []
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_writer.append(writer)
        writer.write(b"a")
        try:
            await reader.read(-1)
        except ConnectionError:
            pass
        ended.set()

    async with target(handler) as there, balancing(there) as balancer:
        reader, writer = await asyncio.open_connection(*balancer.address)
        await reader.readexactly(1)
        if side == "client":
            reset(writer)
            await asyncio.wait_for(ended.wait(), 5)
        else:
            reset(there_writer[0])
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(reader.readexactly(1), 5)
            writer.close()
        await until(lambda: balancer.targets[0].connections == 0)


async def test_stopping_closes_what_is_open() -> None:
    async with target(saying(b"a")) as a:
        balancer = Balancer(("127.0.0.1", 0), [a])
        await balancer.start()
        reader, _ = await asyncio.open_connection(*balancer.address)
        await reader.readexactly(1)
        await balancer.stop()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        with pytest.raises(OSError):
            await asyncio.open_connection(*balancer.address)
