"""An HTTP server inside the node's event loop: uvicorn, without its signal handlers and log setup."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from aldis.broker.listener import cannot_listen


class _Embedded(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, and the process is ours."""
        yield


class HttpServer:
    """Serves one ASGI application. The socket is bound at `start`, so that a taken address is an error then and
    there."""

    def __init__(self, app: Any, host: str, port: int, *, max_connections: int, shutdown: float) -> None:
        self._app = app
        self._host = host or "0.0.0.0"  # noqa: S104 - no host in the setting means every address
        self._port = port
        self._max_connections = max_connections
        self._shutdown = shutdown
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
        self.address = sock.getsockname()[:2]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            server_header=False,
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

    async def stop(self) -> None:
        """Finishes running requests, for as long as `shutdown` allows."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait([self._task], timeout=self._shutdown + 1)
