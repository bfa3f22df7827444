"""The log of announcements: what has changed for the connectors, written in the transaction that changes it.

An announcement on the bus may be lost. Its entry here cannot be: either the change and the entry are there, or neither.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.records import Logged
from aldis.bridge.schema import im_announcement
from aldis.broker.ports import ANNOUNCEMENTS_KEPT, AccessRevoked, Announcement, RelationChanged

CLEAN_EVERY = 600_000
"""Milliseconds between two looks, of one process, at what is old enough to be deleted."""

_decoder = msgspec.json.Decoder(RelationChanged | AccessRevoked)


class AnnouncementLog:
    """The table `im_announcement`. Whoever writes deletes now and then what is older than `ANNOUNCEMENTS_KEPT`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cleaned = 0

    async def add(self, connection: AsyncConnection, announcement: Announcement, *, now: int) -> Logged:
        """Within the caller's transaction, as the last thing of it: to be announced when it is committed."""
        if now - self._cleaned >= CLEAN_EVERY:
            await self._clean(connection, now)
        row = {"created": now, "content": msgspec.json.encode(announcement)}
        result = await connection.execute(insert(im_announcement), row)
        assert result.inserted_primary_key is not None  # one row
        return Logged(announcement, result.inserted_primary_key[0])

    async def _clean(self, connection: AsyncConnection, now: int) -> None:
        self._cleaned = now
        numbers = im_announcement.c.number
        old = select(func.max(numbers)).where(im_announcement.c.created < now - ANNOUNCEMENTS_KEPT)
        last = await connection.scalar(old)  # asked first, without a lock on those who write now
        if last is not None:
            await connection.execute(delete(im_announcement).where(numbers <= last))

    async def after(self, number: int, *, limit: int) -> list[tuple[int, Announcement]]:
        """See `Directory.announcements`."""
        statement = (
            select(im_announcement.c.number, im_announcement.c.content)
            .where(im_announcement.c.number > number)
            .order_by(im_announcement.c.number)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        return [(row.number, _decoder.decode(row.content)) for row in rows]

    async def newest(self) -> int:
        """See `Directory.newest_announcement`."""
        async with self._database.read() as connection:
            return await connection.scalar(select(func.max(im_announcement.c.number))) or 0
