"""Accounts: one row per user, person or thing."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database, is_duplicate
from aldis.bridge.accounts.errors import UserTaken
from aldis.bridge.accounts.records import User
from aldis.bridge.schema import im_user

ACTIVE = 1
DISABLED = 0
DELETED = 2
"""`im_user.state`. Stored as these numbers; never renumber."""

_BY_ID = select(im_user.c.user_id, im_user.c.name, im_user.c.password_hash, im_user.c.state).where(
    im_user.c.user_id == bindparam("user")
)


class Users:
    """The table `im_user`. Knows password hashes, never passwords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user_id: str, *, name: str, password_hash: str, now: int) -> None:
        """Registers. Raises `UserTaken`; of two at the same moment exactly one gets the name."""

        async def work(connection: AsyncConnection) -> None:
            row = {"user_id": user_id, "name": name, "password_hash": password_hash, "state": ACTIVE, "created": now}
            try:
                await connection.execute(insert(im_user), row)
            except IntegrityError as error:
                if is_duplicate(error):
                    raise UserTaken(f"the user id {user_id} is taken") from error
                raise

        await self._database.write(work)

    async def find(self, user_id: str) -> User | None:
        """The account, active or not; None if there is none."""
        async with self._database.read() as connection:
            row = (await connection.execute(_BY_ID, {"user": user_id})).one_or_none()
        if row is None:
            return None
        return User(user_id=row.user_id, name=row.name, password_hash=row.password_hash, active=row.state == ACTIVE)

    async def change_hash(self, user_id: str, *, old: str, new: str) -> None:
        """Puts a password hash with newer parameters in place, unless the password was changed meanwhile."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(im_user)
                .where(im_user.c.user_id == user_id, im_user.c.password_hash == old)
                .values(password_hash=new)
            )

        await self._database.write(work)


async def is_active(connection: AsyncConnection, user_id: str, *, lock: bool = False) -> bool:
    """Whether there is such a user who may take part, seen from within a transaction. `lock` holds the user's row
    to its end, so that what counts things of this user counts alone."""
    statement = _BY_ID.with_for_update() if lock else _BY_ID
    row = (await connection.execute(statement, {"user": user_id})).one_or_none()
    return row is not None and row.state == ACTIVE
