"""What one device has sent lately, by its own message ids (promise 2).

The store knows every id for ever. This window spares it the usual repeats, those of a client that has just
reconnected, and it alone knows the ids whose commit is still running.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final, Generic, TypeVar

W = TypeVar("W")


class Pending(Enum):
    """The id is in flight: its first PUBLISH is on its way to the store."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class RecentIds(Generic[W]):
    """The ids of one (user, device): those in flight, and the last `limit` committed ones with their first result.

    Ids in flight are never given up, so their number is the caller's to bound; committed ones leave oldest first.
    An id that is neither may still be an old one: the store decides.
    """

    __slots__ = ("_done", "_flight", "_limit")

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._flight: dict[str, list[W] | None] = {}
        self._done: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flight) + len(self._done)

    @property
    def in_flight(self) -> int:
        """Ids begun and neither done nor abandoned."""
        return len(self._flight)

    def begin(self, id: str) -> Pending | tuple[int, int] | None:
        """What is known of the id before it is committed.

        None: nothing, and from now on it is in flight; commit it, then call `done` or `abandon`.
        `PENDING`: in flight already; `attach` who waits for the answer. A (mid, ts): the first result, answer with it.
        """
        result = self._done.get(id)
        if result is not None:
            return result
        if id in self._flight:
            return PENDING
        self._flight[id] = None
        return None

    def attach(self, id: str, waiter: W) -> None:
        """Lets `waiter` share the outcome of an id in flight; raises `KeyError` if it is not."""
        waiters = self._flight[id]
        if waiters is None:
            self._flight[id] = [waiter]
        else:
            waiters.append(waiter)

    def done(self, id: str, mid: int, ts: int) -> list[W]:
        """The id is committed: remembers the result and gives back who waited, in the order of `attach`."""
        waiters = self._flight.pop(id, None)
        done = self._done
        done[id] = (mid, ts)
        if len(done) > self._limit:
            done.popitem(last=False)
        return [] if waiters is None else waiters

    def abandon(self, id: str) -> list[W]:
        """The id was not and will not be committed: it is unknown again. Gives back who waited."""
        waiters = self._flight.pop(id, None)
        return [] if waiters is None else waiters

    def detach_all(self) -> list[W]:
        """The connection is gone: gives back everyone who waited; what is in flight stays in flight.

        Without this a client that reconnects again and again during a store outage would pile up waiters.
        """
        detached: list[W] = []
        for id, waiters in self._flight.items():
            if waiters is not None:
                detached += waiters
                self._flight[id] = None
        return detached
