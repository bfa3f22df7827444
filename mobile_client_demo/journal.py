"""One journal of everything that all clients of a run have seen and done, in the order in which it happened.

Clients write from their network threads; the story waits on it; the transcript prints it; the promises are judged
from it afterwards. What a client *does* is written down before it leaves, what *arrives* is written down on arrival,
so that an effect never stands before its cause.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aldis.mobile_client_demo.wire import Item, Receipt


class Missing(Exception):
    """Something that was promised has not happened in time; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Happened to this device of this user, `at` seconds after the journal began."""

    user: str
    device: str
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed(Event):
    """Connected and subscribed: the device is ready. `resumed` says that the server still had the session."""

    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """The connection is over."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Event):
    """A message is about to leave; `again` if it was published before, under the same id."""

    to: str
    id: str
    seq: int | None
    text: str
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishAcknowledged(Event):
    """The server's PUBACK for the message `id`."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived(Event):
    """An inbox item. `repeated` if this device had already seen its n; `text` is None where it could not be read."""

    item: Item
    text: str | None
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAcknowledged(Event):
    """My PUBACK for an inbox item is about to leave."""

    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptArrived(Event):
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSaid(Event):
    """My app is about to say that it has shown everything of `peer` up to `up_to`."""

    peer: str
    up_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed(Event):
    """A packet that breaks the wire contract."""

    problem: str


class Journal:
    """Thread-safe. Listeners are called in order, one event at a time, and must not call back into a client."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def now(self) -> float:
        """Seconds since the journal began."""
        return time.monotonic() - self._start

    def record(self, event: Event) -> None:
        with self._changed:
            stamped = replace(event, at=self.now())
            self._events.append(stamped)
            for listener in self._listeners:
                listener(stamped)
            self._changed.notify_all()

    def events(self) -> list[Event]:
        """A copy of everything so far."""
        with self._changed:
            return list(self._events)

    def wait(self, happened: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Returns as soon as `happened()` is true after some event; raises `Missing(what)` after `timeout` seconds.

        `happened` runs under the journal's lock: it only looks at values.
        """
        with self._changed:
            if not self._changed.wait_for(happened, timeout):
                raise Missing(f"{what} (waited {timeout:g} s)")
