"""Which messages of a batch are new, and how far each inbox is raised by them: pure, before the database is asked."""

from __future__ import annotations

from typing import NamedTuple

from aldis.broker.ports import NewMessage, Stored

Key = tuple[str, str, str | None]


class New(NamedTuple):
    """A message to be stored. `n` and `sync_n` count from the head before this batch: 1 is the first new item."""

    message: NewMessage
    n: int
    sync_n: int | None


Counter = tuple[str, str, str]
"""Sender, device, recipient: whose `seq` it is."""


class Numbered:
    """`places` has an entry for each message of the batch: a message stored earlier, the index of a new one, or, for a
    repeat within the batch, that index as a negative number (`~index`). `counted` are the counters of messages that
    are known by their `seq` alone; `repeats` counts those that are known by their `id`."""

    __slots__ = ("counted", "heads", "new", "places", "repeats", "sequences")

    def __init__(self) -> None:
        self.new: list[New] = []
        self.places: list[Stored | int] = []
        self.heads: dict[str, int] = {}
        self.sequences: dict[Counter, int] = {}
        self.counted: set[Counter] = set()
        self.repeats = 0


def number_messages(
    messages: list[NewMessage], known: dict[Key, Stored] | None, last: dict[Counter, int] | None = None
) -> Numbered:
    """`known` are the repeats of earlier batches; None means that nobody has looked for any, not within this batch
    either. `last` are the highest numbers stored of the counters that are `counted`, 0 where one is left out."""
    numbered = Numbered()
    heads, new, places = numbered.heads, numbered.new, numbered.places
    within: dict[Key, int] = {}
    for message in messages:
        sender, recipient = message.sender, message.recipient
        if message.seq is not None:
            counter = (sender, message.device, recipient)
            highest = numbered.sequences.get(counter, 0)
            if message.id is None:
                numbered.counted.add(counter)
                highest = max(highest, last.get(counter, 0) if last is not None else 0)
                if message.seq <= highest:
                    places.append(Stored(0, 0, 0, None, True))
                    continue
            numbered.sequences[counter] = max(highest, message.seq)
        if known is not None and message.id is not None:
            key = (sender, message.device, message.id)
            first = known.get(key)
            earlier = within.get(key)
            if first is not None or earlier is not None:
                places.append(first if first is not None else ~(earlier or 0))
                numbered.repeats += 1
                continue
            within[key] = len(new)
        heads[recipient] = n = heads.get(recipient, 0) + 1
        sync_n = None
        if message.sync and sender != recipient:
            heads[sender] = sync_n = heads.get(sender, 0) + 1
        places.append(len(new))
        new.append(New(message, n, sync_n))
    return numbered
