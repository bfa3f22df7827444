"""Statements that do not wait for one another's answers make one trip to the server together: a trip costs as much as
the work of a small statement, and the commits of a node that is not busy have little more than small statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aldis.bridge.mysql_server import BoundedConnection

Rows = tuple[tuple[Any, ...], ...]


class Trips:
    """The statements of one transaction over `driver`, in the order of `add`. No trip is longer than `packet` bytes,
    except for one statement that is longer by itself."""

    def __init__(self, driver: BoundedConnection, packet: int) -> None:
        self._driver = driver
        self._packet = packet
        self._waiting: list[tuple[bytes, Callable[[Rows], None] | None]] = []

    def add(self, statement: bytes, take: Callable[[Rows], None] | None = None) -> None:
        """Goes with the next trip. `take` is given the rows of its answer, before `go` returns."""
        self._waiting.append((statement, take))

    def insert(self, head: bytes, rows: Sequence[bytes], tail: bytes = b"") -> None:
        """As many rows per statement as a packet holds; nothing for no rows."""
        for portion in self._portions(head, rows, tail):
            self.add(head + b",".join(portion) + tail)

    async def insert_numbered(self, head: bytes, rows: Sequence[bytes], step: int) -> list[int]:
        """Goes now; returns the ids that the rows were given. The ids of one INSERT … VALUES are consecutive, `step`
        from one to the next, whatever `innodb_autoinc_lock_mode` is, because the number of its rows is known."""
        ids: list[int] = []
        for portion in self._portions(head, rows, b""):
            self.add(head + b",".join(portion))
            await self.go()
            first = self._driver.insert_id()
            ids.extend(range(first, first + len(portion) * step, step))
        return ids

    async def go(self) -> None:
        """Everything that waits. An error is that of the first statement that failed; those after it were not run."""
        waiting, self._waiting = self._waiting, []
        start = 0
        while start < len(waiting):
            end, size = start + 1, len(waiting[start][0])
            while end < len(waiting) and size + len(waiting[end][0]) < self._packet:
                size += len(waiting[end][0]) + 1
                end += 1
            trip = waiting[start:end]
            answers = await self._driver.run_all([statement for statement, _ in trip])
            for (_, take), rows in zip(trip, answers, strict=True):
                if take is not None:
                    take(rows)
            start = end

    def _portions(self, head: bytes, rows: Sequence[bytes], tail: bytes) -> Iterator[Sequence[bytes]]:
        start = 0
        while start < len(rows):
            end, size = start, len(head) + len(tail) + 64
            while end < len(rows) and (end == start or size + len(rows[end]) < self._packet):
                size += len(rows[end]) + 1
                end += 1
            yield rows[start:end]
            start = end
