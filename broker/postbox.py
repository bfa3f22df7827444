"""The server's own messages to its users."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aldis.broker.pipeline import SERVER
from aldis.broker.ports import Kind, NewMessage, Writer


def wall_clock() -> int:
    """Unix time in whole milliseconds."""
    return time.time_ns() // 1_000_000


class LocalPostbox:
    """Puts the server's own messages into inboxes through the group commit, which wakes the devices as for any
    message."""

    def __init__(self, writer: Writer, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._now_ms = now_ms

    async def post(self, user: str, content: Sequence[bytes]) -> None:
        for each in content:
            self._writer.append(NewMessage(SERVER, "", user, each, self._now_ms(), Kind.SYSTEM))
        await self._writer.flush()

    async def post_to(self, users: Sequence[str], content: bytes, *, id: str) -> None:
        for user in users:
            # no user id has a quotation mark or a backslash in it: this is JSON text, as the store keeps ids
            message = NewMessage(SERVER, "", user, content, self._now_ms(), Kind.SYSTEM, f'"{id}:{user}"')
            self._writer.append(message)
        await self._writer.flush()
