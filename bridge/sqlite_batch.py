"""The statements of the group commit on SQLite. A whole batch is one statement, and so one step of the database.

Why one: the event loop is busy in another thread. Every step of a statement lets go of the interpreter lock and waits
to get it back, so a transaction of many steps stands still many times while SQLite's write lock is held. Outside of
BEGIN it also needs no journal of the single statement. 500 messages with their items, fsync included, ms at the median
(and the 90th percentile) and CPU of the writer per message, with an idle and with a fully busy uvloop in the main
thread (2 cores; `python scripts/measure_store.py` measures the real store):

    one row per step (executemany)          idle  4.7 ( 8.1) ms   7.7 us     busy   9.6 (17.9) ms   8.7 us
    64 rows per INSERT … VALUES             idle  7.3 (10.5) ms  12.0 us     busy  23.9 (36.4) ms  18.2 us
    500 rows per INSERT … VALUES            idle  5.0 ( 8.4) ms   9.0 us     busy  12.1 (22.9) ms  11.5 us
    INSERT … FROM json_each within BEGIN    idle  5.9 ( 9.3) ms  10.9 us     busy  23.1 (37.5) ms  16.5 us
    one INSERT, spread by a trigger         idle  4.2 ( 7.3) ms   7.7 us     busy   7.5 (11.0) ms   8.9 us

About 2 us of that is JSON, 0.6 us Python; the rest is B-trees, the write-ahead log and the disk.
"""

from __future__ import annotations

# A temporary view takes the batch as one row of JSON arrays; its trigger spreads it over the tables. Outside of BEGIN
# this one INSERT is a transaction of its own: it takes the write lock before it reads (as BEGIN IMMEDIATE does), and it
# ends with the fsync.
#   messages   [[mid, sender, device, id, recipient, kind, offset, length, created, n, sync_n], …]; the content is
#              `length` bytes of `contents` from `offset`, counted from 1
#   heads      [[user, head], …]             sequences  [[sender, device, recipient, seq], …]
#   moves      [[user, device, epoch, cursor], …]        one per (user, device, epoch)
#   delivered  [[reader, peer, mid], …]      reads      [[reader, peer, mid], …]        one per (reader, peer)
#   below      [mid, …] of the messages whose given mid is lower than first_mid
# Numbers (n, mid) are given out before: heads and the last mid are known here because this process is the only one that
# writes inboxes (`DatabaseLock`).
SCHEMA = """
CREATE TEMP VIEW commit_batch AS SELECT NULL AS messages, NULL AS contents, NULL AS first_mid, NULL AS below,
    NULL AS heads, NULL AS sequences, NULL AS moves, NULL AS delivered, NULL AS reads, NULL AS stamp;

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

    INSERT INTO im_offline (to_user_id, n, mid)
    SELECT recipient, n, mid FROM im_message WHERE mid IN (SELECT value FROM json_each(NEW.below))
    UNION ALL
    SELECT sender, sync_n, mid FROM im_message
    WHERE mid IN (SELECT value FROM json_each(NEW.below)) AND sync_n IS NOT NULL;

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
                 CASE WHEN EXISTS (SELECT 1 FROM im_message WHERE mid = json_extract(value, '$[2]')
                                   AND recipient = json_extract(value, '$[0]') AND sender = json_extract(value, '$[1]'))
                 THEN json_extract(value, '$[2]')
                 ELSE min(json_extract(value, '$[2]'),
                          (SELECT mid FROM im_offline WHERE to_user_id = json_extract(value, '$[0]')
                           ORDER BY n DESC LIMIT 1)) END AS mid
          FROM json_each(NEW.reads))
    WHERE mid > 0
    ON CONFLICT (reader, peer) DO UPDATE SET read_mid = excluded.read_mid, updated = excluded.updated
    WHERE excluded.read_mid > read_mid;
END;
"""

COMMIT = "INSERT INTO commit_batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

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

HEAD = "SELECT head FROM im_inbox WHERE user_id = ?"

REPEATS = """
SELECT json_group_array(json_array(message.sender, message.device, message.id,
                                   message.mid, message.n, message.created, message.sync_n))
FROM json_each(?) AS key CROSS JOIN im_message AS message
WHERE message.sender = json_extract(key.value, '$[0]') AND message.device = json_extract(key.value, '$[1]')
  AND message.id = json_extract(key.value, '$[2]')
"""

PLACED = """
SELECT json_group_array(json_array(mid, sender, device, recipient, n, created, sync_n))
FROM im_message WHERE mid IN (SELECT value FROM json_each(?))
"""

# The counters of messages that are known by their `seq` alone.
COUNTERS = """
SELECT json_group_array(json_array(counter.sender, counter.device, counter.recipient, counter.seq))
FROM json_each(?) AS key CROSS JOIN im_sequence AS counter
WHERE counter.sender = json_extract(key.value, '$[0]') AND counter.device = json_extract(key.value, '$[1]')
  AND counter.recipient = json_extract(key.value, '$[2]')
"""

LAST_MID = """
SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'im_message'), 0),
           coalesce((SELECT max(mid) FROM im_message), 0))
"""

LAST_STAMP = "SELECT coalesce(max(updated), 0) FROM im_receipt"
