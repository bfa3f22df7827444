"""The figures as bars, with the targets as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.results import Outcome, Row

ALDIS, OTHER, TARGET = "#d9822b", "#999999", "#444444"
PEERS = {"mosquitto": "#3c6e91", "aedes + Redis": "#5b8c5a"}


def draw(path: Path, outcomes: Sequence[Outcome], caption: str) -> None:
    """Writes a PNG with one panel per unit. Invalid scenarios are left out: they prove nothing."""
    rows = [
        (outcome, row) for outcome in outcomes if not outcome.problems for row in outcome.rows if row.aldis is not None
    ]
    panels = [
        ("CPU per message", "µs"),
        ("Messages per second", "1/s"),
        ("Time from publish to `sent` or to arrival, logarithmic", "ms"),
        ("Memory per idle connection", "KiB"),
    ]
    panels = [panel for panel in panels if any(row.unit == panel[1] for _, row in rows)]
    if not panels:
        return
    bars = [1 + sum(row.unit == unit for _, row in rows) for _, unit in panels]
    # not pyplot: no display, no state
    figure = Figure(figsize=(10, 1.2 + 0.36 * sum(bars)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=bars)
    for axis, (title, unit) in zip(axes[:, 0], panels, strict=True):
        if unit == "ms":
            axis.set_xscale("log")  # from a receipt in a millisecond to a queue of half a second
        _panel(axis, f"{title} ({unit})", [(outcome, row) for outcome, row in rows if row.unit == unit])
    figure.suptitle("Aldis beside mosquitto and aedes + Redis", fontsize=11)
    figure.legend(handles=_legend(), fontsize=8, loc="upper right", frameon=False)
    figure.supxlabel(caption, fontsize=7, color="#666666")
    figure.savefig(path, dpi=110)


def _panel(axis: Axes, title: str, rows: Sequence[tuple[Outcome, Row]]) -> None:
    for place, (outcome, row) in enumerate(rows):
        both = row.peer is not None
        _bar(axis, place - (0.2 if both else 0), row.aldis, ALDIS, 0.36)
        if both:
            _bar(axis, place + 0.2, row.peer, PEERS.get(outcome.peer, OTHER), 0.36)
        limit = _limit(row)
        if limit is not None:
            axis.plot([limit, limit], [place - 0.45, place + 0.45], color=TARGET, linestyle="--", linewidth=1.2)
    axis.set_yticks(range(len(rows)), [f"({outcome.key}) {row.what}" for outcome, row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.12)


def _legend() -> list[Artist]:
    bars: list[Artist] = [Patch(color=colour, label=name) for name, colour in {"Aldis": ALDIS, **PEERS}.items()]
    return [*bars, Line2D([], [], color=TARGET, linestyle="--", linewidth=1.2, label="target")]


def _bar(axis: Axes, place: float, value: float | None, colour: str, height: float) -> None:
    if value is None:
        return
    axis.barh(place, value, height=height, color=colour)
    text = f" {value:,.0f}" if value >= 100 else f" {value:.1f}"
    axis.text(value, place, text, va="center", fontsize=7)


def _limit(row: Row) -> float | None:
    """Where the target lies on the axis: a ratio is a multiple of the peer's bar."""
    if row.target is None:
        return None
    if row.figure_unit == "×":
        return None if row.peer is None else row.target.value * row.peer
    return row.target.value
