"""Starts and stops the servers under test, each as a process of its own on free ports of loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine

HOST = "127.0.0.1"

MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
user {user}
persistence false
max_inflight_messages 1000
max_queued_messages 100000
connection_messages false
log_dest none
sys_interval 0
set_tcp_nodelay {nodelay}
"""
"""Its defaults but for the limits. No log and no $SYS figures: only the relay is measured."""


_given: set[int] = set()


class ServerError(Exception):
    """A server did not start, or ended by itself; the text carries the end of its log."""


@dataclass(frozen=True)
class Server:
    """What is under test: processes by name, the MQTT port of each node, and an HTTP port (0 if there is none).

    A single server is a cluster of one node. Databases that belong to it are processes like the others.
    """

    name: str
    processes: Mapping[str, int]
    ports: Sequence[int]
    http: int

    @property
    def pid(self) -> int:
        """Of its only process."""
        (pid,) = self.processes.values()
        return pid

    @property
    def port(self) -> int:
        """Of its only node."""
        (port,) = self.ports
        return port


def aldis_command() -> list[str]:
    """The `aldis` of the environment that runs the benchmark, else the first on the path."""
    beside = Path(sys.executable).parent / "aldis"
    found = str(beside) if beside.exists() else shutil.which("aldis")
    if found is None:
        raise ServerError("there is no `aldis` command: install the project, or name it with --aldis")
    return [found]


def program(name: str, package: str) -> str:
    """Where the program is; Debian puts servers outside the path of users. Raises `ServerError`."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise ServerError(f"{name} is not installed (Debian: apt-get install --no-install-recommends {package})")
    return found


@contextmanager
def mosquitto(folder: Path, core: int | None, *, nodelay: bool = False) -> Iterator[Server]:
    """mosquitto in memory only, with windows and queues far larger than the load needs.

    `nodelay` off is its default: the system joins its small writes, which saves it CPU and costs latency. On is what
    asyncio, and so Aldis, does.
    """
    command = program("mosquitto", "mosquitto")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    values = {"port": port, "host": HOST, "user": getpass.getuser(), "nodelay": str(nodelay).lower()}
    config.write_text(MOSQUITTO.format(**values), encoding="utf-8")
    with running([command, "-c", str(config)], folder / "mosquitto.log", core, lambda: listens(port)) as pid:
        yield Server("mosquitto", {"mosquitto": pid}, [port], 0)


@contextmanager
def aldis(
    command: list[str],
    profile: str,
    folder: Path,
    core: int | None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`aldis up` with a profile and a data folder, which may hold the database of an earlier run."""
    port, ws, http = free_port(), free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["up", "--config", profile, "--data", str(folder)]
    arguments += ["--mqtt", f"{HOST}:{port}", "--ws", f"{HOST}:{ws}", "--http", f"{HOST}:{http}"]
    ready = (lambda: listens(port)) if profile == "lab" else (lambda: listens(port) and listens(http))
    with running([*command, *arguments], folder / "aldis.log", core, ready, variables) as pid:
        yield Server("aldis", {"aldis": pid}, [port], http)


@contextmanager
def running(
    command: list[str],
    log: Path,
    core: int | None,
    ready: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """A process that is ready, and is ended at the end. Raises `ServerError` with the end of its log if it ends by
    itself. `variables` come on top of our own environment."""
    environment = {**os.environ, **(variables or {})}
    with log.open("wb") as sink, machine.pinned(core):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment)
    try:
        _wait_until(ready, process, log)
        yield process.pid
        if process.poll() is not None:
            raise ServerError(f"{command[0]} ended during the run with {process.returncode}:\n{_tail(log)}")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None:
            raise ServerError(f"{process.args!r} ended at start with {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"{process.args!r} does not listen after 30 s:\n{_tail(log)}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


def free_port() -> int:
    """A port that nobody has, and that was not given out before: the system may offer the same one again at once."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
