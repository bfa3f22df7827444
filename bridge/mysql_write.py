"""The rows of one batch, written within a transaction that somebody else begins and ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from aldis.bridge.mysql_batch import (
    COUNTERS,
    DEVICES,
    HEADS,
    ITEMS,
    MESSAGES,
    MOVES,
    MOVES_TAIL,
    NEWEST,
    RAISE_HEADS,
    RAISE_HEADS_TAIL,
    RAISE_RECEIPTS,
    RAISE_RECEIPTS_TAIL,
    RECEIPTS,
    SEQUENCES,
    SEQUENCES_TAIL,
)
from aldis.bridge.mysql_literals import blob, listed, number, portions, row, text
from aldis.bridge.mysql_numbers import Counter, Key, number_messages
from aldis.bridge.mysql_server import BoundedConnection
from aldis.broker.ports import Batch, Committed, ReceiptState, Stored

K = TypeVar("K", bound=tuple[object, ...])


class Step:
    """Writes `batch` over `driver`, in which a transaction runs. `known` are the repeats that were looked for, `stamp`
    is the time of changed receipts, `packet` the longest statement in bytes, `step` the distance between two ids of one
    INSERT."""

    def __init__(
        self,
        driver: BoundedConnection,
        batch: Batch,
        known: dict[Key, Stored] | None,
        stamp: int,
        *,
        packet: int,
        step: int,
    ) -> None:
        self.numbered = number_messages(batch.messages, known)
        self._driver = driver
        self._batch = batch
        self._known = known
        self._stamp = stamp
        self._packet = packet
        self._step = step
        self._heads: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self._literals: dict[str, bytes] = {}

    async def write(self) -> Committed:
        moves = _furthest(((move.user, move.device, move.epoch), move.cursor) for move in self._batch.moves)
        await self._raise_heads({user for user, _, _ in moves})
        if self.numbered.counted:
            await self._leave_out_repeats()
        stored = await self._write_messages()
        await self._write_sequences()
        stale = await self._write_moves(moves)
        receipts = await self._write_receipts()
        fenced = [move for move in self._batch.moves if (move.user, move.device, move.epoch) in stale]
        return Committed(stored, fenced, receipts)

    def _text(self, value: str) -> bytes:
        """Names come again and again within one batch."""
        literal = self._literals.get(value)
        if literal is None:
            literal = self._literals[value] = text(value)
        return literal

    async def _raise_heads(self, moved: set[str]) -> None:
        raised = sorted(self.numbered.heads.items())
        await self._insert(RAISE_HEADS, [row(self._text(user), number(k)) for user, k in raised], RAISE_HEADS_TAIL)
        for portion in portions(sorted(moved | self.numbered.heads.keys())):
            for user, head in await self._driver.run(HEADS % listed(map(self._text, portion))):
                self._heads[str(user, "utf-8")] = head

    async def _leave_out_repeats(self) -> None:
        """For what is known by its `seq` alone, and no higher than what is stored, the heads were raised too far. They
        are lowered again before anybody has seen it: they are locked. So are the counters from here on, and nobody else
        stores anything under them: for that one needs the same heads."""
        last: dict[Counter, int] = {}
        for portion in portions(sorted(self.numbered.counted)):
            wanted = listed(row(*map(self._text, counter)) for counter in portion)
            for sender, device, recipient, seq in await self._driver.run(COUNTERS % wanted):
                last[str(sender, "utf-8"), str(device, "utf-8"), str(recipient, "utf-8")] = seq
        raised = self.numbered
        numbered = number_messages(self._batch.messages, self._known, last)
        if len(numbered.new) == len(raised.new):
            return
        lowered = {user: k - numbered.heads.get(user, 0) for user, k in raised.heads.items()}
        rows = [row(self._text(user), number(-k)) for user, k in sorted(lowered.items()) if k]
        await self._insert(RAISE_HEADS, rows, RAISE_HEADS_TAIL)
        for user, k in lowered.items():
            self._heads[user] -= k
        self.numbered = numbered

    async def _write_messages(self) -> list[Stored]:
        literal, heads, raised = self._text, self._heads, self.numbered.heads
        before = {user: heads[user] - k for user, k in raised.items()}
        rows = []
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
        mids = await self._insert(MESSAGES, rows)
        stored: list[Stored] = []
        items: list[bytes] = []
        newest = self._newest
        for (message, n, sync_n), mid in zip(self.numbered.new, mids, strict=True):
            recipient = message.recipient
            n += before[recipient]
            items.append(b"(%b,%d,%d)" % (literal(recipient), n, mid))
            newest[recipient] = mid
            if sync_n is not None:
                sync_n += before[message.sender]
                items.append(b"(%b,%d,%d)" % (literal(message.sender), sync_n, mid))
                newest[message.sender] = mid
            stored.append(Stored(mid, n, message.created, sync_n))
        await self._insert(ITEMS, items)
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

    async def _write_sequences(self) -> None:
        counters = sorted(self.numbered.sequences.items())
        rows = [row(*map(self._text, counter), number(seq)) for counter, seq in counters]
        await self._insert(SEQUENCES, rows, SEQUENCES_TAIL)

    async def _write_moves(self, moves: dict[tuple[str, str, int], int]) -> set[tuple[str, str, int]]:
        """Returns the moves whose epoch is not the current one."""
        current: dict[tuple[str, str], tuple[int, int]] = {}
        for portion in portions(sorted({(user, device) for user, device, _ in moves})):
            wanted = listed(row(self._text(user), self._text(device)) for user, device in portion)
            for user, device, epoch, cursor in await self._driver.run(DEVICES % wanted):
                current[str(user, "utf-8"), str(device, "utf-8")] = (epoch, cursor)
        stale = set()
        further: list[bytes] = []
        for (user, device, epoch), cursor in sorted(moves.items()):
            known, reached = current.get((user, device), (None, 0))
            if known != epoch:
                stale.add((user, device, epoch))
                continue
            cursor = min(cursor, self._heads.get(user, 0))
            if cursor > reached:
                further.append(b"(%b,%b,%d,%d,0)" % (self._text(user), self._text(device), cursor, epoch))
        await self._insert(MOVES, further, MOVES_TAIL)
        return stale

    async def _write_receipts(self) -> list[ReceiptState]:
        """Returns the states that were raised."""
        delivered = _furthest(((one.reader, one.peer), one.mid) for one in self._batch.delivered)
        reads = _furthest(((one.reader, one.peer), one.mid) for one in self._batch.reads)
        pairs = sorted(delivered.keys() | reads.keys())
        if not pairs:
            return []
        newest = await self._newest_items({reader for reader, _ in reads})
        current: dict[tuple[str, str], tuple[int, int]] = {}
        for portion in portions(pairs):
            wanted = listed(row(self._text(reader), self._text(peer)) for reader, peer in portion)
            for reader, peer, *marks in await self._driver.run(RECEIPTS % wanted):
                current[str(reader, "utf-8"), str(peer, "utf-8")] = (marks[0], marks[1])
        states: list[ReceiptState] = []
        for reader, peer in pairs:
            before = current.get((reader, peer), (0, 0))
            arrived = max(before[0], delivered.get((reader, peer), 0))
            read = max(before[1], min(reads.get((reader, peer), 0), newest.get(reader, 0)))
            if (arrived, read) != before:
                states.append(ReceiptState(reader, peer, arrived, read))
        rows = [
            row(self._text(one.reader), self._text(one.peer), *map(number, (one.delivered, one.read, self._stamp)))
            for one in states
        ]
        await self._insert(RAISE_RECEIPTS, rows, RAISE_RECEIPTS_TAIL)
        return states

    async def _newest_items(self, readers: set[str]) -> dict[str, int]:
        """The mid of the newest item of each reader's inbox; those of this batch are known."""
        for portion in portions(sorted(readers - self._newest.keys())):
            for user, mid in await self._driver.run(NEWEST % listed(map(self._text, portion))):
                self._newest[str(user, "utf-8")] = mid
        return self._newest

    async def _insert(self, head: bytes, rows: Sequence[bytes], tail: bytes = b"") -> list[int]:
        """As many rows per statement as a packet holds. Returns the ids that the rows were given: the ids of one INSERT
        … VALUES are consecutive, whatever `innodb_autoinc_lock_mode` is, because the number of its rows is known."""
        ids: list[int] = []
        start = 0
        while start < len(rows):
            end, size = start, len(head) + len(tail) + 64
            while end < len(rows) and (end == start or size + len(rows[end]) < self._packet):
                size += len(rows[end]) + 1
                end += 1
            await self._driver.run(head + b",".join(rows[start:end]) + tail)
            first = self._driver.insert_id()
            ids.extend(range(first, first + (end - start) * self._step, self._step))
            start = end
        return ids


def _furthest(records: Iterable[tuple[K, int]]) -> dict[K, int]:
    """Cumulative records: of several of one key only the furthest means anything."""
    furthest: dict[K, int] = {}
    for key, value in records:
        if furthest.get(key, value) <= value:
            furthest[key] = value
    return furthest
