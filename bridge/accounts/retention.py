"""Lets go of what nobody needs any more: old messages that every device has passed, and devices long not seen.

Nothing goes that a device has not acknowledged, that the history has not got, or that is the newest item of its inbox
(to which read receipts are lowered). A message goes when both its items, the recipient's and the sender's copy, are
gone. If it had an `id`, an empty row stays for a while, so that the same (device, id) is not stored anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.pairs import ordered
from aldis.bridge.accounts.users import DELETED
from aldis.bridge.schema import im_device, im_history, im_history_place, im_inbox, im_message, im_offline, im_user

logger = logging.getLogger(__name__)

_INBOXES = (
    select(im_inbox.c.user_id, im_inbox.c.head, im_history_place.c.n, im_user.c.state)
    .select_from(im_inbox)
    .outerjoin(im_history_place, im_history_place.c.user_id == im_inbox.c.user_id)
    .outerjoin(im_user, im_user.c.user_id == im_inbox.c.user_id)
    .where(im_inbox.c.user_id > bindparam("after"))
    .order_by(im_inbox.c.user_id)
    .limit(bindparam("limit"))
)
_PASSED = (
    select(im_device.c.user_id, func.min(im_device.c.inbox_cursor))
    .where(im_device.c.user_id.in_(bindparam("users", expanding=True)))
    .group_by(im_device.c.user_id)
)
_OLDEST = (
    select(im_offline.c.n, im_message)
    .select_from(im_offline)
    .join(im_message, im_message.c.mid == im_offline.c.mid)
    .where(im_offline.c.to_user_id == bindparam("user"), im_offline.c.n <= bindparam("floor"))
    .order_by(im_offline.c.n)
    .limit(bindparam("limit"))
    .with_only_columns(
        im_offline.c.n.label("item"),
        im_message.c.mid,
        im_message.c.sender,
        im_message.c.recipient,
        im_message.c.id,
        im_message.c.created,
        im_message.c.n,
        im_message.c.sync_n,
    )
)
_DEVICES = (
    select(im_device)
    .where(im_device.c.user_id > bindparam("after"))
    .order_by(im_device.c.user_id, im_device.c.device_id)
    .limit(bindparam("limit"))
)
_EXPIRE = delete(im_device).where(
    im_device.c.user_id == bindparam("user"),
    im_device.c.device_id == bindparam("device"),
    # who has connected meanwhile has another epoch, who is connected has said so
    im_device.c.epoch == bindparam("known_epoch"),
    im_device.c.last_seen == bindparam("seen"),
)
_EMPTY = func.length(im_message.c.content) == 0
_ROWS = (
    select(im_message.c.mid, im_message.c.created, _EMPTY.label("empty"))
    .where(im_message.c.mid > bindparam("after"))
    .order_by(im_message.c.mid)
    .limit(bindparam("limit"))
)


class Passed(msgspec.Struct, frozen=True):
    """Everything up to `floor` in this inbox may go once it is old enough."""

    user: str
    floor: int


class Retention:
    """Bounded steps; who takes them, and how often, is the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def inboxes(self, *, after: str, limit: int) -> tuple[list[Passed], str]:
        """The next inboxes in the order of user ids, and the last user looked at: empty after the last one."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_INBOXES, {"after": after, "limit": limit})).all()
            users = [row.user_id for row in rows]
            cursors: dict[str, int] = {}
            if users:
                cursors = {row[0]: row[1] for row in (await connection.execute(_PASSED, {"users": users})).all()}
        found = []
        for row in rows:
            # nobody will ever take what waits for a deleted user; where there is no device yet, all of it waits
            passed = row.head if row.state == DELETED else cursors.get(row.user_id, 0)
            floor = min(passed, row.n or 0, row.head - 1)
            if floor > 0:
                found.append(Passed(row.user_id, floor))
        return found, users[-1] if users else ""

    async def remove(self, inbox: Passed, *, created_before: int, limit: int) -> int:
        """Removes the oldest items, as far as they are old enough, at most `limit` in one transaction; how many."""
        async with self._database.read() as connection:
            query = {"user": inbox.user, "floor": inbox.floor, "limit": limit}
            rows = (await connection.execute(_OLDEST, query)).all()
        old: list[Any] = []
        for row in rows:
            if row.created >= created_before:
                break
            old.append(row)
        if not old:
            return 0

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                delete(im_offline).where(im_offline.c.to_user_id == inbox.user, im_offline.c.n <= old[-1].item)
            )
            gone = await _without_items(connection, inbox.user, old)
            if not gone:
                return
            pairs = [(*ordered(row.sender, row.recipient), row.mid) for row in gone]
            columns = (im_history.c.user_id1, im_history.c.user_id2, im_history.c.mid)
            await connection.execute(delete(im_history).where(tuple_(*columns).in_(pairs)))
            for_good = [row.mid for row in gone if row.id is None]
            emptied = [row.mid for row in gone if row.id is not None]
            if for_good:
                await connection.execute(delete(im_message).where(im_message.c.mid.in_(for_good)))
            if emptied:
                await connection.execute(update(im_message).where(im_message.c.mid.in_(emptied)).values(content=b""))

        await self._database.write(work)
        return len(old)

    async def forget_ids(self, *, after: int, created_before: int, limit: int) -> tuple[int, int]:
        """Deletes rows that stand only for an `id` and are old enough, looking at `limit` rows with mids above `after`.
        The last mid looked at, 0 where there are no older ones; and how many were deleted."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_ROWS, {"after": after, "limit": limit})).all()
        old = [row for row in rows if row.created < created_before]
        mids = [row.mid for row in old if row.empty]
        if mids:

            async def work(connection: AsyncConnection) -> None:
                await connection.execute(delete(im_message).where(im_message.c.mid.in_(mids), _EMPTY))

            await self._database.write(work)
        over = not old or len(rows) < limit
        return 0 if over else rows[-1].mid, len(mids)

    async def expire_devices(self, *, after: str, seen_before: int, limit: int) -> tuple[str, int]:
        """Forgets devices not seen since, but for the furthest one of each user: it says what the user has taken, so
        that a new device does not begin anew with everything. Looks at about `limit` devices of users behind `after`.
        The last user looked at, empty after the last one; and how many devices were forgotten."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_DEVICES, {"after": after, "limit": limit})).all()
            if len(rows) == limit:
                # the last user's may be cut off; a user who alone has more than that many stands for all of it
                last = rows[-1].user_id
                rows = [row for row in rows if row.user_id != last] or rows
        by_user: dict[str, list[Any]] = {}
        for row in rows:
            by_user.setdefault(row.user_id, []).append(row)
        idle = [row for devices in by_user.values() for row in _idle(devices, seen_before)]
        forgotten = 0
        if idle:
            forgotten = await self._database.write(lambda connection: _expire(connection, idle))
        return (rows[-1].user_id if rows else ""), forgotten


def may_be_forgotten(places: Sequence[tuple[int, int]]) -> list[bool]:
    """Of a user's devices, each by its cursor and when it was seen last, those that go when they are idle for long: all
    but the one that has taken most, which says what the user has."""
    furthest = max(range(len(places)), key=places.__getitem__, default=None)
    return [place != furthest for place in range(len(places))]


def _idle(devices: Sequence[Any], seen_before: int) -> list[Any]:
    going = may_be_forgotten([(row.inbox_cursor, row.last_seen) for row in devices])
    return [row for row, may_go in zip(devices, going, strict=True) if may_go and row.last_seen < seen_before]


async def _expire(connection: AsyncConnection, idle: Sequence[Any]) -> int:
    forgotten = 0
    for row in idle:
        known = {"user": row.user_id, "device": row.device_id, "known_epoch": row.epoch, "seen": row.last_seen}
        if (await connection.execute(_EXPIRE, known)).rowcount:
            forgotten += 1
            logger.warning(
                "a device that was not seen for long is forgotten; if it comes back, it is a new one",
                extra={"user": row.user_id, "device": row.device_id, "last_seen": row.last_seen},
            )
    return forgotten


async def _without_items(connection: AsyncConnection, user: str, rows: Sequence[Any]) -> list[Any]:
    """Those whose other item, if there ever was one, is gone too."""
    others: dict[int, tuple[str, int]] = {}
    for row in rows:
        if row.sync_n is not None:
            others[row.mid] = (row.sender, row.sync_n) if row.recipient == user else (row.recipient, row.n)
    there: set[tuple[str, int]] = set()
    if others:
        item = tuple_(im_offline.c.to_user_id, im_offline.c.n)
        statement = select(im_offline.c.to_user_id, im_offline.c.n).where(item.in_(list(others.values())))
        there = {(row.to_user_id, row.n) for row in (await connection.execute(statement)).all()}
    return [row for row in rows if others.get(row.mid) not in there]
