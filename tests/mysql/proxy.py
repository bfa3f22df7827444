"""Stands between a store and its database and breaks the connection at the worst moment: around COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

COMMIT = b"\x03COMMIT"


class Line:
    """One connection through the proxy, at the moment at which the client has sent COMMIT."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, packet: bytes) -> None:
        self.client, self.server, self.packet = client, server, packet
        self.deaf = False
        """What the server says no longer reaches the client."""

    async def send_commit(self) -> None:
        self.server.write(self.packet)
        await self.server.drain()

    def cut_client(self) -> None:
        self.client.transport.abort()

    def cut_server(self) -> None:
        self.server.transport.abort()


At = Callable[[Line], Awaitable[None]]


class CuttingProxy:
    """Listens on a free port while it is entered. `at` is called for the next COMMIT, once, instead of passing it on;
    afterwards, and for every other packet, it only passes on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.at: At | None = None
        self.commits = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> CuttingProxy:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, server_writer]
        line = Line(writer, server_writer, b"")
        for work in (self._up(reader, line), self._down(server_reader, line)):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)

    async def _up(self, reader: asyncio.StreamReader, line: Line) -> None:
        try:
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head[:3], "little"))
                if body == COMMIT:
                    self.commits += 1
                    if self.at is not None:
                        at, self.at = self.at, None
                        line.packet = head + body
                        await at(line)
                        continue
                line.server.write(head + body)
                await line.server.drain()
        except (OSError, asyncio.IncompleteReadError):
            if not line.deaf:
                line.server.close()

    async def _down(self, reader: asyncio.StreamReader, line: Line) -> None:
        try:
            while data := await reader.read(65_536):
                if not line.deaf:
                    line.client.write(data)
                    await line.client.drain()
        except OSError:
            pass
        if not line.deaf:
            line.client.close()
