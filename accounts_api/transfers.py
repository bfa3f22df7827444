"""How many uploads, or downloads, are under way: of one user, and in all. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aldis.bridge.accounts.file_errors import FilesBusy, TooManyTransfers

_RETRY_AFTER = 5
"""Seconds: about when one of them may be over."""


class Transfers:
    """`what` they are is for people: "uploads"."""

    def __init__(self, what: str, *, total: int, per_user: int) -> None:
        self._what = what
        self._total = total
        self._per_user = per_user
        self._running: Counter[str] = Counter()

    @contextmanager
    def one(self, user: str) -> Iterator[None]:
        """One more, as long as the context lasts. Raises `TooManyTransfers`, `FilesBusy`."""
        self.begin(user)
        try:
            yield
        finally:
            self.end(user)

    def begin(self, user: str) -> None:
        if self._running[user] >= self._per_user:
            raise TooManyTransfers(
                f"you may have {self._per_user} {self._what} under way at once", retry_after=_RETRY_AFTER
            )
        if self._running.total() >= self._total:
            self._forget(user)
            raise FilesBusy(f"too many {self._what} at once; try again shortly", retry_after=_RETRY_AFTER)
        self._running[user] += 1

    def end(self, user: str) -> None:
        self._running[user] -= 1
        self._forget(user)

    @property
    def running(self) -> int:
        """Of all users."""
        return self._running.total()

    def __len__(self) -> int:
        return len(self._running)

    def _forget(self, user: str) -> None:
        if self._running[user] <= 0:
            del self._running[user]
