"""Taking and leaving devices on SQLite: many in one transaction (`device_requests`)."""

from __future__ import annotations

import sqlite3

import msgspec

from aldis.bridge.device_requests import Leaving, Taking
from aldis.broker.ports import Claim, TooManyDevices

RELEASE = """
UPDATE im_device SET last_seen = json_extract(gone.value, '$[3]')
FROM json_each(?) AS gone
WHERE user_id = json_extract(gone.value, '$[0]') AND device_id = json_extract(gone.value, '$[1]')
  AND epoch = json_extract(gone.value, '$[2]')
"""

STATE = """
SELECT (SELECT json_group_array(json_array(user_id, device_id, inbox_cursor, epoch)) FROM im_device
        WHERE user_id IN (SELECT value FROM json_each(?1))),
       (SELECT json_group_array(json_array(user_id, head)) FROM im_inbox
        WHERE user_id IN (SELECT value FROM json_each(?1)))
"""

TAKE = """
INSERT INTO im_device (user_id, device_id, inbox_cursor, epoch, last_seen)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]')
FROM json_each(?) WHERE true
ON CONFLICT (user_id, device_id) DO UPDATE SET epoch = excluded.epoch, last_seen = excluded.last_seen
"""

FORGET_COUNTERS = "DELETE FROM im_sequence WHERE sender = ? AND device = ?"
FORGET = "DELETE FROM im_device WHERE user_id = ? AND device_id = ?"

_encode = msgspec.json.Encoder().encode
_devices_decoder = msgspec.json.Decoder(list[tuple[str, str, int, int]])
_heads_decoder = msgspec.json.Decoder(list[tuple[str, int]])


def turn_over(
    connection: sqlite3.Connection, leaving: list[Leaving], taking: list[Taking]
) -> list[Claim | TooManyDevices]:
    """Does all of it in one transaction; the results belong to `taking`, in its order.

    Who leaves goes first: a claim made in the same transaction would overwrite `last_seen` in any case.
    """
    connection.execute("BEGIN IMMEDIATE")
    if leaving:
        connection.execute(RELEASE, (str(_encode(leaving), "utf-8"),))
    results = _take(connection, taking) if taking else []
    connection.execute("COMMIT")
    return results


def _take(connection: sqlite3.Connection, taking: list[Taking]) -> list[Claim | TooManyDevices]:
    users = str(_encode(list({request.user for request in taking})), "utf-8")
    known_json, heads_json = connection.execute(STATE, (users,)).fetchone()
    heads = dict(_heads_decoder.decode(heads_json))
    cursors: dict[str, dict[str, int]] = {}
    epochs: dict[tuple[str, str], int] = {}
    for user, device, cursor, epoch in _devices_decoder.decode(known_json):
        cursors.setdefault(user, {})[device] = cursor
        epochs[user, device] = epoch
    rows: dict[tuple[str, str], tuple[str, str, int, int, int]] = {}
    results: list[Claim | TooManyDevices] = []
    for user, device, now, limit in taking:
        mine = cursors.setdefault(user, {})
        created = device not in mine
        if created and len(mine) >= limit:
            results.append(TooManyDevices(limit))
            continue
        if created:
            mine[device] = max(mine.values(), default=0)
        # The first epoch is the time: after `forget_device` no epoch of the old life is given out again.
        epochs[user, device] = now if created else epochs[user, device] + 1
        rows[user, device] = (user, device, mine[device], epochs[user, device], now)
        results.append(Claim(epochs[user, device], mine[device], heads.get(user, 0), created))
    if rows:
        connection.execute(TAKE, (str(_encode(list(rows.values())), "utf-8"),))
    return results


def forget(connection: sqlite3.Connection, user: str, device: str) -> bool:
    """One transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(FORGET_COUNTERS, (user, device))
    known = connection.execute(FORGET, (user, device)).rowcount > 0
    connection.execute("COMMIT")
    return known
