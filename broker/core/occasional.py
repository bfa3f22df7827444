"""Says something the first time, then once per interval with how often it has happened: a flood of events is no flood
of log lines. Pure."""

from __future__ import annotations

from collections import OrderedDict


class Occasional:
    """At most `size` keys are remembered; the one that spoke longest ago is forgotten first."""

    __slots__ = ("_heard", "_interval", "_size")

    def __init__(self, interval: float = 60.0, size: int = 1_000) -> None:
        self._interval = interval
        self._size = size
        self._heard: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def note(self, key: str, now: float) -> int:
        """It has happened once more. Returns how many times since it was last said, this one included, if it should be
        said now; else 0."""
        found = self._heard.get(key)
        if found is None:
            count = 0
        else:
            quiet_until, count = found
            if now < quiet_until:
                self._heard[key] = (quiet_until, count + 1)
                return 0
        self._heard[key] = (now + self._interval, 0)
        self._heard.move_to_end(key)
        if len(self._heard) > self._size:
            self._heard.popitem(last=False)
        return count + 1
