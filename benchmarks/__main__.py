"""`python -m benchmarks`: runs the scenarios, prints the tables, and writes what a full run has found."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, plot, report, servers
from benchmarks.bench import Bench
from benchmarks.results import Outcome
from benchmarks.scenarios import FAILURES, SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """0 when every run was valid, 1 when one was not. A missed target is a result, not a failure."""
    options = _options()
    machine.allow_many_files()
    command = shlex.split(options.aldis) if options.aldis else servers.aldis_command()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aldis-bench-", dir=options.work) as work:
        bench = Bench(Path(work), command, machine.choose_cores() if options.pin else None, say=_say)
        if options.quick:
            bench = dataclasses.replace(bench, rounds=1, seconds=1.5, warmup=0.5, scale=0.2)
        bench.rounds = options.rounds or bench.rounds
        run: dict[str, Any] = {"machine": machine.describe(command, Path(work)), "options": _shown(bench, options)}
        outcomes = [_outcome(key, bench) for key in options.only]
    run["minutes"] = (time.monotonic() - started) / 60
    _print(run, outcomes)
    out = options.out or (None if options.quick or set(options.only) != set(SCENARIOS) else FOLDER)
    if out is None:
        _say("Nothing written: only a full run goes into the documentation; use --out to keep this one.")
    else:
        _write(out, run, outcomes)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _outcome(key: str, bench: Bench) -> Outcome:
    _say(f"({key}) …")
    try:
        return SCENARIOS[key](bench)
    except FAILURES as error:
        return Outcome(key, "did not come to an end", problems=[f"{type(error).__name__}: {error}"])


def _print(run: dict[str, Any], outcomes: list[Outcome]) -> None:
    print("\n".join(["", *report.machine_lines(run)]))
    print(f"\n{report.as_text(report.results_table(outcomes))}")
    if any(outcome.loads for outcome in outcomes):
        print(f"\nServer and load generator, shares of one core:\n{report.as_text(report.load_table(outcomes))}")
    if len(parts := report.parts_table(outcomes)) > 1:
        print(f"\nMicroseconds of CPU per message, by process:\n{report.as_text(parts)}")
    print("\n".join(["", *report.noise_lines(outcomes), *report.problem_lines(outcomes)]))


def _write(out: Path, run: dict[str, Any], outcomes: list[Outcome]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(out / "results.json", run, outcomes)
    plot.draw(out / "results.png", outcomes, report.machine_lines(run)[0])
    if out == FOLDER:
        report.rewrite_page(PAGE, report.markdown(run, outcomes, f"{FOLDER.name}/results.png"))
        _say(f"Rewritten: {PAGE.relative_to(ROOT)}")
    _say(f"Written: {out / 'results.json'}, {out / 'results.png'}")


def _shown(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    names = ("rounds", "seconds", "warmup", "scale", "cores")
    return {name: getattr(bench, name) for name in names} | {"only": options.only, "quick": options.quick}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures Aldis beside mosquitto and aedes."
    )
    parser.add_argument("--only", type=_keys, default=list(SCENARIOS), help="scenarios to run, such as a,c")
    parser.add_argument("--quick", action="store_true", help="one short round: is everything in order?")
    parser.add_argument("--rounds", type=int, help="pairs of runs in each scenario (default 3)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let the system choose the cores")
    parser.add_argument("--out", type=Path, help="folder for results.json and results.png")
    parser.add_argument("--work", type=Path, help="folder for the databases: a real disk (default: the temporary one)")
    parser.add_argument("--aldis", help="the command to start Aldis (default: the one beside this Python)")
    return parser.parse_args()


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    unknown = [key for key in keys if key not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no scenario {', '.join(unknown)}; there are {','.join(SCENARIOS)}")
    return keys


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
