"""Values as SQL text, in bytes. Rows are formatted here because the driver's own way costs as much as the database.

Nothing is ever escaped: what could end a literal is sent as hexadecimal digits. So it does not matter whether the
server takes a backslash for an escape (`NO_BACKSLASH_ESCAPES`), and there is no escaping to get wrong. They are
for sessions that take literals as bytes, whatever they hold (`mysql_server.LITERALS_AS_BYTES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PORTION = 500
"""Keys in one IN. From a thousand on MariaDB makes a temporary table of them."""

LARGEST = 2**63 - 1
"""Of a BIGINT."""

GROWTH = 2
"""A literal is at most this many times as long as its value: two digits for a byte."""


def blob(value: bytes) -> bytes:
    if b"'" in value or b"\\" in value or b"\0" in value:
        return b"x'%b'" % value.hex().encode()
    return b"'%b'" % value


def text(value: str) -> bytes:
    return blob(value.encode())


def number(value: int | None) -> bytes:
    """Brought into the range of the column: a number beyond it means no less than the largest one."""
    if value is None:
        return b"NULL"
    return b"%d" % min(max(value, -LARGEST), LARGEST)


def row(*literals: bytes) -> bytes:
    return b"(%b)" % b",".join(literals)


def listed(literals: Iterable[bytes]) -> bytes:
    return b",".join(literals)


def portions(values: Sequence[T], size: int = PORTION) -> Iterator[Sequence[T]]:
    """Slices of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
