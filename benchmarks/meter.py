"""What is read at the two ends of a measured stretch, and what follows from the difference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine


@dataclass(frozen=True)
class Mark:
    """The state of the world at one moment."""

    wall: float
    servers: dict[str, float]
    generator: float
    cores: list[float]
    messages: int


class Meter:
    """Reads clocks and counters for the processes under test. `count` gives the messages handled so far."""

    def __init__(self, processes: Mapping[str, int], count: Callable[[], int]) -> None:
        self._processes = processes
        self._count = count

    def mark(self) -> Mark:
        return Mark(
            time.perf_counter(),
            {name: machine.cpu_seconds(pid) for name, pid in self._processes.items()},
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
    """Rates and costs of a stretch. `cpu_us` is microseconds of CPU per message of all processes under test together,
    `parts_us` that of each; utilisations are shares of one core; `other_utilisation` is what anything else on the
    machine took."""
    wall = last.wall - first.wall
    parts = {name: last.servers[name] - seconds for name, seconds in first.servers.items()}
    server, generator = sum(parts.values()), last.generator - first.generator
    cores = [(b - a) / wall for a, b in zip(first.cores, last.cores, strict=True)]
    messages = last.messages - first.messages
    return {
        "seconds": wall,
        "messages": messages,
        "rate": messages / wall,
        "cpu_us": server / messages * 1e6 if messages else float("nan"),
        "parts_us": {name: part / messages * 1e6 if messages else float("nan") for name, part in parts.items()},
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


def latencies(what: str, seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum of durations in seconds, as milliseconds."""
    return {
        f"{what}_p50_ms": percentile(seconds, 0.50) * 1000,
        f"{what}_p99_ms": percentile(seconds, 0.99) * 1000,
        f"{what}_max_ms": max(seconds, default=float("nan")) * 1000,
    }


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for the condition at most so long; says whether it came true."""
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
