"""How often somebody may try: token buckets per key, in a bounded table. Pure, the clock is the caller's."""

from __future__ import annotations

from collections import OrderedDict

from aldis.bridge.accounts.errors import TooManyAttempts
from aldis.config.addresses import network_of

__all__ = ["Attempts", "network_of"]


class Attempts:
    """A bucket per key that holds `burst` attempts and regains `per_minute` of them a minute.

    At most `table` keys are remembered; then the one untouched longest is forgotten, which gives that key a full
    bucket: who can fill the table gains attempts, but never memory.
    """

    def __init__(self, *, burst: int, per_minute: float, table: int = 10_000) -> None:
        self._burst = burst
        self._per_ms = per_minute / 60_000
        self._table = table
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str, now: int) -> None:
        """Uses up one attempt. Raises `TooManyAttempts` if there is none left."""
        left = self._level(key, now)
        if left < 1:
            missing = (1 - left) / self._per_ms
            raise TooManyAttempts("too many attempts; try again later", retry_after=max(1, -int(-missing // 1000)))
        self._keep(key, left - 1, now)

    def give_back(self, key: str, now: int) -> None:
        """Returns an attempt that turned out to be a good one."""
        self._keep(key, min(self._level(key, now) + 1, self._burst), now)

    def __len__(self) -> int:
        return len(self._buckets)

    def _level(self, key: str, now: int) -> float:
        left, since = self._buckets.get(key, (float(self._burst), now))
        return min(left + max(0, now - since) * self._per_ms, self._burst)

    def _keep(self, key: str, left: float, now: int) -> None:
        if left >= self._burst:
            self._buckets.pop(key, None)
            return
        self._buckets[key] = (left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._table:
            self._buckets.popitem(last=False)
