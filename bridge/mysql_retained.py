"""Retained messages on MySQL."""

from __future__ import annotations

from aldis.bridge.mysql_literals import blob, listed, number, portions, row, text
from aldis.bridge.mysql_server import BoundedConnection
from aldis.bridge.retained import RetainedRow, owner_of
from aldis.broker.ports import RetainedMessage

KEEP = b"INSERT INTO im_retained (owner, topic_hash, topic, payload, qos) VALUES "
KEEP_TAIL = b" ON DUPLICATE KEY UPDATE payload = VALUES(payload), qos = VALUES(qos)"

REMOVE = b"DELETE FROM im_retained WHERE (owner, topic_hash) IN (%b)"

# The order is a BLOB's: by its first `max_sort_length` bytes, which are 1,024 unless the operator says otherwise.
RETAINED = (
    b"SELECT topic, payload, qos FROM im_retained WHERE owner = %b AND LEFT(topic, %b) = %b ORDER BY topic LIMIT %b"
)


async def keep(driver: BoundedConnection, kept: list[RetainedRow], *, packet: int) -> None:
    """Within a transaction that the caller ends. `packet` is the longest statement in bytes."""
    rows: list[bytes] = []
    size = 0
    for one in kept:
        literal = row(text(one.owner), blob(one.topic_hash), blob(one.topic), blob(one.payload), number(one.qos))
        if rows and size + len(literal) > packet - len(KEEP) - len(KEEP_TAIL):
            await driver.run(KEEP + listed(rows) + KEEP_TAIL)
            rows, size = [], 0
        rows.append(literal)
        size += len(literal) + 1
    await driver.run(KEEP + listed(rows) + KEEP_TAIL)


async def remove(driver: BoundedConnection, removed: list[RetainedRow]) -> None:
    """Within a transaction that the caller ends."""
    for portion in portions(removed):
        await driver.run(REMOVE % listed(row(text(one.owner), blob(one.topic_hash)) for one in portion))


async def retained(driver: BoundedConnection, prefix: str, limit: int) -> list[RetainedMessage]:
    begin = prefix.encode()
    answer = await driver.run(
        RETAINED % (text(owner_of(prefix)), number(len(begin)), blob(begin), number(max(limit, 0)))
    )
    found = [RetainedMessage(str(topic, "utf-8"), payload, qos) for topic, payload, qos in answer]
    return sorted(found, key=lambda message: message.topic.encode())
