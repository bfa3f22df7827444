"""An HTTP server inside the node's event loop: uvicorn, without its signal handlers and log setup."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from aldis.broker.arrival import Arrival, Gate
from aldis.broker.core.reasons import CloseReason
from aldis.broker.listener import Listener, cannot_listen

logger = logging.getLogger(__name__)


_CUT_OFF = 0.5
"""Seconds that the server takes to drop the requests it must not wait for."""


ABORT = "aldis.abort"
"""Key in `scope["extensions"]` of every request: a function that ends its connection at once. ASGI has none, and a
client that takes nothing would else keep its connection, and what is buffered for it, for as long as it likes."""


HEAD_WITHIN = 10.0
"""Seconds between two looks at whether a connection has made a request: a head that is not complete by the first or
second one does not come. uvicorn waits for ever, and each such connection takes a place of `http.max_connections`."""


class _Abortable(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's protocol, with an end for clients that take nothing and for those that never end their request."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._seen: Any = None
        self._watch = self.loop.call_later(HEAD_WITHIN, self._look)
        inner: Any = self.app  # type: ignore[has-type]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            await inner(scope, receive, send)

        self.app = app

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Closes if there was no request since the last look and none is under way. (What is only idle between two
        requests uvicorn has closed before.)"""
        cycle = self.cycle
        if cycle is None or (cycle is self._seen and cycle.response_complete):
            self.transport.close()
            return
        self._seen = cycle
        self._watch = self.loop.call_later(HEAD_WITHIN, self._look)


class _Embedded(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, and the process is ours."""
        yield


class HttpServer:
    """Serves one ASGI application. The socket is bound at `start`, so that a taken address is an error then and
    there. `gate` is what stands in front of it, if anything does."""

    def __init__(
        self, app: Any, host: str, port: int, *, max_connections: int, shutdown: float, gate: Gate | None = None
    ) -> None:
        self._app = app
        self._host = host or "0.0.0.0"  # noqa: S104 - no host in the setting means every address
        self._port = port
        self._max_connections = max_connections
        self._shutdown = shutdown
        self._gate = gate
        self._server: _Embedded | None = None
        self._task: asyncio.Task[None] | None = None
        self.address: tuple[str, int] = (self._host, port)

    async def start(self) -> None:
        """Returns when requests are answered. Raises `OSError` if the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            sock = socket.create_server((self._host, self._port), family=family, backlog=1_024)
        except OSError as error:
            raise OSError(f"http: {cannot_listen(f'{self._host}:{self._port}', error)}") from error
        # Accepted ones inherit it. asyncio's own loop does not set it on theirs, whose `proto` is 0: an answer in two
        # writes would wait 40 ms for the client's delayed acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = sock.getsockname()[:2]
        config = uvicorn.Config(
            self._app,
            http=_Abortable if self._gate is None else _arrivals(self._gate),
            log_config=None,
            access_log=False,
            server_header=False,
            # else X-Forwarded-For is believed of everybody on this machine; the application has its own rule
            proxy_headers=False,
            lifespan="on",
            limit_concurrency=self._max_connections,
            timeout_graceful_shutdown=max(1, int(self._shutdown)),
        )
        self._server = _Embedded(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name="http")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError(f"the HTTP server on {self._host}:{self._port} ended at start")
            await asyncio.sleep(0.01)

    async def stop(self, within: float | None = None) -> bool:
        """Finishes running requests, for as long as `within` or else `shutdown` seconds allow. False: some were cut
        off."""
        if self._server is None or self._task is None or self._task.done():
            return True
        patience = self._shutdown if within is None else within
        self._server.should_exit = True
        done, _ = await asyncio.wait([self._task], timeout=patience)
        if not done:
            self._server.force_exit = True
            await asyncio.wait([self._task], timeout=_CUT_OFF)
        return bool(done)


def _arrivals(gate: Gate) -> Any:
    """Stands where uvicorn expects the class of its protocol: each connection comes in through the gate first."""

    def make(**arguments: Any) -> asyncio.BaseProtocol:
        return Arrival(gate, _HttpNewcomer(gate.listener, lambda: _Abortable(**arguments)))

    return make


class _HttpNewcomer:
    """An HTTP connection until uvicorn takes it. It has a place of the gate's listener for so long; after that
    uvicorn's own limit counts it."""

    def __init__(self, listener: Listener, protocol: Callable[[], Any]) -> None:
        self.closed: CloseReason | None = None
        self._listener = listener
        self._protocol = protocol
        self._address = ""
        self._placed = False
        self._transport: asyncio.Transport

    def accepted(self, transport: asyncio.Transport, address: str) -> None:
        self._transport, self._address = transport, address
        self._placed = self._listener.acquire()
        if not self._placed:
            self.end(CloseReason.TOO_MANY_CONNECTIONS)

    def entered(self, transport: asyncio.Transport) -> None:
        self._give_place_back()
        protocol = self._protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        host, _, port = self._address.rpartition(":")
        protocol.client = (host, int(port)) if port.isdigit() else None

    def refused(self, transport: asyncio.Transport, address: str, reason: CloseReason, detail: str = "") -> None:
        self._transport, self._address = transport, address
        self.end(reason, detail)

    def end(self, reason: CloseReason, detail: str = "") -> None:
        if self.closed is not None:
            return
        self.closed = reason
        self._give_place_back()
        self._transport.close()
        level = logging.DEBUG if reason is CloseReason.CLIENT_VANISHED else logging.WARNING
        logger.log(level, "HTTP connection ended: %s", reason, extra={"address": self._address, "detail": detail})

    def _give_place_back(self) -> None:
        if self._placed:
            self._placed = False
            self._listener.release()
