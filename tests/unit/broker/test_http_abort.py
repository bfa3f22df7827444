"""An application may end the connection of a request: a client that takes nothing is not waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from aldis.accounts_api import file_streams
from aldis.broker.http import ABORT, HttpServer


async def test_a_connection_is_ended_from_within_its_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99999999")]})
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        except TimeoutError:
            scope["extensions"][ABORT]()

    server = HttpServer(app, "127.0.0.1", 0, max_connections=10, shutdown=1.0)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(*server.address, limit=1_000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.6)
        # not closed after what is buffered, but reset: the rest is gone
        received = 0
        try:
            while block := await reader.read(1_000_000):
                received += len(block)
        except ConnectionError:
            pass
        assert received < 99_999_999
        writer.close()
        assert server._server is not None
        async with asyncio.timeout(2):
            while server._server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await server.stop()


def test_both_sides_mean_the_same_key() -> None:
    """The broker does not know the accounts side, nor the other way round."""
    assert file_streams.ABORT == ABORT
