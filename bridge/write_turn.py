"""Whose turn it is to write to the one SQLite file of an embedded server."""

from __future__ import annotations

import asyncio
from types import TracebackType


class WriteTurn:
    """A first-come, first-served lock around write transactions of one event loop.

    SQLite lets one connection write at a time and makes the others poll with growing pauses, so under full load the
    accounts side would lose to the message path until it runs into the busy timeout. Whoever writes asks here first:

        async with turn:
            ...one write transaction...

    Nobody is overtaken: a new group commit waits behind a login that was there before it. It is a courtesy and not
    what keeps the data right; a writer that forgets it is held back by SQLite's own lock. Not reentrant.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()  # wakes its waiters in the order in which they came

    @property
    def taken(self) -> bool:
        return self._lock.locked()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
