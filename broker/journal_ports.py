"""What accepts messages before the database has them: the journal, one queue per shard of the recipients.

A node appends, and acknowledges when that is durable. One storer per shard, on whichever node, reads the oldest
entries, commits them to the store, and only then has them removed. The journal knows nothing of what a message means;
who decides in the end what is a repeat is the store.

Units: times are Unix time in whole milliseconds unless a name says `seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class JournalUnavailable(Exception):
    """The journal cannot be reached, cannot write now, or would not keep what it is given. Nothing of the call has
    taken effect, or all of it has and the caller cannot know; repeating the call is safe."""


class JournalRefused(Exception):
    """What waiting does not heal: the server's settings would lose acknowledged messages, it is too old, or the journal
    was made with another number of shards. The text is for the operator."""


class Appended(msgspec.Struct, gc=False):
    """One message to be appended. `id` and `seq` as in `NewMessage`; `data` is what comes back from `read`."""

    shard: int
    sender: str
    device: str
    recipient: str
    created: int
    data: bytes
    id: str | None = None
    seq: int | None = None


class Answer(msgspec.Struct, gc=False):
    """Where a message stands. For a repeat these are the first result's values and `repeated` is true; a repeat that is
    known by its `seq` alone has `mid` and `created` 0."""

    mid: int
    created: int
    repeated: bool = False


class Entry(msgspec.Struct, gc=False):
    """One message in the journal. `position` rises within its shard and is its `mid`, except where an entry was set
    aside and put back: that one keeps the mid its sender was told. `place` counts the bytes of the shard up to here."""

    position: int
    mid: int
    place: int
    data: bytes


class Poisoned(msgspec.Struct, gc=False):
    """An entry that could not be stored, set aside with the reason. `number` names it for the operator."""

    number: str
    shard: int
    mid: int
    reason: str
    data: bytes


class Length(msgspec.Struct, gc=False):
    """What waits in one shard: entries, their bytes, and when the oldest was accepted (0 where there is none)."""

    entries: int
    bytes: int
    oldest: int


class Leases(msgspec.Struct, gc=False):
    """The shards this storer holds, how many of them are more than its share, and how many other nodes accept into the
    journal now."""

    held: frozenset[int]
    surplus: int
    accepting: int


class Journal(Protocol):
    """Promises, held by the contract suite: an answered `append` is durable as far as the back end's settings say; the
    entries of one shard keep the order of the calls; mids rise within a shard, differ over all shards, and are below
    2**53; (sender, device, id) is answered with its first result for as long as it is remembered; nothing is removed
    but by `stored`, `set_aside` and `drop`.
    Every method may raise `JournalUnavailable`, within a bounded time.
    """

    shards: int

    async def open(self, *, newest: int) -> None:
        """Connects and checks. No mid will be given that is not above `newest`. Raises `JournalRefused`."""

    async def close(self) -> None:
        """Idempotent, never raises."""

    async def append(self, writer: str, number: int, messages: Sequence[Appended]) -> list[Answer | None]:
        """Appends in order. None: its shard is full, as it is for all that come after it in that shard. Batch `number`
        of `writer` takes effect once: who repeats the call with the same messages gets the same answer. Numbers
        rise."""

    async def read(self, after: Mapping[int, int], *, limit: int, size: int) -> dict[int, list[Entry]]:
        """Of these shards the oldest entries behind these positions: of each its part of `limit` (rounded up) and about
        its part of `size` bytes, but one at least; more where others leave theirs. Shards that have none are left
        out."""

    async def wait(self, after: Mapping[int, int], seconds: float) -> list[int]:
        """The shards (of these) that have entries behind these positions; waits for the first one at most so long."""

    async def stored(self, last: Mapping[int, Entry]) -> None:
        """By shard: everything up to this entry is in the store and is removed."""

    async def correct(self, sender: str, device: str, id: str, answer: Answer) -> None:
        """The store knows an older result for this id: it is the answer from now on."""

    async def find(self, sender: str, device: str, id: str) -> Answer | None:
        """The remembered result for this id, with `repeated` true."""

    async def last_seq(self, sender: str, device: str, recipient: str) -> int:
        """The highest remembered `seq`, 0 if none is."""

    async def forget_device(self, sender: str, device: str) -> None:
        """Its counters begin anew."""

    async def leases(self, storer: str, *, accepting: bool, storing: bool = True) -> Leases:
        """Renews what this storer holds and takes free shards, up to its share of all (rounded up). `accepting`: the
        node appends, too. Without `storing` that is all it does: it has no share, and what it held is free."""

    async def give_up(self, storer: str, shards: Sequence[int]) -> None:
        """Others may take these at once. With all of its shards a storer itself is gone when it does not renew."""

    async def leave(self, storer: str) -> None:
        """This storer is gone: its shards are free, its share is the others'."""

    async def lengths(self) -> list[Length]:
        """One for each shard."""

    async def set_aside(self, shard: int, entry: Entry, reason: str) -> bool:
        """Moves the oldest entry of the shard to the poisoned ones; false where there is no room for more of them."""

    async def poisoned(self, *, limit: int) -> list[Poisoned]:
        """Oldest first."""

    async def poison_length(self) -> int:
        """How many there are."""

    async def put_back(self, number: str) -> bool:
        """Appends a poisoned entry to its shard again, under the mid that it had; false if there is no such entry."""

    async def drop(self, number: str) -> bool:
        """Gives up a poisoned entry for ever; false if there is no such entry."""
