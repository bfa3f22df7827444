"""The load: a process of its own that plays a cast of devices and writes the history.

`python -m tests.faults.generator STAGE` reads orders from standard input, one JSON object a line, and answers each with
one line: {"do": "publish" | "hush" | "turn" | "stall" | "join" | "leave" | "status" | "end", …}.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.actor import Actor
from tests.faults.cast import Habits, Stage, password
from tests.faults.history import Log

PATIENCE = 20.0


class Generator:
    """The process's side: all actors, and the orders."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._log = Log(Path(stage.log))
        self._numbers = itertools.count(1)
        self._publishing = False
        self._actors = [self._actor(habits) for habits in stage.cast.devices]
        for actor in self._actors:
            actor.start()

    def _actor(self, habits: Habits) -> Actor:
        stage = self._stage
        return Actor(habits, password(stage, habits), stage.nodes, self._log, self._numbers, stage.keep_alive)

    def _find(self, order: dict[str, Any]) -> list[Actor]:
        return [actor for actor in self._actors if actor.name == f"{order['user']}/{order['device']}"]

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "publish" | "hush" as what:
                for actor in self._actors:
                    actor.publishing.set() if what == "publish" else actor.publishing.clear()
            case "turn":
                self._log.turn(Path(order["log"]))
            case "stall":
                for actor in self._find(order):
                    actor.stalled_until = time.monotonic() + order["seconds"]
            case "join":  # one more client for a device that has one
                actor = self._actor(msgspec.structs.replace(self._find(order)[0].habits, seed=order["seed"]))
                self._actors.append(actor)
                actor.start()
            case "leave":  # the youngest client of a device, for good
                for actor in self._find(order)[-1:]:
                    actor.over.set()
                    actor.join(PATIENCE)
                    self._actors.remove(actor)
            case "end":
                for actor in self._actors:
                    actor.over.set()
                for actor in self._actors:
                    actor.join(PATIENCE)
        return self.status()

    def status(self) -> dict[str, Any]:
        """`open`: devices that still have something to get rid of; `away`: those without a subscription."""
        return {
            "open": {actor.name: actor.waiting for actor in self._actors if actor.waiting},
            "away": [actor.name for actor in self._actors if not actor.subscribed],
            "failures": [actor.failure for actor in self._actors if actor.failure],
        }


class Load:
    """The runner's side of the process."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        path = folder / "stage.json"
        path.write_bytes(msgspec.json.encode(stage))
        self._errors = (folder / "generator.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.generator", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lock = threading.Lock()
        self.status()

    def order(self, do: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        with self._lock:
            self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        assert line, "the generator has died: see generator.log"
        answer: dict[str, Any] = json.loads(line)
        assert not answer["failures"], answer["failures"]
        return answer

    def status(self) -> dict[str, Any]:
        return self.order("status")

    def end(self) -> None:
        if self.process.poll() is None:
            self.order("end")
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(PATIENCE)
        self._errors.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._errors.close()


def main() -> None:
    generator = Generator(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Stage))
    for line in sys.stdin:
        print(json.dumps(generator.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
