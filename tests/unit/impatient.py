"""An event loop that does not sit out its waits: where nothing is left to do until the next timer, it is then at once.

For code that takes the time from its loop, with both ends of every connection in that same loop. What has been written
to a socket of this machine can be read a moment later; only after that moment does the clock jump. While a thread is at
work for the loop, it does not."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

MOMENT = 0.003
"""Seconds for which a jump waits for bytes that are on their way. Waits shorter than this are real."""


class _Selector(selectors.DefaultSelector):
    """Seconds that were not waited for are in `skipped`."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= MOMENT or self.threads:
            return super().select(timeout)
        found = super().select(MOMENT)
        if not found:
            self.skipped += timeout - MOMENT
        return found


class ImpatientLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waiting = _Selector()
        super().__init__(self._waiting)

    def time(self) -> float:
        return super().time() + self._waiting.skipped

    def stand_still(self, seconds: float) -> None:
        """So long nothing was done, as if the process had been frozen."""
        self._waiting.skipped += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self._waiting.threads += 1
        future.add_done_callback(self._come_back)
        return future

    def _come_back(self, _: asyncio.Future[Any]) -> None:
        self._waiting.threads -= 1
