"""The group commit on SQLite: a whole batch is one statement, and so one step of the database.

Why one: the event loop is busy in another thread. Every step of a statement lets go of the interpreter lock and waits
to get it back, so a transaction of many steps stands still many times while SQLite's write lock is held. Outside of
BEGIN it also needs no journal of the single statement. 500 messages with their items, fsync included, ms at the median
(and the 90th percentile) and CPU of the writer per message, with an idle and with a fully busy uvloop in the main
thread (2 cores; `python -m benchmarks.store` measures the real store):

    one row per step (executemany)          idle  4.7 ( 8.1) ms   7.7 us     busy   9.6 (17.9) ms   8.7 us
    64 rows per INSERT … VALUES             idle  7.3 (10.5) ms  12.0 us     busy  23.9 (36.4) ms  18.2 us
    500 rows per INSERT … VALUES            idle  5.0 ( 8.4) ms   9.0 us     busy  12.1 (22.9) ms  11.5 us
    INSERT … FROM json_each within BEGIN    idle  5.9 ( 9.3) ms  10.9 us     busy  23.1 (37.5) ms  16.5 us
    one INSERT, spread by a trigger         idle  4.2 ( 7.3) ms   7.7 us     busy   7.5 (11.0) ms   8.9 us

About 2 us of that is JSON, 0.6 us Python; the rest is B-trees, the write-ahead log and the disk.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sized
from typing import TypeVar

import msgspec

from aldis.broker.ports import Batch, Committed, NewMessage, ReceiptState, Stored

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


# A temporary view takes the batch as one row of JSON arrays; its trigger spreads it over the tables. Outside of BEGIN
# this one INSERT is a transaction of its own: it takes the write lock before it reads (as BEGIN IMMEDIATE does), and it
# ends with the fsync.
#   messages   [[mid, sender, device, id, recipient, kind, offset, length, created, n, sync_n], …]; the content is
#              `length` bytes of `contents` from `offset`, counted from 1
#   heads      [[user, head], …]             sequences  [[sender, device, recipient, seq], …]
#   moves      [[user, device, epoch, cursor], …]        one per (user, device, epoch)
#   delivered  [[reader, peer, mid], …]      reads      [[reader, peer, mid], …]        one per (reader, peer)
# Numbers (n, mid) are given out before: heads and the last mid are known here because this process is the only one that
# writes inboxes (`DatabaseLock`).
SCHEMA = """
CREATE TEMP VIEW commit_batch AS SELECT NULL AS messages, NULL AS contents, NULL AS first_mid, NULL AS heads,
    NULL AS sequences, NULL AS moves, NULL AS delivered, NULL AS reads, NULL AS stamp;

CREATE TEMP TRIGGER commit_batch_insert INSTEAD OF INSERT ON commit_batch BEGIN

    INSERT INTO im_message (mid, sender, device, id, recipient, kind, content, created, n, sync_n)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
           coalesce(substr(NEW.contents, json_extract(value, '$[6]'), json_extract(value, '$[7]')), x''),
           json_extract(value, '$[8]'), json_extract(value, '$[9]'), json_extract(value, '$[10]')
    FROM json_each(NEW.messages);

    INSERT INTO im_offline (to_user_id, n, mid)
    SELECT recipient, n, mid FROM im_message WHERE mid >= NEW.first_mid;

    INSERT INTO im_offline (to_user_id, n, mid)
    SELECT sender, sync_n, mid FROM im_message WHERE mid >= NEW.first_mid AND sync_n IS NOT NULL;

    INSERT INTO im_inbox (user_id, head)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(NEW.heads) WHERE true
    ON CONFLICT (user_id) DO UPDATE SET head = excluded.head;

    INSERT INTO im_sequence (sender, device, recipient, seq)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]')
    FROM json_each(NEW.sequences) WHERE true
    ON CONFLICT (sender, device, recipient) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq;

    UPDATE im_device SET inbox_cursor = move.cursor
    FROM (SELECT json_extract(value, '$[0]') AS user_id, json_extract(value, '$[1]') AS device_id,
                 json_extract(value, '$[2]') AS epoch,
                 min(json_extract(value, '$[3]'),
                     (SELECT head FROM im_inbox WHERE user_id = json_extract(value, '$[0]'))) AS cursor
          FROM json_each(NEW.moves)) AS move
    WHERE im_device.user_id = move.user_id AND im_device.device_id = move.device_id
      AND im_device.epoch = move.epoch AND im_device.inbox_cursor < move.cursor;

    INSERT INTO im_receipt (reader, peer, delivered_mid, read_mid, updated)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), 0, NEW.stamp
    FROM json_each(NEW.delivered) WHERE json_extract(value, '$[2]') > 0
    ON CONFLICT (reader, peer) DO UPDATE SET delivered_mid = excluded.delivered_mid, updated = excluded.updated
    WHERE excluded.delivered_mid > delivered_mid;

    INSERT INTO im_receipt (reader, peer, delivered_mid, read_mid, updated)
    SELECT reader, peer, 0, mid, NEW.stamp
    FROM (SELECT json_extract(value, '$[0]') AS reader, json_extract(value, '$[1]') AS peer,
                 (SELECT max(mid) FROM im_message
                  WHERE recipient = json_extract(value, '$[0]') AND sender = json_extract(value, '$[1]')
                    AND mid <= json_extract(value, '$[2]')) AS mid
          FROM json_each(NEW.reads))
    WHERE mid IS NOT NULL
    ON CONFLICT (reader, peer) DO UPDATE SET read_mid = excluded.read_mid, updated = excluded.updated
    WHERE excluded.read_mid > read_mid;
END;
"""

COMMIT = "INSERT INTO commit_batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

# What the statement cannot tell by itself, in one row: moves that met another epoch, receipts that carry its stamp.
OUTCOME = """
SELECT (SELECT json_group_array(move.key) FROM json_each(?1) AS move
        WHERE NOT EXISTS (SELECT 1 FROM im_device
                          WHERE user_id = json_extract(move.value, '$[0]')
                            AND device_id = json_extract(move.value, '$[1]')
                            AND epoch = json_extract(move.value, '$[2]'))),
       (SELECT json_group_array(json_array(reader, peer, delivered_mid, read_mid))
        FROM json_each(?2) AS pair CROSS JOIN im_receipt
        WHERE reader = json_extract(pair.value, '$[0]') AND peer = json_extract(pair.value, '$[1]') AND updated = ?3)
"""

HEADS = """
SELECT json_group_array(json_array(user_id, head)) FROM im_inbox WHERE user_id IN (SELECT value FROM json_each(?))
"""

REPEATS = """
SELECT json_group_array(json_array(message.sender, message.device, message.id,
                                   message.mid, message.n, message.created, message.sync_n))
FROM json_each(?) AS key CROSS JOIN im_message AS message
WHERE message.sender = json_extract(key.value, '$[0]') AND message.device = json_extract(key.value, '$[1]')
  AND message.id = json_extract(key.value, '$[2]')
"""

LAST_MID = """
SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'im_message'), 0),
           coalesce((SELECT max(mid) FROM im_message), 0))
"""

LAST_STAMP = "SELECT coalesce(max(updated), 0) FROM im_receipt"

Key = tuple[str, str, str]

_heads_decoder = msgspec.json.Decoder(list[tuple[str, int]])
_repeats_decoder = msgspec.json.Decoder(list[tuple[str, str, str, int, int, int, int | None]])
_fenced_decoder = msgspec.json.Decoder(list[int])
_receipts_decoder = msgspec.json.Decoder(list[tuple[str, str, int, int]])


class _Numbered:
    """The messages of a batch with their numbers, as the statement takes them."""

    __slots__ = ("contents", "heads", "mid", "repeats", "rows", "sequences", "stored")

    def __init__(self, mid: int) -> None:
        self.mid = mid
        self.rows: list[tuple[object, ...]] = []
        self.contents: list[bytes] = []
        self.heads: dict[str, int] = {}
        self.sequences: dict[Key, int] = {}
        self.stored: list[Stored] = []
        self.repeats = 0


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

    def commit(self, connection: sqlite3.Connection, batch: Batch) -> Committed:
        """Raises `sqlite3.Error`; then nothing was written, or the end of the transaction is unknown."""
        try:
            known = self._repeats(connection, batch.messages) if self._wary else None
            try:
                return self._write(connection, batch, known)
            except sqlite3.IntegrityError:
                # A repeat, of an earlier batch or within this one. Should it be anything else, the second attempt
                # starts from what SQL says and fails in the same way.
                self._forget()
                self._wary = WARY_BATCHES
                return self._write(connection, batch, self._repeats(connection, batch.messages))
        except BaseException:
            self._forget()
            raise

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

    def _write(self, connection: sqlite3.Connection, batch: Batch, known: dict[Key, Stored] | None) -> Committed:
        last_mid = self._last_mid(connection)
        if batch.messages:
            self._load_heads(connection, batch.messages)
        numbered = self._number(batch.messages, last_mid, known)
        stamp = self._stamp = max(time.time_ns() // 1_000_000, self._stamp + 1)
        moves = _furthest(((move.user, move.device, move.epoch), move.cursor) for move in batch.moves)
        delivered = _furthest(((one.reader, one.peer), one.mid) for one in batch.delivered)
        reads = _furthest(((one.reader, one.peer), one.mid) for one in batch.reads)
        moves_json = _json(_flat(moves))
        connection.execute(
            COMMIT,
            (
                _json(numbered.rows),
                b"".join(numbered.contents),
                last_mid + 1,
                _json(list(numbered.heads.items())),
                _json(_flat(numbered.sequences)),
                moves_json,
                _json(_flat(delivered)),
                _json(_flat(reads)),
                stamp,
            ),
        )
        self._heads.update(numbered.heads)
        self._mid = numbered.mid
        if numbered.repeats:
            self._wary = WARY_BATCHES
        elif self._wary:
            self._wary -= 1
        if not (moves or delivered or reads):
            return Committed(numbered.stored, [], [])
        pairs = _json(list(delivered | reads))
        fenced_json, raised_json = connection.execute(OUTCOME, (moves_json, pairs, stamp)).fetchone()
        stale = set(map(list(moves).__getitem__, _fenced_decoder.decode(fenced_json)))
        return Committed(
            numbered.stored,
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

    def _number(self, messages: list[NewMessage], mid: int, known: dict[Key, Stored] | None) -> _Numbered:
        numbered = _Numbered(mid)
        before, heads, stored = self._heads, numbered.heads, numbered.stored
        offset = 1
        for message in messages:
            sender, device, recipient, id = message.sender, message.device, message.recipient, message.id
            if message.seq is not None:
                counter = (sender, device, recipient)
                numbered.sequences[counter] = max(numbered.sequences.get(counter, 0), message.seq)
            if known is not None and id is not None and (first := known.get((sender, device, id))) is not None:
                stored.append(first)
                numbered.repeats += 1
                continue
            mid += 1
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
        numbered.mid = mid
        return numbered
