"""What the benchmarks make of two readings: costs by process, rates, percentiles."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from benchmarks import machine
from benchmarks.meter import Mark, Meter, difference, latencies, percentile


def mark(wall: float, servers: dict[str, float], messages: int) -> Mark:
    return Mark(wall, servers, generator=wall / 10, cores=[wall / 2, wall], messages=messages)


def test_the_cost_of_a_message_is_that_of_all_processes_and_of_each() -> None:
    first = mark(10.0, {"node 1": 1.0, "node 2": 2.0, "redis": 0.5}, 1_000)
    last = mark(12.0, {"node 1": 1.2, "node 2": 2.1, "redis": 0.5}, 11_000)
    found = difference(first, last)
    assert found["rate"] == pytest.approx(5_000)
    assert found["cpu_us"] == pytest.approx(30)
    assert found["parts_us"] == pytest.approx({"node 1": 20, "node 2": 10, "redis": 0})
    assert found["server_utilisation"] == pytest.approx(0.15)
    assert found["other_utilisation"] == pytest.approx(1.5 - 0.15 - 0.1)


def test_without_messages_there_is_no_cost() -> None:
    found = difference(mark(1.0, {"node": 0.0}, 5), mark(2.0, {"node": 0.5}, 5))
    assert math.isnan(found["cpu_us"]) and math.isnan(found["parts_us"]["node"])


def test_a_meter_reads_the_clock_of_every_process() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        meter = Meter({"ours": os.getpid(), "busy": busy.pid}, lambda: 7)
        first = meter.mark()
        while machine.cpu_seconds(busy.pid) < first.servers["busy"] + 0.05:
            pass
        last = meter.mark()
    finally:
        busy.kill()
        busy.wait()
    # the children of a process count as its own: what `busy` used is in both
    used = {name: last.servers[name] - first.servers[name] for name in first.servers}
    assert used["ours"] > used["busy"] >= 0.05
    assert last.messages == 7


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert math.isnan(percentile([], 0.5))
    assert latencies("sent", [0.002, 0.001, 0.003]) == pytest.approx(
        {"sent_p50_ms": 2, "sent_p99_ms": 3, "sent_max_ms": 3}
    )
