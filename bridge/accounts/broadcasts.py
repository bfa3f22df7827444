"""System messages to everybody: who has got them, in the order of user ids."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import UnknownBroadcast
from aldis.bridge.accounts.records import Broadcast
from aldis.bridge.accounts.users import ACTIVE
from aldis.bridge.schema import im_broadcast, im_user

_RECIPIENTS = (
    select(im_user.c.user_id)
    .where(
        im_user.c.user_id > bindparam("after"),
        im_user.c.state == ACTIVE,
        # who comes later has not missed anything
        im_user.c.created <= bindparam("created"),
    )
    .order_by(im_user.c.user_id)
    .limit(bindparam("limit"))
)


class Broadcasts:
    """The table `im_broadcast`. `place` is the last user who certainly has it: a broadcast that was interrupted goes on
    behind it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, broadcast: Broadcast) -> None:
        async def work(connection: AsyncConnection) -> None:
            row = {
                "broadcast_id": broadcast.broadcast_id,
                "content": broadcast.content,
                "created_by": broadcast.created_by,
                "created": broadcast.created,
                "place": "",
                "sent": 0,
                "finished": None,
            }
            await connection.execute(insert(im_broadcast), row)

        await self._database.write(work)

    async def find(self, broadcast_id: str) -> Broadcast:
        """Raises `UnknownBroadcast`."""
        async with self._database.read() as connection:
            statement = select(im_broadcast).where(im_broadcast.c.broadcast_id == broadcast_id)
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise UnknownBroadcast("there is no such broadcast")
        return _broadcast(row)

    async def newest(self, *, before: str, limit: int) -> list[Broadcast]:
        """The newest first; ids rise with time."""
        async with self._database.read() as connection:
            statement = select(im_broadcast).order_by(im_broadcast.c.broadcast_id.desc()).limit(limit)
            if before:
                statement = statement.where(im_broadcast.c.broadcast_id < before)
            return [_broadcast(row) for row in (await connection.execute(statement)).all()]

    async def unfinished(self) -> Broadcast | None:
        """The oldest that is not over."""
        async with self._database.read() as connection:
            statement = (
                select(im_broadcast)
                .where(im_broadcast.c.finished.is_(None))
                .order_by(im_broadcast.c.broadcast_id)
                .limit(1)
            )
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _broadcast(row)

    async def recipients(self, broadcast: Broadcast, *, limit: int) -> list[str]:
        """The next users, behind `place`."""
        async with self._database.read() as connection:
            query = {"after": broadcast.place, "created": broadcast.created, "limit": limit}
            return list((await connection.scalars(_RECIPIENTS, query)).all())

    async def advance(self, broadcast: Broadcast, *, place: str, count: int, finished: int | None) -> None:
        """`count` more users up to `place` have it. Does nothing if somebody else has done that."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(im_broadcast)
                .where(im_broadcast.c.broadcast_id == broadcast.broadcast_id, im_broadcast.c.place == broadcast.place)
                .values(place=place, sent=im_broadcast.c.sent + count, finished=finished)
            )

        await self._database.write(work)


def _broadcast(row: Any) -> Broadcast:
    return Broadcast(row.broadcast_id, row.content, row.created_by, row.created, row.place, row.sent, row.finished)
