"""What `send` returns: one message on its way, to be waited for in a thread or awaited in asyncio."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from typing import Any

from aldis.mobile_client_demo.outbox import Outgoing
from aldis.mobile_client_demo.wire import Receipt


class SendFailed(Exception):
    """The server will not store the message; `reason` is that of its receipt (`docs/protocol.md`)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the message was refused: {reason}")
        self.reason = reason


class Stopped(Exception):
    """The bot was stopped first. The message is on disk; the next run sends it if that is still to be done."""


class Milestone:
    """`wait()` or `await`: until it is reached, then the mid of the message. Raises `SendFailed` and `Stopped`. True as
    soon as it is reached."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle  # so that whoever waits keeps the handle known
        self._future: Future[int] = Future()

    def wait(self, timeout: float | None = None) -> int:
        """`TimeoutError` after `timeout` seconds; the message goes on."""
        return self._future.result(timeout)

    def __await__(self) -> Generator[Any, None, int]:
        # Whoever is cancelled stops waiting; the others wait on.
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def __bool__(self) -> bool:
        return self._future.done() and self._future.exception() is None

    def then(self, call: Callable[[int, Exception | None], None]) -> None:
        """Calls it once, with the mid, or with 0 and what went wrong; at once if that is known. From a thread of the
        bot's, in which it must not wait."""

        def settled(future: Future[int]) -> None:
            fault = future.exception()
            call(0 if fault else future.result(), fault if isinstance(fault, Exception) else None)

        self._future.add_done_callback(settled)

    def reach(self, mid: int) -> None:
        if not self._future.done():
            try:
                self._future.set_result(mid)
            except InvalidStateError:
                pass  # stopped at this very moment

    def miss(self, why: Exception) -> None:
        if not self._future.done():
            try:
                self._future.set_exception(why)
            except InvalidStateError:
                pass


class Handle:
    """`sent`: on the server's disk. `delivered`: a device of the recipient has it. `read`: its app says so."""

    def __init__(self, id: str, to: str, content: dict[str, Any]) -> None:
        self.id, self.to = id, to
        self.content = content
        """What is published."""
        self.mid = 0
        """The server's number, 0 until `sent`."""
        self.sent, self.delivered, self.read = Milestone(self), Milestone(self), Milestone(self)

    def __repr__(self) -> str:
        return f"Handle({self.id!r}, to={self.to!r}, mid={self.mid})"

    def miss(self, why: Exception) -> None:
        for milestone in (self.sent, self.delivered, self.read):
            milestone.miss(why)


class Handles:
    """Those that somebody still holds. What nobody holds is forgotten; the message goes on all the same."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[str, Handle] = weakref.WeakValueDictionary()
        self._progress: dict[str, tuple[int, int]] = {}

    def of(self, message: Outgoing) -> Handle:
        handle = self._known.get(message.id)
        if handle is None:
            handle = self._known[message.id] = Handle(message.id, message.to, message.content)
            for answer in message.answers:
                self._answered(handle, answer)
        return handle

    def take(self, receipt: Receipt) -> None:
        if receipt.type in ("sent", "failed"):
            handle = self._known.get(receipt.id) if isinstance(receipt.id, str) else None
            if handle is not None:
                self._answered(handle, receipt)
            return
        delivered, read = self._progress.get(receipt.peer, (0, 0))
        if receipt.type == "delivered":
            delivered = max(delivered, receipt.up_to)
        else:
            read = max(read, receipt.up_to)
        self._progress[receipt.peer] = delivered, read
        for handle in list(self._known.values()):
            if handle.to == receipt.peer:
                self._advance(handle)

    def _answered(self, handle: Handle, receipt: Receipt) -> None:
        if receipt.type == "failed":
            handle.miss(SendFailed(receipt.reason))
            return
        handle.mid = receipt.mid  # of two, the later is right
        handle.sent.reach(receipt.mid)
        self._advance(handle)

    def _advance(self, handle: Handle) -> None:
        delivered, read = self._progress.get(handle.to, (0, 0))
        # What was read was delivered, whichever receipt came.
        if 0 < handle.mid <= max(delivered, read):
            handle.delivered.reach(handle.mid)
        if 0 < handle.mid <= read:
            handle.read.reach(handle.mid)

    def stop(self) -> None:
        for handle in list(self._known.values()):
            handle.miss(Stopped("the bot was stopped"))
