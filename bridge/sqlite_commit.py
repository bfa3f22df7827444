"""The group commit on SQLite: numbers for the messages of a batch, and one statement (`sqlite_batch`) for all of it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Sized
from typing import NamedTuple, TypeVar

import msgspec

from aldis.bridge import sqlite_shards
from aldis.bridge.given_mids import Placed, given_mids, repeat_of
from aldis.bridge.sqlite_batch import COMMIT, COUNTERS, HEAD, HEADS, LAST_MID, LAST_STAMP, OUTCOME, PLACED, REPEATS
from aldis.broker.ports import Batch, Committed, NewMessage, ReceiptState, Stored

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=tuple[object, ...])

MAX_HEADS = 200_000
"""Inbox heads kept in memory, about 150 bytes each; beyond it they are read again."""

WARY_BATCHES = 64
"""Batches that look for repeats first after one was seen: a look costs a fifth of a commit, a conflict all of it."""

_encode = msgspec.json.Encoder().encode


def _json(rows: Sized) -> str | None:
    return str(_encode(rows), "utf-8") if rows else None


def _furthest(records: Iterable[tuple[K, int]]) -> dict[K, int]:
    """Cumulative records: of several of one key only the furthest means anything."""
    furthest: dict[K, int] = {}
    for key, value in records:
        if furthest.get(key, value) <= value:
            furthest[key] = value
    return furthest


def _flat(furthest: dict[K, int]) -> list[tuple[object, ...]]:
    return [(*key, value) for key, value in furthest.items()]


Key = tuple[str, str, str]

_heads_decoder = msgspec.json.Decoder(list[tuple[str, int]])
_repeats_decoder = msgspec.json.Decoder(list[tuple[str, str, str, int, int, int, int | None]])
_placed_decoder = msgspec.json.Decoder(list[tuple[int, str, str, str, int, int, int | None]])
_counters_decoder = msgspec.json.Decoder(list[tuple[str, str, str, int]])
_fenced_decoder = msgspec.json.Decoder(list[int])
_receipts_decoder = msgspec.json.Decoder(list[tuple[str, str, int, int]])


class _Numbered:
    """The messages of a batch with their numbers, as the statement takes them."""

    __slots__ = ("below", "contents", "heads", "mid", "repeats", "rows", "sequences", "stored")

    def __init__(self, mid: int) -> None:
        self.mid = mid
        self.below: list[int] = []
        self.rows: list[tuple[object, ...]] = []
        self.contents: list[bytes] = []
        self.heads: dict[str, int] = {}
        self.sequences: dict[Key, int] = {}
        self.stored: list[Stored] = []
        self.repeats = 0


class _Given(NamedTuple):
    """The mids that the caller gives: the highest, the messages that are stored under them already, and whether one is
    given twice."""

    highest: int
    placed: dict[int, Placed]
    twice: bool


_NOTHING_GIVEN = _Given(0, {}, False)


class _Marks(NamedTuple):
    """The cumulative records of a batch, the furthest of each key; `moves_json` as the statements take them."""

    moves: dict[tuple[str, str, int], int]
    delivered: dict[tuple[str, str], int]
    reads: dict[tuple[str, str], int]
    moves_json: str | None


def _marks(batch: Batch) -> _Marks:
    moves = _furthest(((move.user, move.device, move.epoch), move.cursor) for move in batch.moves)
    delivered = _furthest(((one.reader, one.peer), one.mid) for one in batch.delivered)
    reads = _furthest(((one.reader, one.peer), one.mid) for one in batch.reads)
    return _Marks(moves, delivered, reads, _json(_flat(moves)))


class _Attempted(NamedTuple):
    """A batch whose statement has not come to a good end, and what it is worth if it took effect all the same: then
    `head` is that of `user`'s inbox, because nobody else raises any."""

    batch: Batch
    user: str
    head: int
    stamp: int
    stored: list[Stored]


class Committer:
    """Numbers the messages of a batch and writes all of it. Belongs to the writer's thread.

    What it remembers between batches (heads, the last mid) is only what SQL holds: after any error it is dropped and
    read again.
    """

    def __init__(self) -> None:
        self._heads: dict[str, int] = {}
        self._mid: int | None = None
        self._stamp = 0  # `updated` of the last commit's receipts: the time, but rising even where the clock does not
        self._wary = 0
        self._doubt: _Attempted | None = None

    def commit(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        """Raises `sqlite3.Error`; then nothing was written, or the end of the transaction is unknown: call it with the
        very same batch again to learn which."""
        try:
            committed = self._commit(connection, batch)
        except BaseException:
            self._forget()
            raise
        self._doubt = None
        return committed

    def _commit(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        doubt = self._doubt
        if doubt is not None and doubt.batch is batch:
            if connection.execute(HEAD, (doubt.user,)).fetchone() == (doubt.head,):
                logger.warning("the commit that failed had taken effect")
                return self._outcome(connection, batch, doubt.stored, _marks(batch), doubt.stamp)
        if batch.shards:
            # nobody claims them before this is written: that is done in this thread, too
            sqlite_shards.check(connection, batch.shards)
        given = self._given(connection, batch.messages)
        look = self._wary or given.placed or given.twice  # an `id` decides before a mid
        known = self._repeats(connection, batch.messages) if look else None
        try:
            return self._write(connection, batch, known, given)
        except sqlite3.IntegrityError:
            # A repeat, of an earlier batch or within this one. Should it be anything else, the second attempt
            # starts from what SQL says and fails in the same way.
            self._forget()
            self._wary = WARY_BATCHES
            return self._write(connection, batch, self._repeats(connection, batch.messages), given)

    def _forget(self) -> None:
        self._heads.clear()
        self._mid = None

    def _repeats(self, connection: sqlite3.Connection, messages: list[NewMessage]) -> dict[Key, Stored]:
        keys = {(message.sender, message.device, message.id): None for message in messages if message.id is not None}
        if not keys:
            return {}
        found = _repeats_decoder.decode(connection.execute(REPEATS, (_json(list(keys)),)).fetchone()[0])
        return {
            (sender, device, id): Stored(mid, n, created, sync_n, True)
            for sender, device, id, mid, n, created, sync_n in found
        }

    def _given(self, connection: sqlite3.Connection, messages: list[NewMessage]) -> _Given:
        mids = given_mids(messages)
        if not mids:
            return _NOTHING_GIVEN
        found = _placed_decoder.decode(connection.execute(PLACED, (_json(mids),)).fetchone()[0])
        placed = {
            mid: Placed(sender, device, recipient, Stored(mid, n, created, sync_n, True))
            for mid, sender, device, recipient, n, created, sync_n in found
        }
        return _Given(max(mids), placed, len(set(mids)) != len(mids))

    def _counters(self, connection: sqlite3.Connection, messages: list[NewMessage]) -> dict[Key, int]:
        """The last `seq` stored for those counters of which a message is known by its `seq` alone."""
        keys = {
            (one.sender, one.device, one.recipient): 0 for one in messages if one.seq is not None and one.id is None
        }
        if keys:
            found = connection.execute(COUNTERS, (_json(list(keys)),)).fetchone()[0]
            for sender, device, recipient, seq in _counters_decoder.decode(found):
                keys[sender, device, recipient] = seq
        return keys

    def _write(
        self, connection: sqlite3.Connection, batch: Batch, known: dict[Key, Stored] | None, given: _Given
    ) -> Committed:
        last_mid = self._last_mid(connection)
        if batch.messages:
            self._load_heads(connection, batch.messages)
        counters = self._counters(connection, batch.messages)
        numbered = self._number(batch.messages, last_mid, known, counters, given)
        stamp = self._stamp = max(time.time_ns() // 1_000_000, self._stamp + 1)
        marks = _marks(batch)
        if numbered.rows:
            user, head = next(iter(numbered.heads.items()))
            self._doubt = _Attempted(batch, user, head, stamp, numbered.stored)
        connection.execute(
            COMMIT,
            (
                _json(numbered.rows),
                b"".join(numbered.contents),
                last_mid + 1,
                _json(numbered.below),
                _json(list(numbered.heads.items())),
                _json(_flat(numbered.sequences)),
                marks.moves_json,
                _json(_flat(marks.delivered)),
                _json(_flat(marks.reads)),
                stamp,
            ),
        )
        self._heads.update(numbered.heads)
        self._mid = numbered.mid
        if numbered.repeats:
            self._wary = WARY_BATCHES
        elif self._wary:
            self._wary -= 1
        return self._outcome(connection, batch, numbered.stored, marks, stamp)

    def _outcome(
        self, connection: sqlite3.Connection, batch: Batch, stored: list[Stored], marks: _Marks, stamp: int
    ) -> Committed:
        moves, delivered, reads, moves_json = marks
        if not (moves or delivered or reads):
            return Committed(stored, [], [])
        pairs = _json(list(delivered | reads))
        fenced_json, raised_json = connection.execute(OUTCOME, (moves_json, pairs, stamp)).fetchone()
        stale = set(map(list(moves).__getitem__, _fenced_decoder.decode(fenced_json)))
        return Committed(
            stored,
            [move for move in batch.moves if (move.user, move.device, move.epoch) in stale] if stale else [],
            [ReceiptState(*state) for state in _receipts_decoder.decode(raised_json)],
        )

    def _last_mid(self, connection: sqlite3.Connection) -> int:
        if self._mid is None:
            self._mid = int(connection.execute(LAST_MID).fetchone()[0])
        if not self._stamp:
            self._stamp = int(connection.execute(LAST_STAMP).fetchone()[0])
        return self._mid

    def _load_heads(self, connection: sqlite3.Connection, messages: list[NewMessage]) -> None:
        users = {message.recipient for message in messages}
        users.update([message.sender for message in messages if message.sync])
        if len(self._heads) + len(users) > MAX_HEADS:
            self._heads.clear()
        missing = users - self._heads.keys()
        if missing:
            self._heads.update(dict.fromkeys(missing, 0))
            found = connection.execute(HEADS, (_json(list(missing)),)).fetchone()[0]
            self._heads.update(_heads_decoder.decode(found))

    def _number(
        self,
        messages: list[NewMessage],
        last_mid: int,
        known: dict[Key, Stored] | None,
        counters: dict[Key, int],
        given: _Given,
    ) -> _Numbered:
        numbered = _Numbered(max(last_mid, given.highest))
        placed = dict(given.placed)
        before, heads, stored = self._heads, numbered.heads, numbered.stored
        offset = 1
        for message in messages:
            sender, device, recipient, id = message.sender, message.device, message.recipient, message.id
            there = placed.get(message.mid) if message.mid else None
            if message.seq is not None:
                counter = (sender, device, recipient)
                last = numbered.sequences.get(counter) or counters.get(counter, 0)
                if id is None and message.seq <= last:
                    stored.append(Stored(0, 0, 0, None, True) if there is None else repeat_of(message, there))
                    continue
                numbered.sequences[counter] = max(last, message.seq)
            if known is not None and id is not None and (first := known.get((sender, device, id))) is not None:
                stored.append(first)
                numbered.repeats += 1
                continue
            if there is not None:
                stored.append(repeat_of(message, there))
                continue
            mid = message.mid
            if not mid:
                numbered.mid = mid = numbered.mid + 1
            elif mid <= last_mid:
                numbered.below.append(mid)
            heads[recipient] = n = (heads.get(recipient) or before[recipient]) + 1
            sync_n = None
            if message.sync and sender != recipient:
                heads[sender] = sync_n = (heads.get(sender) or before[sender]) + 1
            content, created = message.content, message.created
            length = len(content)
            numbered.contents.append(content)
            numbered.rows.append((mid, sender, device, id, recipient, message.kind, offset, length, created, n, sync_n))
            offset += length
            stored.append(Stored(mid, n, created, sync_n))
            if known is not None and id is not None:
                known[sender, device, id] = Stored(mid, n, created, sync_n, True)
            if message.mid:
                placed[mid] = Placed(sender, device, recipient, stored[-1])
        return numbered
