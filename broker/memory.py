"""The node's high-water mark: above it nobody new comes in, so that those there are served on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

SHORT_OF_MEMORY = "memory above the high-water mark"
"""As `/readyz` and the log have it."""

_RELIEF = 0.9
"""Share of the mark at which the node is open again."""

_EVERY = 1.0
_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of this process in physical memory."""
    return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Looks once a second. `above(True)` is called when the mark is passed, `above(False)` when memory is well below it
    again. A system that does not tell is said so once, and then left alone."""

    def __init__(self, mark: int, above: Callable[[bool], None], read: Callable[[], int] = resident) -> None:
        self.high = False
        self._mark = mark
        self._above = above
        self._read = read
        self._next = 0.0

    def configure(self, mark: int) -> None:
        """Another mark from now on, judged at the next look; without one the node is open again at once."""
        self._mark = mark
        self._next = 0.0
        if not mark and self.high:
            self.high = False
            self._above(False)

    def look(self, now: float) -> None:
        if not self._mark or now < self._next:
            return
        self._next = now + _EVERY
        try:
            used = self._read()
        except OSError as error:
            logger.warning("limits.memory_high_water has no effect here: memory cannot be read: %s", error)
            self._mark = 0
            return
        if not self.high and used > self._mark:
            self.high = True
            logger.error("memory above the high-water mark: nobody new is let in", extra={"bytes": used})
            self._above(True)
        elif self.high and used <= self._mark * _RELIEF:
            self.high = False
            logger.warning("memory below the high-water mark again: open to all", extra={"bytes": used})
            self._above(False)
