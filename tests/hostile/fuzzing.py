"""The names of the targets, and where their inputs are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hostile import nodes, targets

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: inputs that lead far, and every input that ever found a fault, named by what it found."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": targets.codec,
    "connection": nodes.connection,
    "envelope": targets.envelope,
    "proxy": targets.proxy,
    "topics": targets.topics,
    "websocket": nodes.websocket,
}


def inputs(target: str) -> list[Path]:
    return sorted(path for path in (CORPUS / target).glob("*") if path.is_file())
