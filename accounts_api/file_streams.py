"""The two ends of a transfer at the HTTP server: a body as it arrives, an answer as the client takes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Any, cast

from litestar import Request
from litestar.exceptions import HTTPException
from litestar.response.base import ASGIResponse
from litestar.types import HTTPDisconnectEvent, HTTPRequestEvent, HTTPSendMessage, Receive, Scope, Send

from aldis.accounts_api.transfers import Transfers
from aldis.bridge.accounts.file_errors import UploadTimeout

logger = logging.getLogger(__name__)

ABORT = "aldis.abort"
"""Key in `scope["extensions"]` under which our HTTP server gives a function that ends the connection at once."""
LINGER_BYTES = 1_048_576
LINGER_SECONDS = 2.0
"""How much of a refused upload is still read, so that a client which is busy sending gets to see why."""


class Transfer:
    """What waits for a client, and may be told from outside to wait no longer."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: asyncio.Timeout | None = None

    def end(self) -> None:
        """The server stops: what is under way is given up at once."""
        self.ended = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def waiting(self, until: float) -> AsyncIterator[None]:
        """Raises `TimeoutError` at that time of the loop, or at `end`."""
        try:
            async with asyncio.timeout_at(0 if self.ended else until) as self._waiting:
                yield
        finally:
            self._waiting = None


class ArrivingBody(Transfer):
    """The body of a request. `stall` seconds without a byte, or `total` seconds in all, end it with
    `UploadTimeout`."""

    def __init__(self, request: Request[Any, Any, Any], *, stall: float, total: float) -> None:
        super().__init__()
        self._receive: Receive = request.receive
        self._stall = stall
        self._deadline = asyncio.get_running_loop().time() + total
        self.complete = False

    async def chunks(self) -> AsyncIterator[bytes]:
        while not self.complete:
            chunk = await self._next(self._stall)
            if chunk:
                yield chunk

    async def linger(self) -> None:
        """Reads on for a moment, and forgets what it reads."""
        left, until = LINGER_BYTES, asyncio.get_running_loop().time() + LINGER_SECONDS
        try:
            while not self.complete and left > 0 and (rest := until - asyncio.get_running_loop().time()) > 0:
                left -= len(await self._next(rest))
        except (UploadTimeout, HTTPException):
            return

    async def _next(self, patience: float) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            async with self.waiting(min(loop.time() + patience, self._deadline)):
                message = cast("HTTPRequestEvent | HTTPDisconnectEvent", await self._receive())
        except TimeoutError as error:
            raise UploadTimeout("the upload stood still, or has taken too long") from error
        if message["type"] == "http.disconnect":
            self.complete = True
            raise HTTPException(status_code=400, detail="the connection ended within the upload")
        self.complete = not message["more_body"]
        return message["body"]


class FileAnswer(ASGIResponse, Transfer):
    """Sends blocks as the client takes them, none ahead. One that takes nothing for `stall` seconds, or leaves, is not
    waited for; what holds the file is let go at once."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        blocks: AsyncIterator[bytes] | None,
        *,
        stall: float,
        place: tuple[Transfers, str] | None = None,
    ) -> None:
        ASGIResponse.__init__(self, status_code=status)
        Transfer.__init__(self)
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
        self._blocks = blocks
        self._stall = stall
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._blocks is None:
            await send(cast("HTTPSendMessage", self._start))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        place = nullcontext() if self._place is None else self._place[0].one(self._place[1])
        with place:
            async with aclosing(cast("Any", self._blocks)) as blocks:
                await self._send(scope, receive, send, blocks)

    async def _send(self, scope: Scope, receive: Receive, send: Send, blocks: AsyncIterator[bytes]) -> None:
        # The first block before the first header: a storage that is away is still a 503.
        block = await anext(blocks, b"")
        loop = asyncio.get_running_loop()
        gone = loop.create_task(_gone(receive), name="client of a download")
        try:
            await send(cast("HTTPSendMessage", self._start))
            while block and not gone.done():
                async with self.waiting(loop.time() + self._stall):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                block = b"" if gone.done() else await anext(blocks, b"")
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            logger.info("a download was given up: %s", "we stop" if self.ended else "its client takes nothing")
            await _abort(scope, gone)
        except Exception:
            # The status is on its way: all that is left is to end the connection before the announced length.
            logger.exception("a download broke off")
            await _abort(scope, gone)
        finally:
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _abort(scope: Scope, gone: asyncio.Task[None]) -> None:
    """Elsewhere than in our own server the connection is closed once the client has taken what is buffered."""
    extensions: dict[str, Any] = dict(scope.get("extensions") or {})
    end = extensions.get(ABORT)
    if end is not None:
        end()
        # until the server has noticed, too: else it complains of half an answer
        await asyncio.wait([gone], timeout=1.0)
