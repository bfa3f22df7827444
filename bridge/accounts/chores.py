"""Who of several processes does the work that one does for all: a row with a holder and an end, in `im_chore`.

It keeps two from doing the same, no more: every chore is harmless when done twice.
"""

from __future__ import annotations

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.schema import im_chore


class Chores:
    """The table `im_chore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, holder: str, *, now: int, until: int) -> str | None:
        """Takes the chore, or goes on holding it, until then; None while somebody else does. Where the last holder has
        left it."""

        async def work(connection: AsyncConnection) -> str | None:
            row = {"name": name, "holder": holder, "held_until": 0, "place": ""}
            await connection.execute(self._database.insert_or_keep(im_chore), row)
            free = or_(im_chore.c.holder == holder, im_chore.c.held_until < now)
            taken = await connection.execute(
                update(im_chore).where(im_chore.c.name == name, free).values(holder=holder, held_until=until)
            )
            if not taken.rowcount:
                return None
            place: str | None = await connection.scalar(select(im_chore.c.place).where(im_chore.c.name == name))
            return place

        return await self._database.write(work)

    async def leave(self, name: str, holder: str, *, place: str, until: int = 0) -> None:
        """Says how far the holder has come, and until when nobody else need take it up."""

        async def work(connection: AsyncConnection) -> None:
            mine = (im_chore.c.name == name) & (im_chore.c.holder == holder)
            await connection.execute(update(im_chore).where(mine).values(place=place, held_until=until))

        await self._database.write(work)
