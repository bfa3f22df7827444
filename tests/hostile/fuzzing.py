"""The names of the targets, and the inputs that are kept.

`corpus/{target}.txt` has a line for each input, its name and its bytes in hexadecimal: inputs that together lead to
every place that a fuzzer has found, and every input that ever found a fault, named by what it found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hostile import chats, nodes, targets

CORPUS = Path(__file__).parent / "corpus"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": targets.codec,
    "connection": nodes.connection,
    "envelope": targets.envelope,
    "inbox": chats.inbox,
    "proxy": targets.proxy,
    "topics": targets.topics,
    "websocket": nodes.websocket,
}


def inputs(target: str) -> dict[str, bytes]:
    lines = (CORPUS / f"{target}.txt").read_text().splitlines()
    return {name: bytes.fromhex(wire) for name, _, wire in (line.partition(" ") for line in lines)}
