"""`python -m benchmarks.rest`: the REST API by itself. Its calls, the history behind it, and files.

Prints its tables; a full run writes them into the section *The REST API* of docs/benchmarks.md, too.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, report, rest_calls, rest_files, servers
from benchmarks.bench import Bench

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- rest: begin, rewritten by `python -m benchmarks.rest` -->"
END = "<!-- rest: end -->"

Table = list[list[str]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="once and small: is everything in order? Writes nothing")
    parser.add_argument("--work", type=Path, help="folder for databases and files: a real disk")
    parser.add_argument("--aldis", help="the command to start Aldis (default: the one beside this Python)")
    options = parser.parse_args()
    command = shlex.split(options.aldis) if options.aldis else servers.aldis_command()
    with tempfile.TemporaryDirectory(prefix="aldis-rest-", dir=options.work) as work:
        bench = Bench(Path(work), command, None, say=lambda text: print(text, file=sys.stderr, flush=True))
        text = measure(bench, quick=options.quick)
    print(text)
    if not options.quick:
        write(PAGE, text)
    return 0


def measure(bench: Bench, *, quick: bool) -> str:
    """Everything, as Markdown."""
    about = machine.describe(bench.command, bench.work)
    times, rounds, each, size = (20, 1, 200, 4) if quick else (200, 3, 400, 100)
    bench.say("calls …")
    calls = {back_end: rest_calls.usual_calls(bench, back_end, times) for back_end in rest_calls.BACK_ENDS}
    bench.say("history …")
    filled = {
        back_end: [rest_calls.filling(bench, back_end, each) for _ in range(rounds)]
        for back_end in rest_calls.BACK_ENDS
    }
    bench.say("files …")
    files = {
        storage: rest_files.transfers(bench, storage, size * rest_files.MIB, rounds) for storage in rest_files.STORAGES
    }
    lines = [
        f"- Run of {about['time']}; {about['cpu']}, {about['usable_cores']} cores; {about['system']}; "
        f"{about['python']}; SQLite {about['sqlite']}; MariaDB {about['mariadb']}; fsync of 4 KiB "
        f"{about['fsync_ms']} ms; load average at start {about['load_average_at_start'][0]}. Nothing is pinned.",
        "",
        *(
            "Calls, one after the other over one connection, nobody else there:",
            "",
            report.as_markdown(calls_table(calls)),
        ),
        *("", "The history:", "", report.as_markdown(history_table(filled))),
        *("", f"A file of {size} MiB, {rounds} times each:", "", report.as_markdown(files_table(files))),
    ]
    return "\n".join(lines)


def calls_table(calls: dict[str, list[dict[str, Any]]]) -> Table:
    names = [f"{name}, {what}" for name in calls for what in ("p50 ms", "p99 ms", "CPU µs")]
    table = [["call", *names]]
    for rows in zip(*calls.values(), strict=True):
        cells = [f"{row[figure]:{form}}" for row in rows for figure, form in _FORMS]
        table.append([rows[0]["call"], *cells])
    return table


_FORMS = (("p50_ms", ".2f"), ("p99_ms", ".2f"), ("cpu_us", ",.0f"))


def history_table(filled: dict[str, list[dict[str, Any]]]) -> Table:
    table = [["", "messages/s", "CPU of server and database per message, µs"]]
    for back_end, runs in filled.items():
        table.append([back_end, _spread(runs, "rate", ",.0f"), _spread(runs, "cpu_us", ".1f")])
    return table


def files_table(files: dict[str, list[dict[str, Any]]]) -> Table:
    table = [["", "MiB/s", "CPU of the server per MiB, ms", "more memory meanwhile, MiB"]]
    for storage, runs in files.items():
        for what in ("upload", "download"):
            mine = [run for run in runs if run["what"] == what]
            cells = [_spread(mine, name, ".1f") for name in ("mib_per_s", "cpu_ms_per_mib", "memory_mib")]
            table.append([f"{storage}, {what}", *cells])
    return table


def _spread(runs: Sequence[dict[str, Any]], name: str, form: str) -> str:
    """The median, and the lowest and highest where there are several."""
    values = [float(run[name]) for run in runs]
    middle = f"{statistics.median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def write(page: Path, text: str) -> None:
    """Replaces what stands between the markers."""
    old = page.read_text(encoding="utf-8")
    begin, end = old.index(BEGIN) + len(BEGIN), old.index(END)
    page.write_text(f"{old[:begin]}\n\n{text}\n\n{old[end:]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
