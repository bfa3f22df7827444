"""Programs that a cluster on this machine is made of: started, watched, hurt and stopped."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE = 30.0
"""Seconds that anything here may take to start or to stop."""

_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


class DidNotStart(Exception):
    """A program is missing, ended at once or is not ready in time; the text says which, and what it said last."""


def program(name: str) -> str:
    """Its path. Raises `DidNotStart`."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise DidNotStart(f"{name} is missing: scripts/test-servers installs it from Debian's packages")
    return found


_PORTS = range(16_384, 32_768)
"""Below those that the system gives to whoever connects to somewhere (ip(7), `ip_local_port_range`): a program that is
started again finds its port as it left it."""
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 for TCP that nobody has now. It is ours until this process ends: whoever else asks this way
    gets another one, also while nobody listens there. What holds it is the port of UDP with the same number."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        sign = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sign.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            sign.close()
        else:
            _reserved.append(sign)
            return port


class Process:
    """One program with a log file of its own, which every start adds to. It has a session of its own, too: Ctrl-C on a
    terminal reaches us, and we stop it in its turn."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.meant_to_run = False

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Begins it and waits for nothing."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.meant_to_run = True

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Raises `DidNotStart`; then it is not left running."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if self.died:
                raise DidNotStart(f"{self.name} {self.end}; its log, {self.log}, ends with\n{self.last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise DidNotStart(f"{self.name} is not ready after {PATIENCE:g} s; see {self.log}\n{self.last_words()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def died(self) -> bool:
        """It has ended, and nobody here has told it to."""
        return self.meant_to_run and not self.alive

    @property
    def end(self) -> str:
        """In words."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return "has not ended"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def last_words(self, lines: int = 8) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def begin_to_stop(self) -> None:
        """SIGTERM, also to one that stands still; see `stop`. Only once: a second one means "at once"."""
        if self.meant_to_run:
            self._send(signal.SIGTERM)
            self._send(signal.SIGCONT)
        self.meant_to_run = False

    def stop(self) -> int | None:
        """Its exit code, None if it was not there. One that takes longer than `PATIENCE` is killed."""
        self.begin_to_stop()
        if self.process is None:
            return None
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def kill(self) -> None:
        """SIGKILL: no last words."""
        self.meant_to_run = False
        if self.process is not None:
            self._send(signal.SIGKILL)
            self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it stands still, its connections stay open."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.alive and self.process is not None:
            self.process.send_signal(number)
