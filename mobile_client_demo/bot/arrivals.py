"""Which items of the inbox go to the handlers, once each, and which packet acknowledges them. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


class Verdict(Enum):
    NEW = "hand it on"
    WAITING = "it is with the handlers already, and will be acknowledged by this packet"
    HANDLED = "acknowledge it at once"
    REFUSED = "there is no room: end the connection, it comes again"


class Arrivals(Generic[Ticket]):
    """Items come in rising n, and again from the first unacknowledged one on after every reconnect. A ticket is what
    acknowledges one delivery; only the newest of an item counts."""

    def __init__(self, handled: int) -> None:
        self.handled = handled
        self._tickets: dict[int, Ticket] = {}
        self._refusing = False

    def connected(self) -> None:
        """A new connection: what was refused comes again in its place."""
        self._refusing = False

    def take(self, n: int, ticket: Ticket, *, room: bool) -> Verdict:
        if n <= self.handled:
            return Verdict.HANDLED
        if n in self._tickets:
            self._tickets[n] = ticket
            return Verdict.WAITING
        # After one was refused none behind it may pass: the higher n would make it look handled.
        if self._refusing or not room:
            self._refusing = True
            return Verdict.REFUSED
        self._tickets[n] = ticket
        return Verdict.NEW

    def done(self, n: int) -> Ticket:
        """The handlers are through with it; what to acknowledge."""
        self.handled = max(self.handled, n)
        return self._tickets.pop(n)
