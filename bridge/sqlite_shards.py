"""The epochs of the journal's shards on SQLite: claims and commits follow one another in the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from aldis.broker.ports import ShardLost

HELD = "SELECT epoch FROM im_shard WHERE shard = ?"
CLAIM = "INSERT INTO im_shard (shard, epoch) VALUES (?, 1) ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1"


def check(connection: sqlite3.Connection, shards: Sequence[tuple[int, int]]) -> None:
    """Raises `ShardLost`."""
    lost = [(shard, epoch) for shard, epoch in shards if connection.execute(HELD, (shard,)).fetchone() != (epoch,)]
    if lost:
        raise ShardLost(lost)


def claim(connection: sqlite3.Connection, shard: int) -> int:
    """One transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(CLAIM, (shard,))
    (epoch,) = connection.execute(HELD, (shard,)).fetchone()
    connection.execute("COMMIT")
    return int(epoch)
