"""What is read at the two ends of a measured stretch, and what follows from the difference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine


@dataclass(frozen=True)
class Mark:
    """The state of the world at one moment."""

    wall: float
    server: float
    generator: float
    cores: list[float]
    messages: int


class Meter:
    """Reads clocks and counters for one server process. `count` gives the messages handled so far."""

    def __init__(self, server_pid: int, count: Callable[[], int]) -> None:
        self._pid = server_pid
        self._count = count

    def mark(self) -> Mark:
        return Mark(
            time.perf_counter(),
            machine.cpu_seconds(self._pid),
            time.process_time(),
            machine.busy_seconds(),
            self._count(),
        )

    async def stretch(self, warmup: float, seconds: float) -> dict[str, Any]:
        """Lets the load run for `warmup` seconds, then measures it for `seconds`."""
        await asyncio.sleep(warmup)
        first = self.mark()
        await asyncio.sleep(seconds)
        return difference(first, self.mark())


def difference(first: Mark, last: Mark) -> dict[str, Any]:
    """Rates and costs of a stretch. `cpu_us` is microseconds of server CPU per message; utilisations are shares
    of one core; `other_utilisation` is what anything else on the machine took."""
    wall = last.wall - first.wall
    server, generator = last.server - first.server, last.generator - first.generator
    cores = [(b - a) / wall for a, b in zip(first.cores, last.cores, strict=True)]
    messages = last.messages - first.messages
    return {
        "seconds": wall,
        "messages": messages,
        "rate": messages / wall,
        "cpu_us": server / messages * 1e6 if messages else float("nan"),
        "generator_cpu_us": generator / messages * 1e6 if messages else float("nan"),
        "server_utilisation": server / wall,
        "generator_utilisation": generator / wall,
        "core_utilisation": cores,
        "other_utilisation": max(0.0, sum(cores) - (server + generator) / wall),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for the condition at most so long; says whether it came true."""
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
