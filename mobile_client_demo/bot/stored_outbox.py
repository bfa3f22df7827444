"""The outbox of a bot: that of the demo, on disk, bounded, and with a window. No network, no clock.

Messages leave in the order in which they were sent, `WINDOW` at a time. One that is `ordered` gets its seq when it
leaves, and leaves when the one before it to the same person was answered: a message that the server refuses has not
used its number, so the next one needs to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from aldis.mobile_client_demo.bot.disk import Disk
from aldis.mobile_client_demo.outbox import Outbox, Outgoing
from aldis.mobile_client_demo.wire import Receipt

WINDOW = 100
"""Published and not settled, at most: what has to be published again after a reconnect is no more than this."""


class OutboxFull(Exception):
    """So many messages wait that no further one is taken. Wait for the connection, or give up some handle."""


class StoredOutbox(Outbox):
    """What `put` has returned is on disk, and goes on being sent until the server has answered it."""

    def __init__(self, disk: Disk, *, limit: int) -> None:
        super().__init__(disk.prefix, count=disk.count)
        self._disk, self._limit = disk, limit
        self._queue: deque[Outgoing] = deque()
        self._underway: dict[str, Outgoing] = {}
        self._behind: dict[str, deque[Outgoing]] = {}
        self._later: list[Outgoing] = []
        for message, settled in disk.outbox():
            self.restore(message)
            if not settled:
                self.leaving(message)
        self.offline()

    def put(
        self, to: str, fields: dict[str, Any], *, ordered: bool, id: str = "", cause: int | None = None
    ) -> Outgoing:
        """A message that is on disk. One that is there already under this `id` is given back, and nothing is changed;
        but one settled in an earlier run leaves again, so that whoever waits for its answer gets the first one.
        Raises `OutboxFull`."""
        known = self.message(id) if id else None
        if known is not None:
            if not known.answers and known.id not in self._waiting:
                self.leaving(known)
                self._queue.append(known)
            return known
        if len(self._waiting) >= self._limit:
            raise OutboxFull(f"{len(self._waiting)} messages wait to be sent")
        message = self.new(to, "", fields, ordered=False)
        if id:
            self.forget(message)
            message.id, message.cause = id, cause
            message.content["id"] = id
            self.restore(message)
        message.ordered = ordered
        try:
            self._disk.add(message, self._count)
        except BaseException:
            self.forget(message)
            raise
        self.leaving(message)
        self._queue.append(message)
        return message

    def __len__(self) -> int:
        """How many wait for an answer."""
        return len(self._waiting)

    def offline(self) -> None:
        """Nothing is under way any more: everything that is not settled leaves again, first things first."""
        self._underway, self._behind, self._later = {}, {}, []
        self._queue = deque(self.waiting())

    def departing(self) -> Iterator[Outgoing]:
        """What may leave now. Each must be published before the next is asked for."""
        while self._queue and len(self._underway) < WINDOW:
            message = self._queue.popleft()
            if message.settled:
                continue
            if message.ordered:
                behind = self._behind.get(message.to)
                if behind is not None:
                    behind.append(message)
                    continue
                self._behind[message.to] = deque()
                if message.seq is None:
                    self._number(message, self._disk.last_seq(message.to) + 1)
            self._underway[message.id] = message
            yield message

    def _number(self, message: Outgoing, seq: int) -> None:
        message.seq = message.content["seq"] = seq
        self._disk.numbered(message)

    def answer(self, receipt: Receipt) -> None:
        message = self.message(receipt.id) if isinstance(receipt.id, str) else None
        if message is not None and receipt.type == "failed" and receipt.reason == "rate":
            self._later.append(message)
            return
        if message is not None and receipt.type == "failed" and receipt.reason == "gap" and message.seq is not None:
            if message.seq == 1:
                return  # said of it before it was numbered anew: below 1 there is no gap
            # Nothing before it is open, so the server has forgotten our counter with the device: begin anew.
            self._disk.forgotten(message.to)
            self._number(message, 1)
            self._underway.pop(message.id, None)
            self._queue.extendleft(reversed(self._behind.pop(message.to, ())))
            self._queue.appendleft(message)
            return
        super().answer(receipt)
        if message is not None:
            self._settle(message)

    def acknowledge(self, message: Outgoing) -> None:
        """Its PUBACK has come."""
        message.acknowledged = True
        self._settle(message)

    def try_later(self) -> None:
        """What the server found too much at the time may leave again; call it every second or so."""
        for message in self._later:
            self._underway.pop(message.id, None)
            if message.ordered:
                self._queue.extendleft(reversed(self._behind.pop(message.to, ())))
        self._queue.extendleft(reversed(self._later))
        self._later = []

    def _settle(self, message: Outgoing) -> None:
        if not message.settled or message.id not in self._waiting:
            return
        self._disk.settled(message)
        self._underway.pop(message.id, None)
        if message.cause is None or message.cause <= self._disk.handled:
            self.forget(message)
        else:
            self._waiting.pop(message.id)
        if message.ordered:
            self._queue.extendleft(reversed(self._behind.pop(message.to, ())))

    def handled(self, n: int) -> None:
        """The item that may have caused some messages is through: they need not be known by their ids any more."""
        for message in [one for one in self._messages.values() if one.cause is not None and one.cause <= n]:
            if message.id not in self._waiting:
                self.forget(message)
