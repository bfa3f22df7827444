"""What storers have in their hands: shards, and entries with the messages in them."""

from __future__ import annotations

from collections.abc import Sequence

from aldis.bridge.journal_entries import UnreadableEntry, decode_entry
from aldis.broker.journal_ports import Entry
from aldis.broker.ports import Batch, NewMessage


class Held:
    """A shard of ours: its epoch once it is claimed, how far we have stored, what could not be removed yet; whether it
    stands still because of an entry that can neither be stored nor set aside, and until when (loop time)."""

    __slots__ = ("epoch", "position", "shard", "still_until", "stuck", "untrimmed")

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.epoch = 0
        self.position = 0
        self.stuck = False
        self.still_until = 0.0
        self.untrimmed: Entry | None = None


class Piece:
    """An entry of a shard of ours, and the message in it, or what is wrong with it."""

    __slots__ = ("entry", "fault", "held", "message")

    def __init__(self, held: Held, entry: Entry) -> None:
        self.held = held
        self.entry = entry
        self.fault = ""
        self.message: NewMessage | None = None
        try:
            self.message = decode_entry(entry.data)
            self.message.mid = entry.mid
        except UnreadableEntry as error:
            self.fault = str(error)


def batch_of(part: Sequence[Piece]) -> Batch:
    """To be committed only while all of their shards are ours."""
    fences = {piece.held.shard: piece.held.epoch for piece in part}
    return Batch([piece.message for piece in part if piece.message is not None], shards=sorted(fences.items()))
