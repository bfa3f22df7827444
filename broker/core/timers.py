"""Deadlines of many connections with one timer: a wheel of coarse slots.

A connection is in one slot at a time and is asked, not told, when its slot comes round: activity costs it nothing but
an attribute, and it moves its own deadline when asked. Slots are `GRAIN` seconds wide, so a deadline is met up to that
much late and never early.
"""

from __future__ import annotations

from typing import Protocol

GRAIN = 0.25


class HasDeadline(Protocol):
    def on_deadline(self, now: float) -> float | None:
        """Acts on what is due and returns the next time to be asked; None: never again."""


class DeadlineWheel:
    """`schedule` anything with a deadline, then `turn` the wheel with the current time, at best every `GRAIN`."""

    def __init__(self, now: float) -> None:
        self._slots: dict[int, list[HasDeadline]] = {}
        self._turned = int(now / GRAIN)

    def schedule(self, who: HasDeadline, deadline: float) -> None:
        slot = max(int(deadline / GRAIN) + 1, self._turned + 1)
        self._slots.setdefault(slot, []).append(who)

    def turn(self, now: float) -> None:
        """Asks everyone whose slot has passed."""
        current = int(now / GRAIN)
        if current - self._turned > len(self._slots):
            # the process stood still (suspended laptop): look at the slots there are, not at every one that passed
            due = sorted(slot for slot in self._slots if slot <= current)
        else:
            due = list(range(self._turned + 1, current + 1))
        self._turned = current
        for slot in due:
            for who in self._slots.pop(slot, ()):
                following = who.on_deadline(now)
                if following is not None:
                    self.schedule(who, following)
