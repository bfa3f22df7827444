"""Clients of HTTP that never end the head of their request hold nothing for long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aldis.broker import http
from aldis.broker.http import HttpServer

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    monkeypatch.setattr(http, "HEAD_WITHIN", 0.3)
    server = HttpServer(app, "127.0.0.1", 0, max_connections=10, shutdown=2.0)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first request", "second request"])
async def test_a_head_that_never_ends_is_given_up(server: HttpServer, before: bytes) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    if before:
        writer.write(before)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    begun = time.monotonic()
    with contextlib.suppress(ConnectionResetError):  # it was still dripping
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    assert time.monotonic() - begun < 3.0
    dripping.cancel()
    writer.close()


async def test_who_says_nothing_at_all_is_closed(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_slow_answer_is_waited_for(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"ok")
    writer.close()


async def test_one_request_after_the_other_goes_on(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    for _ in range(12):
        writer.write(REQUEST)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.1)
    writer.close()
