"""A Lua script, and the name under which Redis knows it."""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple


class Script(NamedTuple):
    source: str
    sha: str


def script(*parts: str) -> Script:
    """The parts, one after the other."""
    source = "".join(parts)
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())
