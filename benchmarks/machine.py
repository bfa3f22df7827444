"""What the operating system knows: CPU time of a server, its memory, how busy each core was, and where we run."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

KIB = 1024


def cpu_seconds(pid: int) -> float:
    """CPU seconds, user and system, that a process, its threads (ended ones too) and its children have used.

    Read from the process CPU clocks of the kernel, in nanoseconds: /proc/<pid>/stat counts in steps of 10 ms.
    """
    return sum(_clock(process.pid) for process in _tree(pid))


def memory_bytes(pid: int) -> dict[str, int]:
    """Resident (`rss`), proportional (`pss`) and `private` bytes of a process and its children, from smaps_rollup."""
    total = {"rss": 0, "pss": 0, "private": 0}
    for process in _tree(pid):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, amount = line.split()[:2]
            if name in ("Rss:", "Pss:"):
                total[name[:-1].lower()] += int(amount) * KIB
            elif name in ("Private_Clean:", "Private_Dirty:"):
                total["private"] += int(amount) * KIB
    return total


def busy_seconds() -> list[float]:
    """Seconds that each core has spent on anything at all since it started, time stolen by the host included."""
    return [sum(times) - times.idle - getattr(times, "iowait", 0.0) for times in psutil.cpu_times(percpu=True)]


def choose_cores() -> tuple[int, int] | None:
    """A core for the server and one for the load generator; None where pinning is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keeps this thread on one core meanwhile, and every process that it starts for all its life."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files() -> None:
    """Thousands of sockets need as many file descriptors; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def describe(aldis: list[str], work: Path) -> dict[str, Any]:
    """Everything about the machine and the versions that a reader needs to judge the figures."""
    names = ("aldis", "amqtt", "uvloop", "msgspec", "sqlalchemy", "aiosqlite", "aiomysql", "pymysql", "redis", "psutil")
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / KIB**3, 1),
        "load_average_at_start": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: _version(name) for name in names},
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": mosquitto_version(),
        "mariadb": _answer("mariadbd"),
        "redis": _answer("redis-server"),
        "node": _answer("node"),
        "peers": _peers(),
        "aldis_command": [Path(aldis[0]).name, *aldis[1:]],
        "aldis_variables": {key: value for key, value in os.environ.items() if key.startswith("ALDIS_")},
        "database_filesystem": _filesystem(work),
        "fsync_ms": round(_fsync_milliseconds(work), 3),
    }


def mosquitto_version() -> str:
    path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        return "not installed"
    # `-h` prints the version and leaves with 3: there is no `--version`
    first = subprocess.run([path, "-h"], capture_output=True, text=True, check=False).stdout.splitlines()
    return first[0].removeprefix("mosquitto version ") if first else "unknown"


def _answer(program: str) -> str:
    """What a program says of its version."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        return "not installed"
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+[.\d]*(-MariaDB)?", text)
    return found[0] if found else "unknown"


def _peers() -> dict[str, str]:
    """What the cluster beside ours is made of, as its lock names it."""
    document = json.loads((Path(__file__).parent / "peers" / "package.json").read_text(encoding="utf-8"))
    return {str(name): str(exact) for name, exact in document["dependencies"].items()}


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _clock(pid: int) -> float:
    # The id of another process's CPU clock, as clock_getcpuclockid(3) computes it on Linux: CPUCLOCK_SCHED is 2.
    return time.clock_gettime((~pid << 3) | 2)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _filesystem(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _fsync_milliseconds(folder: Path) -> float:
    """Median milliseconds of writing 4 KiB and fsync: what the durable scenarios stand on."""
    durations = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - start)
    return statistics.median(durations) * 1000
