"""Holds back what one device sends to one recipient until it is in the order of `seq` (article 8.2, promise 3).

The states of a stream, and what a publish with number `seq` becomes in each:

    unloaded   the highest committed seq is being asked from the store      everything -> Held
    loaded     `expected` is the number to come next       seq == expected  -> Release, with what waited behind it
                                                           seq >  expected  -> Held: there is a gap
                                                           seq <  expected  -> Repeat

`expected` rises at the release, the commit follows later and in the same order. So between release and commit a
number is neither held nor durable, and a repeat of it must not be acknowledged yet: the buffer keeps released items
until it hears `committed`.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Release(msgspec.Struct, Generic[T], gc=False):
    """Commit these now, in this order."""

    items: list[T]


class Repeat(msgspec.Struct, Generic[T], gc=False):
    """The number came before; drop `item`, but its PUBLISH wants an acknowledgement.

    `first` is the item that came first, while it is held or being committed: whatever becomes of that one, committed,
    expired or dropped, is the answer to both. None: it is committed, acknowledge at once.
    The caller must compare the ids: two different messages under one number are the sender's fault (`stale_seq`).
    """

    item: T
    first: T | None


class Held(msgspec.Struct, gc=False):
    """Kept without acknowledgement; comes back from a later call."""


class Overflow(msgspec.Struct, Generic[T], gc=False):
    """No room to hold it: the publish fails (`hold_back_full`). It has taken no number."""

    item: T


HELD: Final = Held()

Action = Release[T] | Repeat[T] | Held | Overflow[T]


class Reorder(Generic[T]):
    """The hold-back buffer of one (device, recipient).

    Promises: releases every number once and in rising order; holds at most `limit` items behind a gap, and none longer
    than `timeout` after the gap was seen; loses nothing: each item offered comes out of exactly one of `offer`,
    `loaded`, `expire` and `drop`. While the store is being asked everything is held, since a client that sends at once
    after connecting is no disorder; what bounds it is the connection, which is read no further when that many of its
    publishes wait.
    Times are in the caller's units, `now` must not go back.
    """

    __slots__ = ("_durable", "_held", "_limit", "_released", "_timeout", "expected")

    def __init__(self, limit: int, timeout: float) -> None:
        self.expected: int | None = None
        """The number to be released next; None while unloaded."""
        self._limit = limit
        self._timeout = timeout
        # seq -> (item, time of hold); dicts keep the order of arrival, so the first one is the oldest
        self._held: dict[int, tuple[T, float]] = {}
        self._released: dict[int, T] = {}
        self._durable = 0  # the highest number that became so while unloaded

    def __len__(self) -> int:
        """Items held."""
        return len(self._held)

    @property
    def idle(self) -> bool:
        """Nothing is held and nothing is being committed: the buffer may be thrown away and made anew."""
        return not self._held and not self._released

    def offer(self, seq: int, item: T, now: float) -> Action[T]:
        """A publish has come that is allowed and well-formed; refused ones never get here."""
        expected = self.expected
        held = self._held
        if seq == expected:
            self._released[seq] = item
            items = [item]
            self.expected = self._release_behind(seq + 1, items) if held else seq + 1
            return Release(items)
        if expected is not None and seq < expected:
            return Repeat(item, self._released.get(seq))
        waiting = held.get(seq)
        if waiting is not None:
            return Repeat(item, waiting[0])
        if expected is not None and len(held) >= self._limit:
            return Overflow(item)
        held[seq] = (item, now)
        return HELD

    def _release_behind(self, seq: int, items: list[T]) -> int:
        """Adds to `items` what is held from `seq` on without a gap; returns the first number that is not."""
        held = self._held
        while held:
            waiting = held.pop(seq, None)
            if waiting is None:
                break
            self._released[seq] = waiting[0]
            items.append(waiting[0])
            seq += 1
        return seq

    def loaded(self, last_seq: int, now: float) -> list[Action[T]]:
        """The store says that `last_seq` is the highest committed number, 0 if none: what waited gets its answer.

        What this buffer has released counts as well, also if it became durable only after the store was asked. Gaps are
        timed from now.
        Does nothing if it is loaded already.
        """
        if self.expected is not None:
            return []
        self.expected = max([last_seq, self._durable, *self._released]) + 1
        waiting = sorted(self._held.items())
        self._held.clear()
        actions: list[Action[T]] = []
        items: list[T] = []
        for seq, (item, _) in waiting:
            action = self.offer(seq, item, now)
            if isinstance(action, Release):
                items += action.items
            elif action is not HELD:
                actions.append(action)
        if items:
            actions.append(Release(items))
        return actions

    def committed(self, seq: int) -> None:
        """A released item is durable: repeats of it are acknowledged at once from now on."""
        self._released.pop(seq, None)
        if self.expected is None:
            self._durable = max(seq, self._durable)

    def expire(self, now: float) -> list[T]:
        """Gives back everything held, by rising seq, if the gap before it has outlived the timeout: it fails (`gap`).

        `expected` stays, so the sender can send again from the missing number on.
        """
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        return self._take_held()

    def next_deadline(self) -> float | None:
        """When to call `expire`; None while nothing waits for a missing number, or the store has not answered."""
        if self.expected is None or not self._held:
            return None
        return next(iter(self._held.values()))[1] + self._timeout

    def drop(self) -> list[T]:
        """The connection is gone: gives back everything held, by rising seq, unanswered; the client will send it again.

        The stream is unloaded afterwards, since the device may use another node before it comes back here. What was
        released is still being committed and is remembered until then.
        """
        self.expected = None
        self._durable = 0
        return self._take_held()

    def _take_held(self) -> list[T]:
        items = [waiting[0] for _, waiting in sorted(self._held.items())]
        self._held.clear()
        return items
