"""What the writers of a node have in common: one long-lived task that writes one batch after the other, sleeps while
there is nothing, repeats what is refused for as long as it takes, and ends when everything is written or time is up."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aldis.broker.ports import NewMessage

logger = logging.getLogger(__name__)

T = TypeVar("T")


class WriteTask(ABC):
    """Subclasses say what is written (`_write`, `_half_full`, `_due`) and what is said about trouble (`_begin_trouble`,
    `_end_trouble`). Whoever hands something over calls `_wake` where `_idle` is set: that is a plain call, and no
    future per message.

    While batches follow one another, each waits for half as long as the last one took, at most `linger` seconds, so
    that more messages share it; the first one after a pause waits for nobody.
    """

    def __init__(self, name: str, unavailable: type[Exception]) -> None:
        self._name = name
        self._unavailable = unavailable
        self._retry, self._limit, self._linger = 0.5, 500, 0.0
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._trouble: Exception | None = None
        self._running: Sequence[NewMessage] = ()
        self._running_pairs: set[tuple[str, str]] | None = None

    def configure(self, *, retry: float, limit: int, linger: float = 0.0) -> None:
        """Sets what may change at any time: seconds between attempts, messages of one batch, seconds to linger. It
        holds from the next batch or attempt."""
        self._retry, self._limit, self._linger = retry, limit, linger

    def start(self) -> None:
        """Starts the writer in the running loop. What was handed over before is written first."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def _end(self, timeout: float) -> None:
        """Writes what is there for at most `timeout` seconds; nothing new is taken."""
        self._stopping = True
        if self._task is not None and not self._task.done():
            self._wake()
            await asyncio.wait([self._task], timeout=timeout)
            if self._task.cancel():
                await asyncio.wait([self._task], timeout=1.0)

    @abstractmethod
    async def _write(self) -> bool:
        """One batch, and everybody who waits for it is told; false where there is nothing to write now."""

    @abstractmethod
    def _half_full(self) -> bool:
        """Whether something waits for the next batch, and more has room in it."""

    def _due(self) -> float | None:
        """When (loop time) there is something to write that must wait now; None if there is nothing of the kind."""
        return None

    @abstractmethod
    def _begin_trouble(self, error: Exception) -> None:
        """The first refusal."""

    @abstractmethod
    def _end_trouble(self) -> None:
        """A batch is through again."""

    def _wake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            if await self._write():
                if self._linger and not self._stopping and self._half_full():
                    await asyncio.sleep(min(self._linger, (loop.time() - begun) / 2))
                continue
            due = self._due()
            if due is None and self._stopping:
                return
            self._idle = loop.create_future()
            handle = None if due is None else loop.call_at(due, self._wake)
            await self._idle
            if handle is not None:
                handle.cancel()

    def committing(self, sender: str, recipient: str) -> bool:
        """Whether a message between these two is in the batch under way, so that others may know of it before its
        sender has the answer."""
        if not self._running:
            return False
        if self._running_pairs is None:  # asked seldom, and not for most batches
            self._running_pairs = {(message.sender, message.recipient) for message in self._running}
        return (sender, recipient) in self._running_pairs

    async def _insist(self, attempt: Callable[[], Awaitable[T]], messages: Sequence[NewMessage]) -> T:
        """The outcome of the first attempt that succeeds to write these. Nothing overtakes it."""
        self._running, self._running_pairs = messages, None
        while True:
            try:
                outcome = await attempt()
            except self._unavailable as error:
                self._refused(error)
            except Exception as error:
                # A bug, ours or the driver's. Dropping the batch would lose messages whose senders then wait for
                # ever, so it is kept like any other; every attempt is logged, because nothing heals a bug.
                logger.exception("%s: a batch of %d messages failed and is repeated", self._name, len(messages))
                self._refused(error)
            else:
                if self._trouble is not None:
                    self._trouble = None
                    self._end_trouble()
                self._running = ()
                return outcome
            await asyncio.sleep(self._retry)

    def _refused(self, error: Exception) -> None:
        if self._trouble is None:
            self._trouble = error
            self._begin_trouble(error)

    @staticmethod
    def _call(name: str, hook: Callable[..., None], *arguments: object) -> None:
        """The writer outlives what is hung into it."""
        try:
            hook(*arguments)
        except Exception:
            logger.exception("%s failed; the writer goes on", name)
