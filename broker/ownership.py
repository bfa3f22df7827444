"""Whether this node may still deliver as the owner of its devices.

Another node takes a device over by claiming it in the store and by telling us. A node that was frozen, or cut off, has
not heard it; so whoever has not made sure for `limit` seconds does not deliver inbox items until it has. Two things
make sure: our own heartbeat has come back (what others had told us before has come before it), and the epochs in the
store have been read again. After a hole in what we hear only the second does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Check(NamedTuple):
    """A reading of the store that has begun: when, and after how many doubts."""

    since: float
    doubts: int


class Ownership:
    """Times are those of the event loop, in seconds. `heard` says when the newest of our own heartbeats that have come
    back had been sent."""

    def __init__(self, heard: Callable[[], float], now: Callable[[], float], limit: float) -> None:
        self._heard = heard
        self._now = now
        self._limit = limit
        self._checked = now()
        self._doubts = 0  # counted, since two of them may have the same time
        self._settled = 0

    def certain(self) -> bool:
        """Deliver, or wait?"""
        if self._settled != self._doubts:
            return False
        return self._now() - max(self._checked, self._heard()) <= self._limit

    def begin(self) -> Check:
        """The epochs of all attached devices are about to be read."""
        return Check(self._now(), self._doubts)

    def checked(self, check: Check) -> None:
        """They were read, and who is not the owner any more has been told."""
        self._checked = max(self._checked, check.since)
        self._settled = max(self._settled, check.doubts)

    def doubt(self) -> None:
        """We may have missed that a device was taken over."""
        self._doubts += 1
