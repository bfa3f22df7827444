"""How long to wait before the next attempt to connect. Pure; chance is an argument."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Doubles from `first` to `most` seconds, and takes a random part of half of it off, so that a thousand bots do not
    come back to a restarted server at the same moment."""

    def __init__(self, chance: Callable[[], float], *, first: float = 0.5, most: float = 60.0) -> None:
        self._chance, self._first, self._most = chance, first, most
        self._next = first

    def delay(self) -> float:
        """Seconds, at least half of the undiminished delay."""
        delay, self._next = self._next, min(self._next * 2, self._most)
        return delay * (0.5 + self._chance() / 2)

    def calm(self) -> None:
        """A connection has lasted: begin from the shortest again."""
        self._next = self._first
