"""What a scenario hands on: its rows for the table, the load behind them, every single run, and what went wrong."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """What a figure is asked to reach: `at_most` or, if false, at least `value`."""

    value: float
    at_most: bool = True

    def met(self, figure: float) -> bool:
        return figure <= self.value if self.at_most else figure >= self.value


@dataclass(frozen=True)
class Row:
    """One line of the table. `figure` (median of `spread`, in `figure_unit`) is what the target is about."""

    what: str
    unit: str
    aldis: float | None = None
    peer: float | None = None
    spread: Sequence[float] = ()
    figure_unit: str = "×"
    target: Target | None = None

    @property
    def figure(self) -> float | None:
        return statistics.median(self.spread) if self.spread else None

    @property
    def met(self) -> bool | None:
        return None if self.target is None or self.figure is None else self.target.met(self.figure)


@dataclass
class Outcome:
    """One scenario. With `problems` it proves nothing: a message was lost, repeated, or a process died."""

    key: str
    title: str
    peer: str = ""
    """Who is measured beside Aldis."""
    rows: list[Row] = field(default_factory=list)
    loads: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def each(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One figure of every run."""
    return [float(run[name]) for run in runs]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """One ratio per pair of runs: what disturbed the machine at that moment disturbed both."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
