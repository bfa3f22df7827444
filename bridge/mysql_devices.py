"""Taking and leaving devices on MySQL, many in one transaction (`device_requests`).

A claim takes the lock on the user's inbox row before it looks at the devices: so claims of one user, on whatever node,
come one after the other, the limit holds, and the head it reports is exact. Tables and rows are taken in the order of
the group commit.
"""

from __future__ import annotations

from aldis.bridge.device_requests import Leaving, Taking
from aldis.bridge.mysql_batch import HEADS
from aldis.bridge.mysql_literals import listed, number, row, text
from aldis.bridge.mysql_server import BoundedConnection
from aldis.broker.ports import Claim, TooManyDevices

LOCK = b"INSERT INTO im_inbox (user_id, head) VALUES %b ON DUPLICATE KEY UPDATE head = head"

KNOWN = (
    b"SELECT user_id, device_id, inbox_cursor, epoch, last_seen FROM im_device WHERE user_id IN (%b) "
    b"ORDER BY user_id, device_id FOR UPDATE"
)

WRITE = (
    b"INSERT INTO im_device (user_id, device_id, inbox_cursor, epoch, last_seen) VALUES %b "
    b"ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), last_seen = VALUES(last_seen)"
)

FORGET_COUNTERS = b"DELETE FROM im_sequence WHERE sender = %b AND device = %b"

FORGET = b"DELETE FROM im_device WHERE user_id = %b AND device_id = %b"

Row = tuple[int, int, int]
"""Cursor, epoch, last seen."""


async def turn_over(
    driver: BoundedConnection, leaving: list[Leaving], taking: list[Taking]
) -> list[Claim | TooManyDevices]:
    """Within a transaction that the caller ends. The results belong to `taking`, in its order."""
    heads: dict[str, int] = {}
    if taking:
        takers = [text(user) for user in sorted({request.user for request in taking})]
        await driver.run(LOCK % listed(row(user, b"0") for user in takers))
        heads = {str(user, "utf-8"): head for user, head in await driver.run(HEADS % listed(takers))}
    users = sorted({request.user for request in leaving} | {request.user for request in taking})
    devices: dict[str, dict[str, Row]] = {user: {} for user in users}
    for user, device, *values in await driver.run(KNOWN % listed(map(text, users))):
        devices[str(user, "utf-8")][str(device, "utf-8")] = (values[0], values[1], values[2])
    results, changed = decide(devices, heads, leaving, taking)
    if changed:
        rows = [row(text(user), text(device), *map(number, devices[user][device])) for user, device in sorted(changed)]
        await driver.run(WRITE % listed(rows))
    return results


def decide(
    devices: dict[str, dict[str, Row]], heads: dict[str, int], leaving: list[Leaving], taking: list[Taking]
) -> tuple[list[Claim | TooManyDevices], set[tuple[str, str]]]:
    """Changes `devices` (by user, by device) and says what the claims got and which rows are to be written."""
    changed: set[tuple[str, str]] = set()
    for user, device, epoch, last_seen in leaving:
        known = devices[user].get(device)
        if known is not None and known[1] == epoch:
            devices[user][device] = (known[0], epoch, last_seen)
            changed.add((user, device))
    results: list[Claim | TooManyDevices] = []
    for user, device, now, limit in taking:
        mine = devices[user]
        before = mine.get(device)
        if before is None and len(mine) >= limit:
            results.append(TooManyDevices(limit))
            continue
        if before is None:
            # ADR-0008: after `forget_device` no epoch of the old life is given out again
            cursor, epoch = max((other[0] for other in mine.values()), default=0), now
        else:
            cursor, epoch = before[0], before[1] + 1
        mine[device] = (cursor, epoch, now)
        changed.add((user, device))
        results.append(Claim(epoch, cursor, heads.get(user, 0), before is None))
    return results, changed


async def forget(driver: BoundedConnection, user: str, device: str) -> bool:
    """Within a transaction that the caller ends."""
    await driver.run(FORGET_COUNTERS % (text(user), text(device)))
    await driver.run(FORGET % (text(user), text(device)))
    return bool(driver.affected_rows())
