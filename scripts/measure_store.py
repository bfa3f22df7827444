"""What a group commit and a backlog read of the SQLite store cost, with an idle and with a busy event loop.

    python scripts/measure_store.py [folder]

The busy loop carries bytes between socket pairs with about 20 us of Python per read, as fast as it can: that is the
loop of a node under full load, and the writer and reader threads have to get the interpreter lock from it. The folder
(default: a temporary one) decides which disk is measured. CPU is that of the writer's thread alone.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from aldis.bridge import migrate, sqlite_commit
from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import Batch, Committed, CursorMove, Delivered, NewMessage

BATCH, PAIRS, BATCHES, WARM_UP, PAGE = 500, 50, 100, 10, 200
CONTENT = b'{"id":"x","body":"' + b"z" * 100 + b'"}'


class Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class derives from nothing

    def data_received(self, data: bytes) -> None:
        for _ in range(600):
            pass
        self._transport.write(data)


async def keep_busy() -> list[asyncio.Transport]:
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(8):
        for end in socket.socketpair():
            end.setblocking(False)
            transport, _protocol = await loop.create_connection(Busy, sock=end)
            transports.append(transport)
        transports[-1].write(b"x" * 100)
    return transports


def next_batch(number: int, last: Committed | None, epochs: list[int]) -> Batch:
    """500 messages of 50 pairs, and what 50 receivers have to say about the batch before. The ids rise, as UUIDv7 and
    counters do; wholly random ones cost half as much again, because each one lands on another page of its index."""
    messages = [
        NewMessage(
            f"alice{i % PAIRS}", "phone", f"bob{i % PAIRS}", CONTENT, number, id=f'"{number:06x}{secrets.token_hex(6)}"'
        )
        for i in range(BATCH)
    ]
    if last is None:
        return Batch(messages)
    taken = last.stored[-PAIRS:]
    moves = [CursorMove(f"bob{i}", "phone", epochs[i], stored.n) for i, stored in enumerate(taken)]
    delivered = [Delivered(f"bob{i}", f"alice{i}", stored.mid) for i, stored in enumerate(taken)]
    return Batch(messages, moves, delivered)


async def measure(path: Path, *, busy: bool) -> None:
    store = SqliteStore(path)
    await store.open()
    cpu: list[float] = []
    wall: list[float] = []
    commit = sqlite_commit.Committer.commit

    def timed(self: sqlite_commit.Committer, *arguments: object) -> Committed:
        began = time.thread_time()
        committed = commit(self, *arguments)  # type: ignore[arg-type]
        cpu.append((time.thread_time() - began) / BATCH * 1e6)
        return committed

    sqlite_commit.Committer.commit = timed  # type: ignore[method-assign, assignment]
    claims = [await store.claim(f"bob{i}", "phone", now=1_000, limit=5) for i in range(PAIRS)]
    transports = await keep_busy() if busy else []
    last: Committed | None = None
    for number in range(BATCHES):
        batch = next_batch(number, last, [claim.epoch for claim in claims])
        began = time.perf_counter()
        last = await store.commit(batch)
        wall.append((time.perf_counter() - began) * 1e3)
        if last.fenced or len(last.receipts) != len(batch.delivered):
            raise SystemExit("the store did not do what was measured")
    sqlite_commit.Committer.commit = commit  # type: ignore[method-assign]
    began, began_cpu = time.perf_counter(), time.process_time()
    read = sum(await asyncio.gather(*[drain(store, f"bob{i}") for i in range(PAIRS)]))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    for transport in transports:
        transport.close()
    await store.close()
    print(
        f"{'busy' if busy else 'idle'} loop: commit of {BATCH} messages {describe(wall[WARM_UP:])} ms, "
        f"writer {describe(cpu[WARM_UP:])} us of CPU per message; items {read / seconds:,.0f}/s"
        + ("" if busy else f", {cpu_seconds / read * 1e6:.1f} us of CPU each")
    )


async def drain(store: SqliteStore, user: str) -> int:
    read = 0
    while page := await store.items(user, after=read, limit=PAGE):
        read = page[-1].n
    return read


def describe(values: list[float]) -> str:
    tenths = statistics.quantiles(values, n=10)
    return f"{tenths[4]:.1f} (10 %: {tenths[0]:.1f}, 90 %: {tenths[8]:.1f})"


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for round_ in range(2):
            for busy in (False, True):
                path = Path(folder) / f"{round_}-{busy}.db"
                migrate.upgrade(f"sqlite:///{path}")
                uvloop.run(measure(path, busy=busy))


if __name__ == "__main__":
    main()
