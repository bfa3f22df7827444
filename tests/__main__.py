"""All tests in two passes: side by side, a worker for each core, then those that need the machine for themselves.

    python -m tests [what pytest takes]        the number of workers: WORKERS=4 python -m tests

Each worker starts servers of its own. A failure in either pass is one of the whole: the last line counts both, in the
form of pytest's own, and the exit code is that of the first pass that did not succeed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.tally import COUNTED, Tally

NOTHING_RAN, INTERRUPTED = 5, 2
PASSES = {"side by side": ("--alone=without", "--dist=loadfile", "--no-loadscope-reorder"), "alone": ("--alone=only",)}
"""`loadfile`: what a file has in common is made once. Its order is the one of tests/conftest.py."""
ALWAYS = ("-p", "tests.tally", "--continue-on-collection-errors")
"""A file that cannot be read is a failure, and no reason to leave out all the others."""


def workers() -> int:
    """WORKERS, or the cores that this process may use."""
    return int(os.environ.get("WORKERS") or len(os.sched_getaffinity(0)))


def run(name: str, arguments: Sequence[str]) -> tuple[int, Tally]:
    options = [*PASSES[name], *([f"--numprocesses={workers()}"] if name == "side by side" else [])]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "tally")
        command = [sys.executable, "-m", "pytest", *ALWAYS, f"--tally={kept}", *options, *arguments]
        code = subprocess.run(command, check=False).returncode
        if kept.exists():
            return code, Tally(**json.loads(kept.read_text()))
        return code or 3, Tally({"error": 1}, [f"pytest ended with {code} in the pass {name!r}"])


def closing(counts: Counter[str], seconds: float) -> str:
    """As pytest would have said it."""
    said = []
    for kind in COUNTED:
        if number := counts[kind]:
            plural = "s" if kind in ("error", "warning") and number > 1 else ""
            said.append(f"{number} {kind}{plural}")
    clock = f" ({int(seconds) // 3600}:{int(seconds) % 3600 // 60:02}:{int(seconds) % 60:02})" if seconds >= 60 else ""
    return f" {', '.join(said) or 'no tests ran'} in {seconds:.2f}s{clock} ".center(80, "=")


def main(arguments: Sequence[str]) -> int:
    begun = time.monotonic()
    codes: list[int] = []
    counts: Counter[str] = Counter()
    failed: list[str] = []
    for name in PASSES:
        print(f"tests, {name}:", flush=True)
        code, tally = run(name, arguments)
        codes.append(code)
        counts.update(tally.counts)
        failed += tally.failed
        if code == INTERRUPTED:
            break
    print("both passes:", *failed, sep="\n")
    print(closing(counts, time.monotonic() - begun), flush=True)
    if set(codes) == {NOTHING_RAN}:
        return NOTHING_RAN
    return next((code for code in codes if code not in (0, NOTHING_RAN)), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
