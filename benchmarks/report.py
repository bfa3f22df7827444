"""Tables for the terminal and for the page, and the JSON beside them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.meter import percentile
from benchmarks.results import Outcome, Row, median

BEGIN = "<!-- results: begin, rewritten by `python -m benchmarks` -->"
END = "<!-- results: end -->"

NOISE = 0.15
"""Share of a core that other processes may take before a warning stands beside the figures."""

Table = list[list[str]]


def results_table(outcomes: Sequence[Outcome]) -> Table:
    """One line per row; the target stands beside what it is about."""
    table = [["", "measured", "unit", "Aldis", "peer", "result (lowest to highest)", "target", ""]]
    for outcome in outcomes:
        verdict = "INVALID" if outcome.problems else ""
        table.append([f"({outcome.key})", outcome.title, "", "", outcome.peer, "", "", verdict])
        for row in outcome.rows:
            verdict = {None: "", True: "met", False: "missed"}[row.met]
            cells = [row.what, row.unit, _number(row.aldis), _number(row.peer), _result(row)]
            table.append(["", *cells, _target(row), verdict])
    return table


def load_table(outcomes: Sequence[Outcome]) -> Table:
    """What server and load generator did in each scenario: medians over the rounds, shares of one core."""
    table = [["", "load", "messages/s", "server", "generator", "generator µs/message", "everything else"]]
    for outcome in outcomes:
        for name, runs in outcome.loads.items():
            cells = [_number(median([run["rate"] for run in runs]))]
            cells += [_share(runs, f"{who}_utilisation") for who in ("server", "generator")]
            cells.append(_number(median([run["generator_cpu_us"] for run in runs])))
            table.append([f"({outcome.key})", name, *cells, _share(runs, "other_utilisation")])
    return table


def parts_table(outcomes: Sequence[Outcome]) -> Table:
    """Who spent the CPU of a message where several processes share it: medians over the rounds, in microseconds."""
    runs = [
        (outcome.key, name, runs)
        for outcome in outcomes
        for name, runs in outcome.loads.items()
        if len(runs[0]["parts_us"]) > 1
    ]
    parts = {part for *_, found in runs for part in found[0]["parts_us"]}
    names = sorted(parts, key=lambda part: (not part.startswith("node"), part))
    table = [["", "load", "all", *names]]
    for key, name, found in runs:
        cells = [
            _number(median([run["parts_us"].get(part) for run in found])) if part in found[0]["parts_us"] else ""
            for part in names
        ]
        table.append([f"({key})", name, _number(median([run["cpu_us"] for run in found])), *cells])
    return table


def as_text(table: Table) -> str:
    """Columns padded for a terminal; numbers to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    # a scenario's title runs across the columns after it
    widths[1] = max(len(line[1]) for line in table if line[2])
    lines = []
    for line in table:
        cells = [cell.rjust(w) if _is_number(cell) else cell.ljust(w) for cell, w in zip(line, widths, strict=True)]
        lines.append("  ".join(cells).rstrip() if line[2] else _title(line))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    head, *rest = table
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in rest:
        title = not line[2]
        cells = [f"**{cell}**" if cell and title else cell for cell in line]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine_lines(run: dict[str, Any]) -> list[str]:
    """Where and with what it ran, as short sentences."""
    machine, options = run["machine"], run["options"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    cores = "not pinned"
    if options["cores"]:
        cores = (
            f"a single server pinned to core {options['cores'][0]}, its load generator to core {options['cores'][1]}"
        )
    lines = [
        f"Run of {machine['time']}, {run['minutes']:.1f} minutes; {options['rounds']} rounds of "
        f"{options['seconds']:g} s after {options['warmup']:g} s of warm-up; {cores}.",
        f"{machine['cpu']}, {machine['usable_cores']} cores, {machine['memory_gib']} GiB; {machine['distribution']}, "
        f"{machine['system']}; load average at start {machine['load_average_at_start'][0]}.",
        f"{machine['python']}; {packages}; SQLite {machine['sqlite']}; mosquitto {machine['mosquitto']}; MariaDB "
        f"{machine['mariadb']}; Redis {machine['redis']}; Node.js {machine['node']} with {peers}.",
        f"Databases on {machine['database_filesystem']}; write of 4 KiB with fsync: {machine['fsync_ms']} ms.",
    ]
    if machine["aldis_variables"]:
        lines.append("Settings changed by variables: " + ", ".join(map("=".join, machine["aldis_variables"].items())))
    return lines


def problem_lines(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"INVALID ({outcome.key}): {problem}" for outcome in outcomes for problem in outcome.problems]


def noise_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Warns of scenarios during which other processes were busy: their ratios may hold, their times do not."""
    lines = []
    for outcome in outcomes:
        others = [run["other_utilisation"] for runs in outcome.loads.values() for run in runs]
        if others and max(others) > NOISE:
            took = f"up to {max(others):.0%} of a core"
            lines.append(f"NOISY ({outcome.key}): other processes took {took}; measure again on a quiet machine")
    return lines


def write_json(path: Path, run: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Everything, for machines: the run, the rows with their figures and verdicts, and every single measurement."""
    scenarios = {}
    for outcome in outcomes:
        rows = [dataclasses.asdict(row) | {"figure": row.figure, "met": row.met} for row in outcome.rows]
        scenarios[outcome.key] = {
            "title": outcome.title,
            "peer": outcome.peer,
            "valid": not outcome.problems,
            "problems": outcome.problems,
            "rows": rows,
            "runs": outcome.runs,
        }
    document = _without_nan({"run": run, "scenarios": scenarios})
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def markdown(run: dict[str, Any], outcomes: Sequence[Outcome], plot: str) -> str:
    """The part of the page that each full run replaces."""
    parts = [f"- {line}" for line in machine_lines(run)]
    parts += ["", as_markdown(results_table(outcomes)), ""]
    parts += [f"- {line}" for line in problem_lines(outcomes) + noise_lines(outcomes)] + [""]
    parts += [f"![The figures as bars]({plot})", ""]
    parts += ["What server and load generator did meanwhile, as shares of one core:", ""]
    parts += [as_markdown(load_table(outcomes)), ""]
    parts += ["Microseconds of CPU per message, by process:", ""]
    return "\n".join([*parts, as_markdown(parts_table(outcomes))])


def rewrite_page(page: Path, text: str) -> None:
    """Replaces what stands between the markers."""
    old = page.read_text(encoding="utf-8")
    begin, end = old.index(BEGIN) + len(BEGIN), old.index(END)
    page.write_text(f"{old[:begin]}\n\n{text}\n\n{old[end:]}", encoding="utf-8")


def _title(line: Sequence[str]) -> str:
    beside = [f"(peer: {line[4]})"] if line[4:] and line[4] else []
    return "  ".join([*line[:2], *beside, line[-1]]).rstrip()


def _result(row: Row) -> str:
    if row.figure is None:
        return ""
    spread = f" ({_number(min(row.spread))} to {_number(max(row.spread))})" if len(row.spread) > 1 else ""
    return f"{_number(row.figure)} {row.figure_unit}{spread}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'≤' if row.target.at_most else '≥'} {_number(row.target.value)} {row.figure_unit}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if math.isnan(value):
        return "–"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.replace(",", "").replace(".", "").replace("%", "").strip().isdigit()


def _share(runs: Sequence[dict[str, Any]], name: str) -> str:
    return f"{percentile([run[name] for run in runs], 0.5):.0%}"


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: a figure that there is not becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
