"""The statements of the group commit on MySQL. Each is a head, rows, and for some a tail.

Rows are sorted by their key and tables are taken in the order of this file, so that two nodes wait for one another but
never in a circle.

Only what MySQL 8.4, MariaDB 10.11, TiDB and Vitess all run: no RETURNING (MySQL), no `AS new` in ON DUPLICATE KEY
(MariaDB), no CTE, no window.
"""

from __future__ import annotations

# Who writes, and which of its batches this is: one row per store, changed in every transaction, so that after a lost
# connection the next transaction can ask what became of the last one. FOR UPDATE waits for it if it still runs.
MARK = b"INSERT INTO im_writer (writer, batch, updated) VALUES "
MARK_TAIL = b" ON DUPLICATE KEY UPDATE batch = VALUES(batch), updated = VALUES(updated)"
MARKED = b"SELECT batch FROM im_writer WHERE writer = %b FOR UPDATE"
FORGET_WRITERS = b"DELETE FROM im_writer WHERE updated < %b"
FORGET_WRITER = b"DELETE FROM im_writer WHERE writer = %b"

# The lock on the head is what makes n gap-free and in commit order. Message ids are drawn after it, so they rise with
# n: whoever waits for the lock draws later.
RAISE_HEADS = b"INSERT INTO im_inbox (user_id, head) VALUES "
RAISE_HEADS_TAIL = b" ON DUPLICATE KEY UPDATE head = head + VALUES(head)"
HEADS = b"SELECT user_id, head FROM im_inbox WHERE user_id IN (%b)"
NEWEST = (
    b"SELECT inbox.user_id, item.mid FROM im_inbox AS inbox JOIN im_offline AS item "
    b"ON item.to_user_id = inbox.user_id AND item.n = inbox.head WHERE inbox.user_id IN (%b)"
)

# Two statements for the two kinds: the ids of an INSERT that gives some and leaves out others are hard to foretell.
GIVEN = b"INSERT INTO im_message (mid, sender, device, id, recipient, kind, content, created, n, sync_n) VALUES "
MESSAGES = b"INSERT INTO im_message (sender, device, id, recipient, kind, content, created, n, sync_n) VALUES "
ITEMS = b"INSERT INTO im_offline (to_user_id, n, mid) VALUES "
REPEATS = b"SELECT sender, device, id, mid, n, created, sync_n FROM im_message WHERE (sender, device, id) IN (%b)"

PLACED = b"SELECT mid, sender, device, recipient, n, created, sync_n FROM im_message WHERE mid IN (%b)"

SEQUENCES = b"INSERT INTO im_sequence (sender, device, recipient, seq) VALUES "
SEQUENCES_TAIL = b" ON DUPLICATE KEY UPDATE seq = GREATEST(seq, VALUES(seq))"

# The counters of messages that are known by their `seq` alone, read when the heads of their recipients are locked.
COUNTERS = (
    b"SELECT sender, device, recipient, seq FROM im_sequence WHERE (sender, device, recipient) IN (%b) "
    b"ORDER BY sender, device, recipient FOR UPDATE"
)

# Read under lock, then written: what was refused or raised is known exactly, and a row that is not there is not made.
DEVICES = (
    b"SELECT user_id, device_id, epoch, inbox_cursor FROM im_device WHERE (user_id, device_id) IN (%b) "
    b"ORDER BY user_id, device_id FOR UPDATE"
)
MOVES = b"INSERT INTO im_device (user_id, device_id, inbox_cursor, epoch, last_seen) VALUES "
MOVES_TAIL = b" ON DUPLICATE KEY UPDATE inbox_cursor = GREATEST(inbox_cursor, VALUES(inbox_cursor))"

# By the primary key: left to itself MariaDB goes by the index on `peer` from a few thousand rows on, which takes three
# times as long and locks rows in the order of that index.
RECEIPTS = (
    b"SELECT reader, peer, delivered_mid, read_mid FROM im_receipt FORCE INDEX (PRIMARY) WHERE (reader, peer) IN (%b) "
    b"ORDER BY reader, peer FOR UPDATE"
)
RAISE_RECEIPTS = b"INSERT INTO im_receipt (reader, peer, delivered_mid, read_mid, updated) VALUES "
RAISE_RECEIPTS_TAIL = (
    b" ON DUPLICATE KEY UPDATE delivered_mid = GREATEST(delivered_mid, VALUES(delivered_mid)), "
    b"read_mid = GREATEST(read_mid, VALUES(read_mid)), updated = VALUES(updated)"
)
