"""The epochs of the journal's shards on MySQL: who has claimed one last may commit its batches, and nobody else.

A commit takes the rows of its shards before any head, in rising order, and a claim takes nothing else: they wait for
one another, but never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aldis.bridge.mysql_literals import number
from aldis.bridge.mysql_server import BoundedConnection
from aldis.bridge.mysql_trips import Rows, Trips
from aldis.broker.ports import ShardLost

# One statement for each: of a list the server may read the whole table, in any order, and lock other shards on its way.
HELD = b"SELECT epoch FROM im_shard WHERE shard = %b FOR UPDATE"

# LAST_INSERT_ID(…) hands the new epoch to the one who has made it.
CLAIM = b"INSERT INTO im_shard (shard, epoch) VALUES (%b,1) ON DUPLICATE KEY UPDATE epoch = LAST_INSERT_ID(epoch + 1)"
INSERTED = 1
"""Rows that CLAIM says it affected where there was none; for one that it has changed it says 2."""


def check(trips: Trips, shards: Sequence[tuple[int, int]]) -> None:
    """With the next trip, which raises `ShardLost`. The transaction of the commit has the rows from there on."""
    waiting = sorted(shards)
    last = waiting[-1]
    lost: list[tuple[int, int]] = []

    def take(shard: int, epoch: int, rows: Rows) -> None:
        if not rows or rows[0][0] != epoch:
            lost.append((shard, epoch))
        if lost and (shard, epoch) == last:
            raise ShardLost(lost)

    for shard, epoch in waiting:
        trips.add(HELD % number(shard), partial(take, shard, epoch))


async def claim(driver: BoundedConnection, shard: int) -> int:
    """In autocommit: durable on return."""
    await driver.run(CLAIM % number(shard))
    return 1 if driver.affected_rows() == INSERTED else driver.insert_id()
