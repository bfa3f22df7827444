"""Whether this node may still deliver as the owner of its devices.

Another node takes a device over by claiming it in the store and by telling us. A node that was frozen, or cut off, has
not heard it; so whoever has not made sure for `limit` seconds does not deliver inbox items until it has. Two things
make sure: our own heartbeat has come back (what others had told us before has come before it), and the epochs in the
store have been read again. After a hole in what we hear only the second does."""

from __future__ import annotations

from collections.abc import Callable

_NEVER = float("-inf")


class Ownership:
    """Times are those of the event loop, in seconds. `heard` says when the newest of our own heartbeats that have come
    back had been sent."""

    def __init__(self, heard: Callable[[], float], now: Callable[[], float], limit: float) -> None:
        self._heard = heard
        self._now = now
        self._limit = limit
        self._checked = now()
        self._doubted = _NEVER

    def certain(self) -> bool:
        """Deliver, or wait?"""
        sure = self._checked
        heard = self._heard()
        if heard > sure and self._doubted < sure:
            sure = heard
        return self._now() - sure <= self._limit and self._doubted <= sure

    def checked(self, since: float) -> None:
        """The epochs of all attached devices were read from the store by a reading that began at `since`."""
        self._checked = max(self._checked, since)

    def doubt(self) -> None:
        """We may have missed that a device was taken over."""
        self._doubted = self._now()
