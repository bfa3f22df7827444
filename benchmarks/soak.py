"""`python -m benchmarks.soak`: mixed load with flapping clients for ten minutes, and whether anything is left behind.

The reference is the memory after the first minute, when every bounded cache is warm. At the end it must be at most 1.05
times that, and once everybody has gone the server must have as many tasks, descriptors, threads, connections and
sessions as when everybody had gone after a short trial.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import machine, servers
from benchmarks.population import Account, register_pairs
from benchmarks.servers import HOST, Server
from benchmarks.soak_clients import Link, chatter, done, enduring, flapper, slow_reader, stranger

GROWTH = 1.05
WARM_UP = 60.0
EVERY = 5.0
TRIAL = 15.0
SETTLE = 13.0
WINDOW = 4
"""Samples whose median stands for a moment: one alone may fall into a checkpoint of the database."""
ROLES = (chatter, chatter, chatter, flapper, flapper, flapper, flapper, slow_reader, stranger)
"""For one pair of friends each; both play it."""
OPEN = {
    "ALDIS_LIMITS__CONNECTIONS_PER_SECOND_PER_ADDRESS": "0",
    "ALDIS_LIMITS__FAILED_CONNECTS_PER_MINUTE_PER_ADDRESS": "0",
    "ALDIS_LIMITS__FAILED_CONNECTS_PER_MINUTE_PER_USER": "0",
    "ALDIS_LOGGING__LEVEL": "ERROR",
    "ALDIS_STORE__CACHE_SIZE": "4194304",
}
"""Everybody comes from one address here; the log is not what is soaked; and the database's cache, 64 MiB by default,
would take longer than the first minute to be full, which would look like a leak."""
COUNTS = (
    "process_open_fds",
    "aldis_event_loop_tasks",
    'aldis_connections{listener="default"}',
    'aldis_sessions{state="connected"}',
    'aldis_sessions{state="away"}',
    "aldis_subscriptions",
    "aldis_inflight",
    "aldis_queued",
    "aldis_held_back",
    "aldis_inbox_devices",
    "aldis_commit_pending",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load, the first one included (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of what the clients do (default 1)")
    options = parser.parse_args()
    if options.minutes * 60 < WARM_UP + EVERY * WINDOW:
        parser.error("at least 1.5 minutes: the first one only warms up")
    random.seed(options.seed)
    machine.allow_many_files()
    os.environ.update(OPEN)
    with tempfile.TemporaryDirectory(prefix="aldis-soak-") as folder:
        with servers.aldis(servers.aldis_command(), "embedded", Path(folder), None) as server:
            problems = asyncio.run(_soak(server, options.minutes * 60))
        log = (Path(folder) / "aldis.log").read_text(encoding="utf-8", errors="replace")
    problems += [f"in the log: {line}" for line in log.splitlines() if "ERROR" in line or "Traceback" in line]
    print("\n".join(["", *problems[:20]]) if problems else "\nnothing left behind")
    return 1 if problems else 0


async def _soak(server: Server, seconds: float) -> list[str]:
    accounts = await asyncio.to_thread(register_pairs, server, 2 * len(ROLES))
    print(f"trying everything for {TRIAL:.0f} s, so that what is opened once and kept is open …", flush=True)
    _, broken = await _play(server, accounts, TRIAL)
    before = await _settled(server)
    done.clear()
    curve, more = await _play(server, accounts, seconds)
    print("\n" + ", ".join(f"{count} {what}" for what, count in done.most_common()))
    return broken + more + judge(curve) + _left(before, await _settled(server))


async def _play(server: Server, accounts: list[Account], seconds: float) -> tuple[list[tuple[float, float]], list[str]]:
    """Everybody plays, then leaves for good: the curve of the memory, and what was wrong with the players."""
    tasks = []
    for number, role in enumerate(ROLES):
        one, two = accounts[2 * number : 2 * number + 2]
        tasks += [
            asyncio.create_task(enduring(role, server.port, one, two)),
            asyncio.create_task(enduring(role, server.port, two, one)),
        ]
    curve = await _watch(server, seconds, tasks)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await _leave(server, accounts)
    return curve, [f"the soak itself: {error!r}" for error in ended if _defect(error)]


def _defect(error: object) -> bool:
    return isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError)


async def _watch(server: Server, seconds: float, tasks: list[asyncio.Task[None]]) -> list[tuple[float, float]]:
    """Memory in MiB by seconds since the beginning."""
    process = psutil.Process(server.pid)
    curve: list[tuple[float, float]] = []
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds and not any(task.done() for task in tasks):
        memory = process.memory_full_info().uss / 2**20
        curve.append((passed, memory))
        now = await asyncio.to_thread(figures, server)
        sessions = now['aldis_sessions{state="connected"}'] + now['aldis_sessions{state="away"}']
        print(
            f"{passed:6.0f} s {memory:7.1f} MiB {now['process_open_fds']:4.0f} descriptors"
            f" {now['aldis_event_loop_tasks']:4.0f} tasks {sessions:4.0f} sessions {done['flaps']:7d} flaps"
            f" {done['received']:8d} received",
            flush=True,
        )
        await asyncio.sleep(EVERY)
    return curve


async def _leave(server: Server, accounts: list[Account]) -> None:
    """Everybody comes once more with a clean session, which ends a persistent one, and goes."""
    await asyncio.sleep(1)
    for account in accounts:
        link = await Link.open(server.port, account, clean=True)
        await link.close("politely")


async def _settled(server: Server) -> dict[str, float]:
    """The figures once HTTP connections (5 s), silent ones (10 s) and the last commits are over."""
    await asyncio.sleep(SETTLE)
    return await asyncio.to_thread(figures, server)


def figures(server: Server) -> dict[str, float]:
    """What `/metrics` says."""
    connection = http.client.HTTPConnection(HOST, server.http, timeout=30)
    connection.request("GET", "/metrics", headers={"Connection": "close"})
    page = connection.getresponse().read().decode()
    connection.close()
    found = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    values = dict.fromkeys(COUNTS, 0.0) | {name: float(value) for name, value in found.items()}
    return values | {"threads": float(psutil.Process(server.pid).num_threads())}


def judge(curve: list[tuple[float, float]]) -> list[str]:
    """What is wrong with the memory of the run: (seconds, MiB), rising in time."""
    reference = statistics.median([memory for passed, memory in curve if passed >= WARM_UP][:WINDOW])
    last = statistics.median([memory for _, memory in curve[-WINDOW:]])
    print(f"\nmemory: {reference:.1f} MiB after the first minute, {last:.1f} MiB at the end: {last / reference:.3f}x")
    return [f"memory has grown to {last / reference:.3f} times"] if last > GROWTH * reference else []


def _left(before: dict[str, float], after: dict[str, float]) -> list[str]:
    print("\n".join(f"{name:40} {before[name]:6.0f} before {after[name]:6.0f} after" for name in (*COUNTS, "threads")))
    return [
        f"{name}: {after[name]:.0f} instead of {before[name]:.0f}"
        for name in (*COUNTS, "threads")
        if after[name] > before[name]
    ]


if __name__ == "__main__":
    sys.exit(main())
