"""Stands between clients and a server and breaks the path: cut, or silent in one direction or both."""

from __future__ import annotations

import asyncio
from typing import cast


class TcpProxy:
    """Listens on a free port of 127.0.0.1 while it is entered; each connection is passed on to `target`.

    `swallow_up` and `swallow_down` drop what clients say and what the server says, on open and new connections alike,
    and nobody is told: the path is a black hole. `refuse` closes new connections at once.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.swallow_up = self.swallow_down = self.refuse = False
        self.accepted = 0
        self._open: set[_Side] = set()

    async def __aenter__(self) -> TcpProxy:
        self._listener = await asyncio.get_running_loop().create_server(lambda: _Side(self, None), "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        await asyncio.sleep(0)

    @property
    def connections(self) -> int:
        """Those of clients that are open."""
        return sum(side.client is None for side in self._open)

    def cut(self) -> None:
        """Resets every open connection; the next ones are served."""
        for side in [*self._open]:
            side.end()


class _Side(asyncio.Protocol):
    """One end of a path: towards the client (`client` None), or towards the server for that client."""

    def __init__(self, proxy: TcpProxy, client: _Side | None) -> None:
        self.proxy = proxy
        self.client = client
        self.other: _Side | None = client
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self.proxy._open.add(self)
        if self.client is not None:
            return
        self.proxy.accepted += 1
        if self.proxy.refuse:
            self.end()
        else:
            self._dialling = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(
                lambda: _Side(self.proxy, self), "127.0.0.1", self.proxy._target
            )
        except OSError:
            self.end()
            return
        if self.transport is None:
            self.other.end()
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self.proxy.swallow_up if self.client is None else self.proxy.swallow_down:
            return
        if self.other is None:
            self._early.append(data)
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.proxy._open.discard(self)
        if self.other is not None:
            self.other.end()

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()
