"""Group commit: everything that arrives while one transaction runs is committed by the next one, all at once.

append, move, delivered, read          plain calls in the event loop, no task and no future per message
         |
    the open batch  --- (full: one more) --->  waiting batches, oldest first
         |
    one long-lived task:  store.commit(batch)  ->  on_committed(batch, committed)
         |
    trouble: the same batch again every `retry` seconds, for ever; nothing overtakes it
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from aldis.bridge.write_task import WriteTask
from aldis.broker.ports import Batch, Committed, CursorMove, Delivered, NewMessage, Read, Store, StoreUnavailable

logger = logging.getLogger(__name__)

BATCH_BYTES = 33_554_432
"""Content of one batch; more wait for the next one. A back end holds a few copies of it for a moment, and has limits of
its own (SQLite: a billion bytes in one value, MySQL: `max_allowed_packet`)."""


class _Collected:
    """A batch being filled. Moves and receipts are cumulative, so only the furthest of each is kept."""

    __slots__ = ("delivered", "messages", "moves", "reads", "size")

    def __init__(self) -> None:
        self.size = 0
        self.messages: list[NewMessage] = []
        # The epoch is part of the key: an old owner's late move neither replaces the new owner's nor hides behind
        # it, and the store is the one to fence it.
        self.moves: dict[tuple[str, str, int], CursorMove] = {}
        self.delivered: dict[tuple[str, str], Delivered] = {}
        self.reads: dict[tuple[str, str], Read] = {}

    def __bool__(self) -> bool:
        return bool(self.messages or self.moves or self.delivered or self.reads)

    def batch(self) -> Batch:
        return Batch(self.messages, list(self.moves.values()), list(self.delivered.values()), list(self.reads.values()))


class GroupCommit(WriteTask):
    """The one writer of a node.

    `on_committed(batch, committed)` is called in the event loop, once per batch, in the order of the commits; what it
    raises is logged and stops nothing. `on_unavailable(error)` is called when the store begins to refuse,
    `on_recovered()` when it has taken a batch again; `on_measured(seconds, messages)` for each batch, seconds from its
    first attempt on. A batch holds at most `limit` messages and
    `BATCH_BYTES` of content, or one message.

    What was handed over is kept until the store has taken it or the process ends; nobody may acknowledge it before
    `on_committed`. While the store is unavailable messages pile up here: the caller bounds them by `pending`.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_committed: Callable[[Batch, Committed], None],
        on_unavailable: Callable[[Exception], None] | None = None,
        on_recovered: Callable[[], None] | None = None,
        on_measured: Callable[[float, int], None] | None = None,
        retry: float = 0.5,
        limit: int = 1_000,
        linger: float = 0.0,
    ) -> None:
        super().__init__("group commit", StoreUnavailable)
        self._store = store
        self._on_committed = on_committed
        self._on_unavailable = on_unavailable
        self._on_recovered = on_recovered
        self._on_measured = on_measured
        self.meanwhile = "nothing is acknowledged until it is back"
        """What it means, in the log, that the store takes nothing."""
        self.configure(retry=retry, limit=limit, linger=linger)
        self._open = _Collected()
        self._full: deque[_Collected] = deque()
        self._pending = 0
        self._begun = 0
        self._finished = 0
        self._flushes: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._stopped = False

    @property
    def pending(self) -> int:
        """Messages handed over and not yet committed."""
        return self._pending

    @property
    def available(self) -> bool:
        """False from the first refused attempt until the store has taken a batch again."""
        return self._trouble is None

    def append(self, message: NewMessage) -> None:
        """Hands over a message; messages are committed in the order of these calls."""
        if self._stopping:
            return
        collected = self._open
        size = len(message.content)
        if len(collected.messages) >= self._limit or (collected.size + size > BATCH_BYTES and collected.messages):
            self._full.append(collected)
            collected = self._open = _Collected()
        collected.messages.append(message)
        collected.size += size
        self._pending += 1
        if self._idle is not None:
            self._wake()

    def move(self, move: CursorMove) -> None:
        """Hands over a cursor move; of several of one (user, device, epoch) only the furthest is committed."""
        if self._stopping:
            return
        key = (move.user, move.device, move.epoch)
        furthest = self._open.moves
        known = furthest.get(key)
        if known is None or known.cursor <= move.cursor:
            furthest[key] = move
        if self._idle is not None:
            self._wake()

    def delivered(self, delivered: Delivered) -> None:
        """Hands over a delivery; of several of one (reader, peer) only the furthest is committed."""
        if self._stopping:
            return
        key = (delivered.reader, delivered.peer)
        furthest = self._open.delivered
        known = furthest.get(key)
        if known is None or known.mid < delivered.mid:
            furthest[key] = delivered
        if self._idle is not None:
            self._wake()

    def read(self, read: Read) -> None:
        """Hands over what an app has shown; of several of one (reader, peer) only the furthest is committed."""
        if self._stopping:
            return
        key = (read.reader, read.peer)
        furthest = self._open.reads
        known = furthest.get(key)
        if known is None or known.mid < read.mid:
            furthest[key] = read
        if self._idle is not None:
            self._wake()

    async def flush(self) -> None:
        """Returns when everything handed over so far is committed and `on_committed` was called for it.

        It waits as long as the store is unavailable. Raises `StoreUnavailable` if `stop` had to give up first.
        """
        if not (self._full or self._open or self._begun > self._finished):
            return
        if self._stopped:
            raise StoreUnavailable("the writer has stopped")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append((self._begun + len(self._full) + bool(self._open), done))
        await done

    async def stop(self, timeout: float = 10.0) -> None:
        """Commits what is there for at most `timeout` seconds, then ends. What is left over was never acknowledged, so
        its senders still have it; how much it was is logged. `append` and the like have no effect from now on."""
        await self._end(timeout)
        self._stopped = True
        if self._pending:
            logger.warning("stopped with %d messages neither committed nor acknowledged", self._pending)
        while self._flushes:
            _, done = self._flushes.popleft()
            if not done.done():
                done.set_exception(StoreUnavailable("the writer has stopped"))

    async def _write(self) -> bool:
        collected = self._take()
        if collected is not None:
            await self._finish(collected.batch())
        return collected is not None

    def _half_full(self) -> bool:
        return bool(self._open) and not self._full

    def _take(self) -> _Collected | None:
        if self._full:
            return self._full.popleft()
        if not self._open:
            return None
        collected, self._open = self._open, _Collected()
        return collected

    async def _finish(self, batch: Batch) -> None:
        """Returns when the batch is committed and everybody who waits for it has been told."""
        self._begun += 1
        begun = time.perf_counter()
        committed = await self._insist(partial(self._store.commit, batch), batch.messages)
        if self._on_measured is not None:
            self._call("on_measured", self._on_measured, time.perf_counter() - begun, len(batch.messages))
        self._finished += 1
        self._pending -= len(batch.messages)
        self._call("on_committed", self._on_committed, batch, committed)
        while self._flushes and self._flushes[0][0] <= self._finished:
            _, done = self._flushes.popleft()
            if not done.done():
                done.set_result(None)

    def _begin_trouble(self, error: Exception) -> None:
        logger.error(
            "the store is unavailable, %s; trying every %g s: %s",
            self.meanwhile,
            self._retry,
            str(error) or type(error).__name__,
        )
        if self._on_unavailable is not None:
            self._call("on_unavailable", self._on_unavailable, error)

    def _end_trouble(self) -> None:
        logger.warning("the store is available again, %d messages were waiting", self._pending)
        if self._on_recovered is not None:
            self._call("on_recovered", self._on_recovered)
