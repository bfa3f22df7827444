"""Keeps what a run of pytest has counted, for whoever sums up several: `-p tests.tally --tally=FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

COUNTED = ("failed", "passed", "skipped", "xfailed", "xpassed", "warning", "error")
"""In the order in which pytest says it. What was deselected is left out: the other run has it."""


class Tally(NamedTuple):
    counts: dict[str, int]
    failed: list[str]
    """Lines that name them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", type=Path)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    stats = terminalreporter.stats
    counts = {kind: len(stats.get("warnings" if kind == "warning" else kind, ())) for kind in COUNTED}
    failed = [f"{kind.upper()} {one.nodeid}" for kind in ("failed", "error") for one in stats.get(kind, ())]
    config.getoption("--tally").write_text(json.dumps(Tally(counts, failed)._asdict()))
