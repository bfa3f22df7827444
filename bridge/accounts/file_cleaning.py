"""Which files are to go: expired, never finished, nobody's; and what is said here that the storage does not know."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, bindparam, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.files import GONE, THERE, UPLOADING
from aldis.bridge.accounts.users import DELETED
from aldis.bridge.schema import im_file, im_file_grant, im_user

_file = im_file.c
_of_nobody = (
    select(_file.file_id)
    .join(im_user, im_user.c.user_id == _file.owner)
    .where(
        _file.state == THERE,
        im_user.c.state == DELETED,
        ~exists()
        .where(im_file_grant.c.file_id == _file.file_id)
        .where(
            ~exists().where(
                and_(im_user.c.user_id == im_file_grant.c.user_id, im_user.c.state == DELETED)
            ).correlate(im_file_grant)
        )
        .correlate(im_file),
    )
    .limit(bindparam("limit"))
)  # fmt: skip


class FileCleaning:
    """Bounded steps; who takes them, and how often, is the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def retire(self, *, now: int, unfinished_before: int, limit: int) -> int:
        """Marks as gone what has expired, what was to be finished before `unfinished_before`, and what only deleted
        users could fetch; at most `limit` of each. How many."""
        async with self._database.read() as connection:
            there = (_file.state == THERE) & (_file.expires < now)
            unfinished = (_file.state == UPLOADING) & (_file.expires < unfinished_before)
            old = [
                (which, list((await connection.scalars(select(_file.file_id).where(which).limit(limit))).all()))
                for which in (there, unfinished)
            ]
            nobody = list((await connection.scalars(_of_nobody, {"limit": limit})).all())
        retired = [*old, (_file.state == THERE, nobody)]

        async def work(connection: AsyncConnection) -> None:
            # what was true when it was looked for must still be: an upload may have been finished meanwhile
            for still, ids in retired:
                gone = update(im_file).where(_file.file_id.in_(ids), still)
                await connection.execute(gone.values(state=GONE, expires=now))

        count = sum(len(ids) for _, ids in retired)
        if count:
            await self._database.write(work)
        return count

    async def gone(self, *, limit: int) -> list[str]:
        """Files whose bytes are to be removed, then to be forgotten."""
        async with self._database.read() as connection:
            statement = select(_file.file_id).where(_file.state == GONE).order_by(_file.expires).limit(limit)
            return list((await connection.scalars(statement)).all())

    async def known(self, file_ids: Collection[str]) -> set[str]:
        """Those of which something is said here, whatever it is."""
        async with self._database.read() as connection:
            statement = select(_file.file_id).where(_file.file_id.in_(file_ids))
            return set((await connection.scalars(statement)).all())

    async def there(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        """The next files that should have bytes, and how many, in the order of their ids."""
        async with self._database.read() as connection:
            statement = (
                select(_file.file_id, _file.size)
                .where(_file.state == THERE, _file.file_id > after)
                .order_by(_file.file_id)
                .limit(limit)
            )
            return [(row.file_id, row.size) for row in (await connection.execute(statement)).all()]

    async def lost(self, file_id: str, *, now: int) -> bool:
        """Its bytes are not there any more. False if nobody expects them either."""

        async def work(connection: AsyncConnection) -> bool:
            there = (_file.file_id == file_id) & (_file.state == THERE)
            marked = await connection.execute(update(im_file).where(there).values(state=GONE, expires=now))
            return marked.rowcount > 0

        return await self._database.write(work)
