"""Around every call: how long a body may take, and answers that the client has already."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import cast

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPResponseStartEvent, Message, Receive, Scope, Send

SLOW_BODIES = "slow_bodies"
"""`opt` of a route whose bodies may take as long as they do, because they are large."""


class BodyTimeout(ASGIMiddleware):
    """The whole body must be here `seconds` after the call has begun; a client that sends a byte now and then holds
    nothing for longer. Answers 408."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        handler = scope.get("route_handler")
        if handler is not None and handler.opt.get(SLOW_BODIES):
            await next_app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        complete = False

        async def bounded() -> HTTPReceiveMessage:
            nonlocal complete
            if complete:
                # what comes now is only the end of the connection
                return cast("HTTPReceiveMessage", await receive())
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                # the rest of the body must not be taken for another request
                headers = {"Connection": "close"}
                detail = "the body did not arrive in time"
                raise HTTPException(status_code=408, detail=detail, headers=headers) from error
            complete = message["type"] != "http.request" or not message["more_body"]
            return cast("HTTPReceiveMessage", message)

        await next_app(scope, cast("Receive", bounded), send)


class ConditionalGet(ASGIMiddleware):
    """An ETag, of the body and the way to the next page, on every answer 200 to a GET that comes in one piece, and 304
    for who has that answer already."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope.get("method") != "GET":
            await next_app(scope, receive, send)
            return
        known = Headers.from_scope(scope).getall("if-none-match", [])
        start: HTTPResponseStartEvent | None = None

        async def conditional(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] == 200:
                start = message  # kept until the body is known
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            first, start = start, None
            if not message["more_body"]:
                headers = MutableScopeHeaders.from_message(first)
                # a page that was the last one may be followed by another now
                known_by = message["body"] + headers.get("link", "").encode()
                tag = f'"{hashlib.sha256(known_by).hexdigest()[:32]}"'
                headers["etag"] = tag
                if _matches(tag, known):
                    for name in ("content-length", "content-type"):
                        if name in headers:
                            del headers[name]
                    first["status"] = 304
                    message = cast("Message", {**message, "body": b""})
            await send(first)
            await send(message)

        await next_app(scope, receive, conditional)


def _matches(tag: str, known: Sequence[str]) -> bool:
    # RFC 9110, 13.1.2: weak comparison
    tags = {entry.strip().removeprefix("W/") for value in known for entry in value.split(",")}
    return tag in tags or "*" in tags
