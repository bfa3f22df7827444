"""Which messages of a batch are new, and how far each inbox is raised by them: pure, before the database is asked."""

from __future__ import annotations

from typing import NamedTuple

from aldis.bridge.given_mids import Placed, repeat_of, same_owner
from aldis.broker.ports import MidTaken, NewMessage, Stored

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
    are known by their `seq` alone; `passed_over` the mids given to those among them that are repeats of nobody knows
    what; `repeats` counts those that are known by their `id` or their mid."""

    __slots__ = ("counted", "heads", "new", "passed_over", "places", "repeats", "sequences")

    def __init__(self) -> None:
        self.new: list[New] = []
        self.places: list[Stored | int] = []
        self.heads: dict[str, int] = {}
        self.sequences: dict[Counter, int] = {}
        self.counted: set[Counter] = set()
        self.passed_over: list[int] = []
        self.repeats = 0


def number_messages(
    messages: list[NewMessage],
    known: dict[Key, Stored] | None,
    placed: dict[int, Placed],
    last: dict[Counter, int] | None = None,
) -> Numbered:
    """`known` are the repeats of earlier batches by their `id`; None means that nobody has looked for any, not within
    this batch either. `placed` are messages that are stored under mids given here. `last` are the highest numbers
    stored of the counters that are `counted`, 0 where one is left out. Raises `MidTaken`."""
    numbered = Numbered()
    heads, new, places = numbered.heads, numbered.new, numbered.places
    within: dict[Key, int] = {}
    given: dict[int, int] = {}
    for message in messages:
        sender, recipient = message.sender, message.recipient
        if message.seq is not None:
            counter = (sender, message.device, recipient)
            highest = numbered.sequences.get(counter, 0)
            if message.id is None:
                numbered.counted.add(counter)
                highest = max(highest, last.get(counter, 0) if last is not None else 0)
                if message.seq <= highest:
                    place = _same_mid(message, placed, given, new) if message.mid else None
                    if message.mid and place is None:
                        numbered.passed_over.append(message.mid)
                    places.append(Stored(0, 0, 0, None, True) if place is None else place)
                    continue
            numbered.sequences[counter] = max(highest, message.seq)
        key: Key | None = None
        if known is not None and message.id is not None:
            key = (sender, message.device, message.id)
            first = known.get(key)
            earlier = within.get(key)
            if first is not None or earlier is not None:
                places.append(first if first is not None else ~(earlier or 0))
                numbered.repeats += 1
                continue
        if message.mid:
            # an `id` that nobody has looked for might decide otherwise
            place = _same_mid(message, placed, given, new) if known is not None else None
            if place is not None:
                places.append(place)
                numbered.repeats += 1
                continue
            given.setdefault(message.mid, len(new))
        if key is not None:
            within[key] = len(new)
        heads[recipient] = n = heads.get(recipient, 0) + 1
        sync_n = None
        if message.sync and sender != recipient:
            heads[sender] = sync_n = heads.get(sender, 0) + 1
        places.append(len(new))
        new.append(New(message, n, sync_n))
    return numbered


def _same_mid(
    message: NewMessage, placed: dict[int, Placed], given: dict[int, int], new: list[New]
) -> Stored | int | None:
    """The place of the message that has the mid of this one: stored earlier, or of this batch."""
    there = placed.get(message.mid)
    if there is not None:
        return repeat_of(message, there)
    index = given.get(message.mid)
    if index is None:
        return None
    if not same_owner(message, new[index].message):
        raise MidTaken(message.mid)
    return ~index
