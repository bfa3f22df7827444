"""How often and how much: token buckets. Pure; times are the caller's seconds, which must not go back.

A bucket begins full, with `burst` tokens, and regains `rate` of them each second. So from any moment on, t seconds let
through no more than `burst` + `rate` * t.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from math import inf


class TokenBucket:
    """One bucket. A `rate` of 0 means no limit."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst if rate else inf
        self._rate = rate
        self._level = self._burst
        self._at = now

    def take(self, now: float) -> bool:
        """Takes one token; false if there is none, and then nothing is taken."""
        if now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class BucketTable:
    """A bucket for each key. At most `size` keys are remembered; then the one untouched longest is forgotten, which
    gives that key a full bucket: who can fill the table gains tokens, but never memory.

    A `rate` of 0 means no limit, and nothing is remembered.
    """

    __slots__ = ("_burst", "_levels", "_rate", "_size")

    def __init__(self, burst: float, rate: float, size: int) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._size = size
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def level(self, key: str, now: float) -> float:
        """Tokens left for this key."""
        if not self._rate:
            return inf
        found = self._levels.get(key)
        if found is None:
            return self._burst
        return min(self._burst, found[0] + (now - found[1]) * self._rate)

    def untouched(self, key: str, now: float) -> bool:
        """Whether the key's bucket is full, as if nobody had ever asked for it."""
        return self.level(key, now) >= self._burst or not self._rate

    def take(self, key: str, now: float) -> bool:
        """Takes one token of this key; false if there is none, and then nothing is taken."""
        if not self._rate:
            return True
        level = self.level(key, now)
        if level < 1.0:
            return False
        self._levels[key] = (level - 1.0, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)
        return True


class Verdict(IntEnum):
    """What an `Allowance` says to one publish."""

    WITHIN = 0
    OVERDRAWN = 1
    """Taken, but the user is in debt: read no more from this connection until it is paid."""
    REFUSED = 2
    """Not taken: the debt is as large as the burst already."""


_WITHIN, _OVERDRAWN, _REFUSED = Verdict  # an enum member found through its class costs more than the arithmetic


class Allowance:
    """What one user may publish, over all its connections: a number and bytes, each a token bucket that may be
    overdrawn by one more burst, for what was read from the network before reading stopped.

    A rate of 0 means no limit of that kind. `connections` is the owner's count of who uses it.
    """

    __slots__ = ("_at", "_burst", "_bytes", "_bytes_burst", "_bytes_rate", "_messages", "_rate", "connections")

    def __init__(self, burst: float, rate: float, bytes_burst: float, bytes_rate: float, now: float) -> None:
        self.connections = 0
        self._rate = rate
        self._bytes_rate = bytes_rate
        self._messages = self._burst = float(burst) if rate else inf
        self._bytes = self._bytes_burst = float(bytes_burst) if bytes_rate else inf
        self._at = now

    def take(self, size: int, now: float) -> Verdict:
        """One publish of `size` bytes."""
        if now > self._at:
            self._refill(now)
        messages = self._messages - 1.0
        left = self._bytes - size
        if messages < 0.0 or left < 0.0:
            if messages < -self._burst or left < -self._bytes_burst:
                return _REFUSED
            self._messages = messages
            self._bytes = left
            return _OVERDRAWN
        self._messages = messages
        self._bytes = left
        return _WITHIN

    def paid(self, now: float) -> bool:
        """Whether there is no debt any more: reading may go on."""
        if now > self._at:
            self._refill(now)
        return self._messages >= 0.0 and self._bytes >= 0.0

    def full(self, now: float) -> bool:
        """Whether everything is regained: a new one would be the same."""
        if now > self._at:
            self._refill(now)
        return self._messages >= self._burst and self._bytes >= self._bytes_burst

    def _refill(self, now: float) -> None:
        elapsed = now - self._at
        self._at = now
        if self._rate:
            self._messages = min(self._burst, self._messages + elapsed * self._rate)
        if self._bytes_rate:
            self._bytes = min(self._bytes_burst, self._bytes + elapsed * self._bytes_rate)
