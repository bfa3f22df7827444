"""What a group commit and a backlog read of the MySQL store cost, on a MariaDB that this script starts.

    python -m scripts.measure_mysql

The load is that of `measure_store.py`: 500 messages of 50 pairs to a batch, and what the receivers have to say about
the batch before. CPU is that of this process, and of mariadbd, its threads that write to the disk later included.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

from aldis.bridge import mysql_migrate
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import MySqlServer
from aldis.broker.ports import Committed
from scripts.backends import DATABASE, MariaDb, password_in
from scripts.measure_store import BATCH, BATCHES, PAGE, PAIRS, WARM_UP, describe, next_batch


def used(process: psutil.Process) -> float:
    """Seconds of CPU."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(server: MySqlServer, mariadbd: psutil.Process) -> None:
    store = MySqlStore(server)
    await store.open()
    claims = [await store.claim(f"bob{i}", "phone", now=1_000, limit=5) for i in range(PAIRS)]
    wall: list[float] = []
    cpu: list[float] = []
    last: Committed | None = None
    theirs = used(mariadbd)
    for number in range(BATCHES):
        batch = next_batch(number, last, [claim.epoch for claim in claims])
        began, began_cpu = time.perf_counter(), time.process_time()
        last = await store.commit(batch)
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - began_cpu) / BATCH * 1e6)
        if last.fenced or len(last.receipts) != len(batch.delivered):
            raise SystemExit("the store did not do what was measured")
    theirs = (used(mariadbd) - theirs) / (BATCH * BATCHES) * 1e6
    print(
        f"commit of {BATCH} messages {describe(wall[WARM_UP:])} ms, {describe(cpu[WARM_UP:])} us of CPU per message, "
        f"{theirs:.1f} us in mariadbd"
    )
    began, began_cpu, theirs = time.perf_counter(), time.process_time(), used(mariadbd)
    read = sum(await asyncio.gather(*[drain(store, f"bob{i}") for i in range(PAIRS)]))
    seconds, ours = time.perf_counter() - began, time.process_time() - began_cpu
    print(
        f"items {read / seconds:,.0f}/s, {ours / read * 1e6:.1f} us of CPU each here, "
        f"{(used(mariadbd) - theirs) / read * 1e6:.1f} us in mariadbd"
    )
    await store.close()


async def drain(store: MySqlStore, user: str) -> int:
    read = 0
    while page := await store.items(user, after=read, limit=PAGE):
        read = page[-1].n
    return read


async def measure_anew(mariadb: MariaDb) -> None:
    """With empty tables."""
    mariadb.ask(f"DROP DATABASE {DATABASE}")
    mariadb.ask(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
    server = MySqlServer(mariadb.url(), password=password_in(mariadb.password_file))
    await mysql_migrate.upgrade(server)
    await measure(server, psutil.Process(mariadb.pid))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aldis-measure-") as folder:
        mariadb = MariaDb(Path(folder), Path(folder) / "log")
        mariadb.start()
        try:
            for _ in range(3):
                uvloop.run(measure_anew(mariadb))
        finally:
            mariadb.stop()


if __name__ == "__main__":
    main()
