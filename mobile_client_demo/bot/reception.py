"""What arrives for handlers, and the thread that calls them, one after the other.

The network thread puts things in; the queue is bounded, and at the bound the connection ends, because everything that
counts comes again on the next one. Hints (presence, typing, receipts for handlers) are dropped instead.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aldis.mobile_client_demo.bot.access import NoLogin
from aldis.mobile_client_demo.bot.arrivals import Arrivals, Verdict
from aldis.mobile_client_demo.bot.connection import Connection
from aldis.mobile_client_demo.bot.handlers import Arrived, Handlers, Handling, Kind, Message, handling
from aldis.mobile_client_demo.bot.key_chest import KeyChest
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.wire import Item

logger = logging.getLogger(__name__)

TICK = 0.1
Invoke = Callable[[Callable[..., Any], Arrived], None]


class NotTaken(Exception):
    """A handler raises it when it cannot take an item now, such as on a full disk: the bot stops as on a fault of its
    own, the item is not acknowledged, and comes again in the next run."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What acknowledges one delivery."""

    connection: Connection
    packet: int


class Keeper(Protocol):
    """What the reception needs of the core."""

    stopping: threading.Event

    def is_current(self, connection: Connection) -> bool: ...

    def through(self, n: int) -> None:
        """Stored: the item was handled."""

    def give_up(self, fault: Exception) -> None: ...


class Reception:
    """`thread` is started once. It ends by itself when the keeper is stopping and the handler that runs has ended."""

    def __init__(
        self, handlers: Handlers, invoke: Invoke, keys: KeyChest, keeper: Keeper, *, handled: int, limit: int
    ) -> None:
        self._handlers, self._invoke, self._keys, self._keeper = handlers, invoke, keys, keeper
        self._arrivals: Arrivals[Ticket] = Arrivals(handled)
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(limit)
        self._receiving = threading.Lock()
        self.thread = threading.Thread(target=self._handle, name="bot-handlers", daemon=True)

    def connected(self) -> None:
        with self._receiving:
            self._arrivals.connected()

    # From the network thread

    def take(self, item: Item, ticket: Ticket) -> None:
        with self._receiving:
            verdict = self._arrivals.take(item.n, ticket, room=not self._work.full())
            if verdict is Verdict.NEW:
                self._work.put(lambda: self._handle_item(item))
        if verdict is Verdict.HANDLED:
            ticket.connection.acknowledge(ticket.packet, 1)
        elif verdict is Verdict.REFUSED:
            logger.warning("handlers are too slow: the connection ends, and the items come again")
            ticket.connection.cut()

    def offer(self, kind: Kind, arrived: Arrived, ticket: Ticket | None = None) -> None:
        """A hint, or with a ticket plain MQTT that has to be acknowledged."""

        def work() -> None:
            self._call(kind, arrived, None)
            if ticket is not None and self._keeper.is_current(ticket.connection):
                ticket.connection.acknowledge(ticket.packet, 1)

        if ticket is None and not self._handlers.wanted(kind):
            return
        # Only what must not be lost may take the last places: put() in `take` never waits.
        with self._receiving:
            if not self._work.full():
                self._work.put(work)
                return
        if ticket is None:
            logger.warning("handlers are too slow: one about %s is dropped", kind)
        else:
            ticket.connection.cut()

    # The worker

    def _handle(self) -> None:
        while not self._keeper.stopping.is_set():
            try:
                work = self._work.get(timeout=TICK)
            except queue.Empty:
                continue
            try:
                work()
            except Exception as fault:  # noqa: BLE001 - of ours, such as a full disk: those of handlers end in `_call`
                self._keeper.give_up(fault)

    def _handle_item(self, item: Item) -> None:
        if item.kind == "system":
            friend = item.content.get("user_id")
            if item.content.get("type") in ("key_rotated", "key_wrapped") and isinstance(friend, str):
                self._keys.told(friend)
            self._call("system", item, item.n)
        else:
            self._call("message" if item.kind == "chat" else "sync", read(item, self._keys), item.n)
        # Handled first, acknowledged then: a crash between the two costs a repeat, which is known by its n.
        self._keeper.through(item.n)
        with self._receiving:
            ticket = self._arrivals.done(item.n)
        if self._keeper.is_current(ticket.connection):
            ticket.connection.acknowledge(ticket.packet, 1)

    def _call(self, kind: Kind, arrived: Arrived, n: int | None) -> None:
        for place, function in self._handlers.fitting(kind, arrived):
            token = handling.set(None if n is None else Handling(n, place))
            try:
                self._invoke(function, arrived)
            except NotTaken:
                raise
            except Exception:
                logger.exception("a handler failed on a %s; it counts as handled", kind)
            finally:
                handling.reset(token)


def read(item: Item, keys: KeyChest) -> Message:
    """The message of an item, decrypted where it is encrypted and can be."""
    if "enc" not in item.content:
        return Message(item, item.content.get("body"))
    try:
        return Message(item, keys.decrypt(item))
    except (CannotDecrypt, NoLogin) as error:
        return Message(item, None, str(error))
