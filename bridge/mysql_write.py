"""The rows of one batch, written within a transaction that somebody else begins and ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from aldis.bridge.mysql_batch import (
    COUNTERS,
    DEVICES,
    GIVEN,
    HEADS,
    ITEMS,
    MESSAGES,
    MOVES,
    MOVES_TAIL,
    NEWEST,
    PLACED,
    RAISE_HEADS,
    RAISE_HEADS_TAIL,
    RAISE_RECEIPTS,
    RAISE_RECEIPTS_TAIL,
    RECEIPTS,
    SEQUENCES,
    SEQUENCES_TAIL,
)
from aldis.bridge.mysql_literals import blob, listed, number, portions, row, text
from aldis.bridge.mysql_numbers import Counter, number_messages
from aldis.bridge.mysql_repeats import Repeats, look_for_repeats, stored_under
from aldis.bridge.mysql_trips import Rows, Trips
from aldis.broker.ports import Batch, Committed, ReceiptState, Stored

K = TypeVar("K", bound=tuple[object, ...])

Pair = tuple[str, str]
"""User and device, or reader and peer."""


class Step:
    """Writes `batch` in one transaction, whose first statements may wait in `trips` already. `known` are the repeats
    that were looked for, `stamp` is the time of changed receipts, `step` the distance between two ids of one INSERT.
    `look_again`: for repeats once more, when nobody else can store them any more."""

    def __init__(
        self, trips: Trips, batch: Batch, known: Repeats | None, stamp: int, *, step: int, look_again: bool = False
    ) -> None:
        self._known = None if known is None else known.by_id
        self._placed = {} if known is None else known.by_mid
        self.numbered = number_messages(batch.messages, self._known, self._placed)
        self._trips = trips
        self._batch = batch
        self._stamp = stamp
        self._step = step
        self._look_again = look_again
        self._heads: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self._literals: dict[str, bytes] = {}

    async def write(self) -> Committed:
        moves = _furthest(((move.user, move.device, move.epoch), move.cursor) for move in self._batch.moves)
        delivered = _furthest(((one.reader, one.peer), one.mid) for one in self._batch.delivered)
        reads = _furthest(((one.reader, one.peer), one.mid) for one in self._batch.reads)
        self._raise_heads({user for user, _, _ in moves})
        stored: list[Stored] = []
        if self._batch.messages:
            await self._trips.go()
            if self.numbered.counted or self._look_again:
                await self._leave_out_repeats()
            stored = await self._write_messages()
            self._write_sequences()
        devices = self._ask_for_devices({(user, device) for user, device, _ in moves})
        marks = self._ask_for_receipts(delivered.keys() | reads.keys())
        await self._trips.go()
        stale = self._write_moves(moves, devices)
        receipts = self._write_receipts(delivered, await self._stored_reads(reads), marks)
        await self._trips.go()
        fenced = [move for move in self._batch.moves if (move.user, move.device, move.epoch) in stale]
        return Committed(stored, fenced, receipts)

    def _text(self, value: str) -> bytes:
        """Names come again and again within one batch."""
        literal = self._literals.get(value)
        if literal is None:
            literal = self._literals[value] = text(value)
        return literal

    def _raise_heads(self, moved: set[str]) -> None:
        """The new ones are there after the next trip, those of the moved among them."""
        raised = sorted(self.numbered.heads.items())
        self._trips.insert(RAISE_HEADS, [row(self._text(user), number(k)) for user, k in raised], RAISE_HEADS_TAIL)

        def take(rows: Rows) -> None:
            for user, head in rows:
                self._heads[str(user, "utf-8")] = head

        for portion in portions(sorted(moved | self.numbered.heads.keys())):
            self._trips.add(HEADS % listed(map(self._text, portion)), take)

    async def _leave_out_repeats(self) -> None:
        """For what is known by its `seq` alone, and no higher than what is stored, the heads were raised too far. They
        are lowered again before anybody has seen it: they are locked. So are the counters from here on, and nobody else
        stores anything under them: for that one needs the same heads. The same is true of an `id` or a mid that comes
        again to its recipient."""
        if self._look_again:
            self._known, self._placed = await look_for_repeats(self._trips, self._batch.messages)
        last: dict[Counter, int] = {}

        def take(rows: Rows) -> None:
            for sender, device, recipient, seq in rows:
                last[str(sender, "utf-8"), str(device, "utf-8"), str(recipient, "utf-8")] = seq

        for portion in portions(sorted(self.numbered.counted)):
            self._trips.add(COUNTERS % listed(row(*map(self._text, counter)) for counter in portion), take)
        await self._trips.go()
        raised = self.numbered
        numbered = number_messages(self._batch.messages, self._known, self._placed, last)
        if numbered.passed_over:
            # whoever has stored them under these mids has done so by now: it needed the same heads
            self._placed = self._placed | await stored_under(self._trips, numbered.passed_over)
            numbered = number_messages(self._batch.messages, self._known, self._placed, last)
        self.numbered = numbered
        if len(numbered.new) == len(raised.new):
            return
        lowered = {user: k - numbered.heads.get(user, 0) for user, k in raised.heads.items()}
        rows = [row(self._text(user), number(-k)) for user, k in sorted(lowered.items()) if k]
        self._trips.insert(RAISE_HEADS, rows, RAISE_HEADS_TAIL)
        for user, k in lowered.items():
            self._heads[user] -= k

    async def _write_messages(self) -> list[Stored]:
        literal, heads, raised = self._text, self._heads, self.numbered.heads
        before = {user: heads[user] - k for user, k in raised.items()}
        given: list[bytes] = []
        rows: list[bytes] = []
        for message, n, sync_n in self.numbered.new:
            id, sender = message.id, message.sender
            rows.append(
                b"(%b,%b,%b,%b,%d,%b,%d,%d,%b)"
                % (
                    literal(sender),
                    literal(message.device),
                    b"NULL" if id is None else text(id),
                    literal(message.recipient),
                    message.kind,
                    blob(bytes(message.content)),
                    message.created,
                    before[message.recipient] + n,
                    b"NULL" if sync_n is None else b"%d" % (before[sender] + sync_n),
                )
            )
            if message.mid:
                given.append(b"(%d,%b" % (message.mid, rows.pop()[1:]))
        self._trips.insert(GIVEN, given)  # first: what the database gives is to be higher
        mids = iter(await self._trips.insert_numbered(MESSAGES, rows, self._step))
        stored: list[Stored] = []
        items: list[bytes] = []
        newest = self._newest
        for message, n, sync_n in self.numbered.new:
            mid = message.mid or next(mids)
            recipient = message.recipient
            n += before[recipient]
            items.append(b"(%b,%d,%d)" % (literal(recipient), n, mid))
            newest[recipient] = mid
            if sync_n is not None:
                sync_n += before[message.sender]
                items.append(b"(%b,%d,%d)" % (literal(message.sender), sync_n, mid))
                newest[message.sender] = mid
            stored.append(Stored(mid, n, message.created, sync_n))
        self._trips.insert(ITEMS, items)
        places = self.numbered.places
        return stored if len(places) == len(stored) else [self._place(place, stored) for place in places]

    @staticmethod
    def _place(place: Stored | int, stored: list[Stored]) -> Stored:
        if isinstance(place, Stored):
            return place
        if place >= 0:
            return stored[place]
        first = stored[~place]
        return Stored(first.mid, first.n, first.created, first.sync_n, True)

    def _write_sequences(self) -> None:
        counters = sorted(self.numbered.sequences.items())
        rows = [row(*map(self._text, counter), number(seq)) for counter, seq in counters]
        self._trips.insert(SEQUENCES, rows, SEQUENCES_TAIL)

    def _ask_for_devices(self, wanted: set[Pair]) -> dict[Pair, tuple[int, int]]:
        """Epoch and cursor of each, after the next trip."""
        return self._ask_for_pairs(DEVICES, wanted)

    def _ask_for_receipts(self, wanted: set[Pair]) -> dict[Pair, tuple[int, int]]:
        """For each reader and peer up to where it is delivered and read, after the next trip."""
        return self._ask_for_pairs(RECEIPTS, wanted)

    def _ask_for_pairs(self, statement: bytes, wanted: set[Pair]) -> dict[Pair, tuple[int, int]]:
        found: dict[Pair, tuple[int, int]] = {}

        def take(rows: Rows) -> None:
            for one, other, *values in rows:
                found[str(one, "utf-8"), str(other, "utf-8")] = (values[0], values[1])

        for portion in portions(sorted(wanted)):
            self._trips.add(statement % listed(row(self._text(one), self._text(other)) for one, other in portion), take)
        return found

    def _write_moves(
        self, moves: dict[tuple[str, str, int], int], devices: dict[Pair, tuple[int, int]]
    ) -> set[tuple[str, str, int]]:
        """Returns the moves whose epoch is not the current one."""
        stale = set()
        further: list[bytes] = []
        for (user, device, epoch), cursor in sorted(moves.items()):
            known, reached = devices.get((user, device), (None, 0))
            if known != epoch:
                stale.add((user, device, epoch))
                continue
            cursor = min(cursor, self._heads.get(user, 0))
            if cursor > reached:
                further.append(b"(%b,%b,%d,%d,0)" % (self._text(user), self._text(device), cursor, epoch))
        self._trips.insert(MOVES, further, MOVES_TAIL)
        return stale

    def _write_receipts(
        self,
        delivered: dict[Pair, int],
        reads: dict[Pair, int],
        marks: dict[Pair, tuple[int, int]],
    ) -> list[ReceiptState]:
        """Returns the states that were raised."""
        states: list[ReceiptState] = []
        for reader, peer in sorted(delivered.keys() | reads.keys()):
            before = marks.get((reader, peer), (0, 0))
            arrived = max(before[0], delivered.get((reader, peer), 0))
            read = max(before[1], reads.get((reader, peer), 0))
            if (arrived, read) != before:
                states.append(ReceiptState(reader, peer, arrived, read))
        rows = [
            row(self._text(one.reader), self._text(one.peer), *map(number, (one.delivered, one.read, self._stamp)))
            for one in states
        ]
        self._trips.insert(RAISE_RECEIPTS, rows, RAISE_RECEIPTS_TAIL)
        return states

    async def _stored_reads(self, reads: dict[Pair, int]) -> dict[Pair, int]:
        """No higher than what is stored. A mid above that of the newest item may be stored all the same where mids were
        given: then it is looked up, which is not asked otherwise."""
        newest = await self._newest_items({reader for reader, _ in reads})
        beyond = {pair: mid for pair, mid in reads.items() if mid > newest.get(pair[0], 0) > 0}
        there: set[tuple[int, str, str]] = set()

        def take(rows: Rows) -> None:
            there.update((mid, str(recipient, "utf-8"), str(sender, "utf-8")) for mid, sender, _, recipient, *_ in rows)

        for portion in portions(sorted(set(beyond.values()))):
            self._trips.add(PLACED % listed(map(number, portion)), take)
        if beyond:
            await self._trips.go()
        return {
            (reader, peer): mid if (mid, reader, peer) in there else min(mid, newest.get(reader, 0))
            for (reader, peer), mid in reads.items()
        }

    async def _newest_items(self, readers: set[str]) -> dict[str, int]:
        """The mid of the newest item of each reader's inbox; those of this batch are known."""

        def take(rows: Rows) -> None:
            for user, mid in rows:
                self._newest[str(user, "utf-8")] = mid

        for portion in portions(sorted(readers - self._newest.keys())):
            self._trips.add(NEWEST % listed(map(self._text, portion)), take)
        await self._trips.go()
        return self._newest


def _furthest(records: Iterable[tuple[K, int]]) -> dict[K, int]:
    """Cumulative records: of several of one key only the furthest means anything."""
    furthest: dict[K, int] = {}
    for key, value in records:
        if furthest.get(key, value) <= value:
            furthest[key] = value
    return furthest
