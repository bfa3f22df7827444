"""Retained messages on SQLite."""

from __future__ import annotations

import sqlite3

from aldis.bridge.retained import RetainedRow, owner_of
from aldis.broker.ports import RetainedMessage

KEEP = """
INSERT INTO im_retained (owner, topic_hash, topic, payload, qos) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (owner, topic_hash) DO UPDATE SET payload = excluded.payload, qos = excluded.qos
"""

REMOVE = "DELETE FROM im_retained WHERE owner = ? AND topic_hash = ?"

RETAINED = """
SELECT topic, payload, qos FROM im_retained
WHERE owner = ? AND substr(topic, 1, ?) = ? ORDER BY topic LIMIT ?
"""


def retain(connection: sqlite3.Connection, kept: list[RetainedRow], removed: list[RetainedRow]) -> None:
    """One transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(KEEP, kept)
    connection.executemany(REMOVE, [(row.owner, row.topic_hash) for row in removed])
    connection.execute("COMMIT")


def retained(connection: sqlite3.Connection, prefix: str, limit: int) -> list[RetainedMessage]:
    begin = prefix.encode()
    rows = connection.execute(RETAINED, (owner_of(prefix), len(begin), begin, max(limit, 0)))
    return [RetainedMessage(str(topic, "utf-8"), payload, qos) for topic, payload, qos in rows]
