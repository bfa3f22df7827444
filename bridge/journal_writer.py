"""The writer of a node that accepts messages into the journal: what arrives while one append runs goes into the next.

append                    a plain call in the event loop, no task and no future per message
   |
open messages  ->  one long-lived task:  journal.append(batch)  ->  on_accepted(messages, answers)
   |
a full shard: its messages wait in their order, and are tried again every `retry` seconds; the others go on
trouble:      the same batch again every `retry` seconds, for ever; nothing overtakes it

Everything else that is written (cursors, receipts) goes to the group commit, as on any node.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.journal_entries import encode_entry
from aldis.bridge.journal_numbers import shard_of
from aldis.bridge.write_task import WriteTask
from aldis.broker.journal_ports import Answer, Appended, Journal, JournalUnavailable
from aldis.broker.ports import NewMessage

logger = logging.getLogger(__name__)

BATCH_BYTES = 4_194_304
"""Content of one append, or one message: Redis does nothing else while it takes it."""

KNOWN_SHARDS = 100_000
"""Recipients whose shard is remembered; then they are forgotten."""


class JournalWriter(WriteTask):
    """Keeps `aldis.broker.ports.Writer`; `flush` is that of the group commit: for cursors and receipts.

    `on_accepted(messages, answers)` is called in the event loop, once per batch, for what the journal has taken. What
    it raises is logged and stops nothing. `on_unavailable(error)` is called when the journal begins to refuse,
    `on_recovered()` when it has taken a batch again, `on_full(whether)` when a shard becomes full and when none is any
    more, `on_measured(seconds, messages)` for each batch.

    What was handed over is kept until the journal has taken it or the process ends; the caller bounds it.
    """

    def __init__(
        self,
        journal: Journal,
        group: GroupCommit,
        *,
        on_accepted: Callable[[list[NewMessage], list[Answer]], None],
        on_unavailable: Callable[[Exception], None],
        on_recovered: Callable[[], None],
        on_full: Callable[[bool], None],
        on_measured: Callable[[float, int], None],
    ) -> None:
        super().__init__("journal writer", JournalUnavailable)
        self._journal = journal
        self._group = group
        self.move = group.move
        self.delivered = group.delivered
        self.read = group.read
        self.flush = group.flush
        self._on_accepted = on_accepted
        self._on_unavailable = on_unavailable
        self._on_recovered = on_recovered
        self._on_full = on_full
        self._on_measured = on_measured
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._open: deque[NewMessage] = deque()
        self._parked: dict[int, deque[NewMessage]] = {}
        self._try_parked = 0.0
        self._pending = 0
        self._shards: dict[str, int] = {}
        self._done = asyncio.Event()
        self._done.set()

    @property
    def pending(self) -> int:
        """Messages that the group commit has and has not committed."""
        return self._group.pending

    @property
    def available(self) -> bool:
        """Whether the store takes commits."""
        return self._group.available

    @property
    def unaccepted(self) -> int:
        """Messages handed over and not yet in the journal."""
        return self._pending

    @property
    def accepting(self) -> bool:
        """False from the first refused append until the journal has taken a batch again."""
        return self._trouble is None

    def append(self, message: NewMessage) -> None:
        """Hands over a message; messages to one recipient are accepted in the order of these calls."""
        if self._stopping:
            return
        self._open.append(message)
        self._pending += 1
        if self._idle is not None:
            self._wake()

    async def drained(self) -> None:
        """Returns when everything handed over is accepted."""
        while self._pending:
            self._done.clear()
            await self._done.wait()

    async def stop(self, timeout: float = 10.0) -> None:
        """Appends what is there for at most `timeout` seconds, then ends. What is left over was never acknowledged."""
        await self._end(timeout)
        if self._pending:
            logger.warning("stopped with %d messages neither accepted nor acknowledged", self._pending)

    async def _write(self) -> bool:
        batch = self._take(asyncio.get_running_loop().time())
        if batch:
            await self._finish(batch)
        return bool(batch)

    def _half_full(self) -> bool:
        return 0 < len(self._open) < self._limit

    def _due(self) -> float | None:
        return self._try_parked if self._parked else None

    def _take(self, now: float) -> list[NewMessage]:
        batch: list[NewMessage] = []
        size = 0
        if self._parked and now >= self._try_parked:
            self._try_parked = now + self._retry
            portion = max(1, self._limit // len(self._parked))
            for waiting in self._parked.values():
                size = _move(waiting, batch, portion, size)
        opened, parked = self._open, self._parked
        while opened and len(batch) < self._limit and (size < BATCH_BYTES or not batch):
            message = opened.popleft()
            if parked and (shard := self._shard(message.recipient)) in parked:
                parked[shard].append(message)
                continue
            batch.append(message)
            size += len(message.content)
        return batch

    def _shard(self, recipient: str) -> int:
        shard = self._shards.get(recipient)
        if shard is None:
            if len(self._shards) >= KNOWN_SHARDS:
                self._shards.clear()
            shard = self._shards[recipient] = shard_of(recipient, self._journal.shards)
        return shard

    async def _finish(self, batch: list[NewMessage]) -> None:
        """Returns when the journal has answered and everybody who waits for it has been told."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        shard_for = self._shard
        appended = [
            Appended(
                shard_for(one.recipient),
                one.sender,
                one.device,
                one.recipient,
                one.created,
                encode_entry(one),
                one.id,
                one.seq,
            )
            for one in batch
        ]
        self._number += 1
        append = partial(self._journal.append, self._writer, self._number, appended)
        answers: list[Answer | None] = await self._insist(append, batch)
        self._call("on_measured", self._on_measured, loop.time() - begun, len(batch))
        if None in answers or self._parked:
            self._sort_out(batch, answers, loop.time())
            batch = [one for one, answer in zip(batch, answers, strict=True) if answer is not None]
        taken = [answer for answer in answers if answer is not None]
        self._pending -= len(taken)
        if not self._pending:
            self._done.set()
        self._call("on_accepted", self._on_accepted, batch, taken)

    def _sort_out(self, batch: list[NewMessage], answers: Iterable[Answer | None], now: float) -> None:
        """Puts what a full shard has refused in front of what waits for it already; a shard for which nothing waits any
        more is open again."""
        was_full = bool(self._parked)
        refused: dict[int, list[NewMessage]] = {}
        for message, answer in zip(batch, answers, strict=True):
            if answer is None:
                refused.setdefault(self._shard(message.recipient), []).append(message)
        for shard, messages in refused.items():
            self._parked.setdefault(shard, deque()).extendleft(reversed(messages))
        self._parked = {shard: waiting for shard, waiting in self._parked.items() if waiting}
        if not refused:
            self._try_parked = now
        if not was_full and self._parked:
            self._try_parked = now + self._retry
            logger.error("the journal is full: messages wait unacknowledged until some of it is stored")
        elif was_full and not self._parked:
            logger.warning("the journal has room again")
        if was_full is not bool(self._parked):
            self._call("on_full", self._on_full, bool(self._parked))

    def _begin_trouble(self, error: Exception) -> None:
        logger.error("the journal is unavailable, no message is acknowledged until it is back: %s", error)
        self._call("on_unavailable", self._on_unavailable, error)

    def _end_trouble(self) -> None:
        logger.warning("the journal is available again, %d messages were waiting", self._pending)
        self._call("on_recovered", self._on_recovered)


def _move(waiting: deque[NewMessage], batch: list[NewMessage], portion: int, size: int) -> int:
    """As many of the oldest as go into the batch; returns its size."""
    while waiting and portion and (size < BATCH_BYTES or not batch):
        batch.append(waiting.popleft())
        size += len(batch[-1].content)
        portion -= 1
    return size
