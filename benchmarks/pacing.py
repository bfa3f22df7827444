"""Publishing at fixed times whatever the server does, so that a slow answer does not slow the questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

TICK = 0.001
"""Seconds between looks at what is due: the resolution of the loop's timers."""


class Speaker(Protocol):
    """Who publishes one message at a time."""

    def say(self, due: float, /) -> None: ...


async def pace(speakers: Sequence[Speaker], rate: float, lateness: list[float]) -> None:
    """Lets the speakers take turns, `rate` messages a second in all, until it is cancelled. Notes for each message by
    how many seconds it left too late."""
    start, said = time.perf_counter(), 0
    while True:
        now = time.perf_counter()
        while said < (now - start) * rate:
            due = start + said / rate
            lateness.append(now - due)
            speakers[said % len(speakers)].say(due)
            said += 1
        await asyncio.sleep(TICK)
