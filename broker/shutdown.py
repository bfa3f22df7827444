"""The time that a shutdown may take, shared out: a step that does not end in its share is given up, and said so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

logger = logging.getLogger(__name__)

SHUTTING_DOWN = "shutting down"
_LOOK_EVERY = 0.01


class Budget:
    """`seconds` in all, from now. `complete` is false once anything was given up."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._seconds = seconds
        self.complete = True

    def left(self, share: float = 1.0) -> float:
        """Seconds until this share of the whole is used up."""
        return max(0.0, self._begun + self._seconds * share - self._loop.time())

    def missed(self, step: str) -> None:
        self.complete = False
        logger.warning("shutdown: %s did not end in time and is given up", step)

    async def spend(self, share: float, step: str, work: Coroutine[Any, Any, Any]) -> None:
        """Waits for the work until the share is used up. What it raises is logged: the next step has its turn."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait([task], timeout=self.left(share))
        if not done:
            task.cancel()
            await asyncio.wait([task], timeout=_LOOK_EVERY)
            self.missed(step)
        elif not task.cancelled() and task.exception() is not None:
            self.complete = False
            logger.error("shutdown: %s failed", step, exc_info=task.exception())

    async def drain(self, share: float, transports: Iterable[Any]) -> int:
        """Waits until what was written to these transports is with the system, then aborts those whose client does not
        read, and says how many these were."""
        waiting = list(transports)
        while waiting:
            waiting = [transport for transport in waiting if transport.get_write_buffer_size()]
            if not waiting or not self.left(share):
                break
            await asyncio.sleep(_LOOK_EVERY)
        for transport in waiting:
            transport.abort()
        if waiting:
            logger.warning("shutdown: %d clients did not read what was left for them", len(waiting))
        return len(waiting)
