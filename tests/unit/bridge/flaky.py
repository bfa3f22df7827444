"""A store that refuses on command, around one that works."""

from __future__ import annotations

import asyncio

from aldis.bridge.memory import MemoryStore
from aldis.broker.ports import Batch, Committed, StoreUnavailable


class FlakyStore(MemoryStore):
    """Fails the next commits with the given errors, in order, and remembers every batch that got through.

    `gate` holds a commit back as a slow disk does. With `after=True` the failing commits have taken effect, as when the
    connection breaks between COMMIT and its answer.
    """

    def __init__(self, errors: list[Exception] | None = None, *, after: bool = False) -> None:
        super().__init__()
        self.errors = errors or []
        self.after = after
        self.attempts = 0
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._attempted = asyncio.Condition()

    async def attempted(self, times: int) -> None:
        """Returns when `commit` was called that often."""
        async with self._attempted:
            await self._attempted.wait_for(lambda: self.attempts >= times)

    def break_down(self) -> None:
        """Refuses everything until `repair`."""
        self.errors = [StoreUnavailable("disk full")] * 1_000_000

    def repair(self) -> None:
        self.errors = []

    async def commit(self, batch: Batch) -> Committed:
        async with self._attempted:
            self.attempts += 1
            self._attempted.notify_all()
        await self.gate.wait()
        await asyncio.sleep(0)
        error = self.errors.pop(0) if self.errors else None
        if error is not None and not self.after:
            raise error
        committed = await super().commit(batch)
        if error is not None:
            raise error
        self.batches.append(batch)
        return committed
