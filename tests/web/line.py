"""The line of one browser to the world: a SOCKS5 proxy that can be cut, as a phone's is in a tunnel.

`BrowserContext.set_offline` tells the page; this tells nobody, as life does. It runs in a thread of its own, since
Playwright's calls block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_GREETING = b"\x05\x00"
_REFUSED = b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"
_OPEN = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


class Line:
    """Whole between `start` and `stop`, except after `cut` until `mend`. `address` is for the browser."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._whole = True
        self._silent = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    def start(self) -> Line:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"socks5://127.0.0.1:{port}"
        return self

    def stop(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def cut(self) -> None:
        """Every connection breaks, and no new one comes about."""

        def now() -> None:
            self._whole = False
            for writer in self._writers:
                writer.transport.abort()

        self._do(now)

    def silence(self) -> None:
        """Nothing gets through any more, in either direction, and nobody is told: a half-open connection."""
        self._do(lambda: setattr(self, "_silent", True))

    def mend(self) -> None:
        """As before. What was on its way in a silence is lost, so the connections of that time are broken."""

        def now() -> None:
            if self._silent:
                for writer in self._writers:
                    writer.transport.abort()
            self._whole, self._silent = True, False

        self._do(now)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, work: Callable[[], object]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            work()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the end of a connection, of whichever side
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(_GREETING)
        host, port = await _target(reader)
        if not self._whole:
            writer.write(_REFUSED)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.write(_REFUSED)
            await writer.drain()
            return
        self._writers.add(far_writer)
        try:
            writer.write(_OPEN)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self._silent:
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _target(reader: asyncio.StreamReader) -> tuple[str, int]:
    _, _, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = ".".join(map(str, await reader.readexactly(4)))
    elif kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        if host.endswith(".test"):
            # a name for this machine that no browser takes for it: what is loopback has more rights
            host = "127.0.0.1"
    else:
        raise OSError(f"an address of kind {kind}")
    return host, int.from_bytes(await reader.readexactly(2))
