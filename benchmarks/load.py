"""The load generator's process: `python -m benchmarks.load` reads one JSON object from standard input, puts the load
on the server that it names, and writes one JSON object."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import backlog, chat, idle, machine, relay

LOADS = {"relay": relay.run, "chat": chat.run, "idle": idle.run, "backlog": backlog.run}


class LoadError(Exception):
    """The load generator itself broke; the text is what it said."""


def generate(load: str, spec: dict[str, Any], core: int | None) -> dict[str, Any]:
    """Runs one load in a process of its own, pinned to `core`, and returns what it measured."""
    document = json.dumps({"load": load, "core": core, **spec})
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=document,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    if process.returncode:
        raise LoadError(process.stderr[-3000:])
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def main() -> None:
    spec = json.load(sys.stdin)
    machine.allow_many_files()
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow server
    with machine.pinned(spec["core"]):
        json.dump(uvloop.run(LOADS[spec["load"]](spec)), sys.stdout)


if __name__ == "__main__":
    main()
