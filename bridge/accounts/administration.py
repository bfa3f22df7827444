"""What administrators may do to accounts, and what an account may do to itself as a whole.

Whatever ends access is logged in the transaction that ends it, to be announced by the caller.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import SessionEnded, UnknownUser, WrongLogin
from aldis.bridge.accounts.pairs import Pair
from aldis.bridge.accounts.records import Figures, Listed, Logged, RelationState
from aldis.bridge.accounts.users import ACTIVE, DELETED, DISABLED
from aldis.bridge.schema import (
    im_admin,
    im_device,
    im_device_key,
    im_device_name,
    im_relation,
    im_retained,
    im_sealed_key,
    im_sealed_wish,
    im_session,
    im_token,
    im_user,
)
from aldis.broker.ports import AccessRevoked, RelationChanged

NO_PASSWORD = "!"
"""Stands where a deleted account had its hash: no password fits it."""

_IS_ADMIN = (
    select(im_admin.c.user_id)
    .join(im_user, im_user.c.user_id == im_admin.c.user_id)
    .where(im_admin.c.user_id == bindparam("user"), im_user.c.state == ACTIVE)
)
_LIST = (
    select(im_user.c.user_id, im_user.c.name, im_user.c.state, im_user.c.created, im_admin.c.granted)
    .select_from(im_user)
    .outerjoin(im_admin, im_admin.c.user_id == im_user.c.user_id)
    .where(im_user.c.user_id > bindparam("after"))
    .order_by(im_user.c.user_id)
    .limit(bindparam("limit"))
)
_STATES = {ACTIVE: "active", DISABLED: "disabled", DELETED: "deleted"}


class Administration:
    """Changes accounts from above, and lets an account end its own logins and itself."""

    def __init__(self, database: Database, log: AnnouncementLog) -> None:
        self._database = database
        self._log = log

    # The role

    async def is_admin(self, user: str) -> bool:
        async with self._database.read() as connection:
            return (await connection.execute(_IS_ADMIN, {"user": user})).first() is not None

    async def admins(self) -> list[str]:
        async with self._database.read() as connection:
            return list((await connection.scalars(select(im_admin.c.user_id).order_by(im_admin.c.user_id))).all())

    async def grant(self, user: str, *, now: int) -> None:
        """Makes the user an administrator; one who is stays one. Raises `UnknownUser`."""

        async def work(connection: AsyncConnection) -> None:
            await _exists(connection, user)
            await connection.execute(self._database.insert_or_keep(im_admin), {"user_id": user, "granted": now})

        await self._database.write(work)

    async def withdraw(self, user: str) -> bool:
        """False if the user was no administrator."""

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(delete(im_admin).where(im_admin.c.user_id == user))).rowcount > 0

        return await self._database.write(work)

    # Accounts

    async def users(self, *, after: str, limit: int) -> list[Listed]:
        """Accounts in the order of their ids, the deleted ones among them."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_LIST, {"after": after, "limit": limit})).all()
        return [
            Listed(row.user_id, row.name, _STATES.get(row.state, "disabled"), row.granted is not None, row.created)
            for row in rows
        ]

    async def user(self, user: str) -> Listed:
        """One account; raises `UnknownUser`."""
        async with self._database.read() as connection:
            statement = _LIST.where(im_user.c.user_id == user)
            row = (await connection.execute(statement, {"after": "", "limit": 1})).one_or_none()
        if row is None:
            raise UnknownUser("there is no such user")
        return Listed(row.user_id, row.name, _STATES.get(row.state, "disabled"), row.granted is not None, row.created)

    async def disable(self, user: str, *, now: int) -> list[Logged]:
        """Ends every login and keeps the user out; device tokens sleep. Raises `UnknownUser`."""

        async def work(connection: AsyncConnection) -> list[Logged]:
            await _exists(connection, user)
            await connection.execute(update(im_user).where(im_user.c.user_id == user).values(state=DISABLED))
            await connection.execute(delete(im_session).where(im_session.c.user_id == user))
            return [await self._log.add(connection, AccessRevoked(user), now=now)]

        return await self._database.write(work)

    async def enable(self, user: str) -> None:
        """Lets the user in again. Raises `UnknownUser`."""

        async def work(connection: AsyncConnection) -> None:
            await _exists(connection, user)
            await connection.execute(update(im_user).where(im_user.c.user_id == user).values(state=ACTIVE))

        await self._database.write(work)

    async def end_logins(self, user: str, *, now: int) -> list[Logged]:
        """Ends every login of the user; connections opened with a device token end too, but may come back. Raises
        `UnknownUser`."""

        async def work(connection: AsyncConnection) -> list[Logged]:
            await _exists(connection, user)
            await connection.execute(delete(im_session).where(im_session.c.user_id == user))
            return [await self._log.add(connection, AccessRevoked(user), now=now)]

        return await self._database.write(work)

    async def change_password(self, user: str, *, old: str, new: str, keep: str, now: int) -> list[Logged]:
        """Puts the hash `new` in the place of `old` and ends every login but `keep`. Raises `SessionEnded`, or
        `WrongLogin` if the password was changed before."""

        async def work(connection: AsyncConnection) -> list[Logged]:
            changed = await connection.execute(
                update(im_user)
                .where(im_user.c.user_id == user, im_user.c.password_hash == old, im_user.c.state == ACTIVE)
                .values(password_hash=new)
            )
            if not changed.rowcount:
                raise WrongLogin("this is not the password")
            mine = im_session.c.user_id == user
            sessions = list((await connection.scalars(select(im_session.c.session_id).where(mine))).all())
            if keep not in sessions:
                raise SessionEnded("this login has ended; log in again")
            await connection.execute(delete(im_session).where(mine, im_session.c.session_id != keep))
            return [
                await self._log.add(connection, AccessRevoked(user, session=session), now=now)
                for session in sessions
                if session != keep
            ]

        return await self._database.write(work)

    async def delete(self, user: str, *, old: str, now: int) -> list[Logged]:
        """Ends the account for good, unless its password hash is no longer `old` (then `WrongLogin`). What it has
        written stays with its peers, with the keys to read it; the name stays taken."""

        async def work(connection: AsyncConnection) -> list[Logged]:
            changed = await connection.execute(
                update(im_user)
                .where(im_user.c.user_id == user, im_user.c.password_hash == old, im_user.c.state == ACTIVE)
                .values(state=DELETED, name="", password_hash=NO_PASSWORD)
            )
            if not changed.rowcount:
                raise WrongLogin("this is not the password")
            for table in (im_session, im_token, im_device_name, im_admin, im_device_key, im_sealed_key, im_sealed_wish):
                await connection.execute(delete(table).where(table.c.user_id == user))
            await connection.execute(delete(im_retained).where(im_retained.c.owner == user))
            logged = [
                await self._log.add(connection, RelationChanged(*pair), now=now)
                for pair in await _close_relations(connection, user, now)
            ]
            return [*logged, await self._log.add(connection, AccessRevoked(user), now=now)]

        return await self._database.write(work)

    async def figures(self, *, now: int) -> Figures:
        """How many there are of what. Counts small tables; messages are not counted, they may be very many."""
        async with self._database.read() as connection:
            states = select(im_user.c.state, func.count()).group_by(im_user.c.state)
            users = {row[0]: row[1] for row in (await connection.execute(states)).all()}

            async def count(statement: object) -> int:
                return int(await connection.scalar(statement) or 0)  # type: ignore[call-overload]

            alive = or_(im_token.c.expires.is_(None), im_token.c.expires > now)
            return Figures(
                users_active=users.get(ACTIVE, 0),
                users_disabled=users.get(DISABLED, 0),
                users_deleted=users.get(DELETED, 0),
                admins=await count(select(func.count()).select_from(im_admin)),
                logins=await count(
                    select(func.count())
                    .select_from(im_session)
                    .where(im_session.c.revoked.is_(None), im_session.c.expires > now)
                ),
                tokens=await count(select(func.count()).select_from(im_token).where(alive)),
                devices=await count(select(func.count()).select_from(im_device)),
                friendships=await count(
                    select(func.count()).select_from(im_relation).where(im_relation.c.state == RelationState.FRIENDS)
                ),
            )


async def _exists(connection: AsyncConnection, user: str) -> None:
    """Raises `UnknownUser`, for a deleted one too; else locks the account for this transaction."""
    row = select(im_user.c.state).where(im_user.c.user_id == user).with_for_update()
    state = await connection.scalar(row)
    if state is None or state == DELETED:
        raise UnknownUser("there is no such user")


async def _close_relations(connection: AsyncConnection, user: str, now: int) -> list[tuple[str, str]]:
    """Requests go; a friendship stays for its other member to read with, but nobody writes any more. Returns the pairs
    that could write to each other."""
    mine = or_(im_relation.c.user_id1 == user, im_relation.c.user_id2 == user)
    rows = (
        await connection.execute(
            select(im_relation.c.user_id1, im_relation.c.user_id2, im_relation.c.state, im_relation.c.blocked)
            .where(mine)
            .with_for_update()
        )
    ).all()
    closed = []
    for row in rows:
        peer = row.user_id2 if row.user_id1 == user else row.user_id1
        before = Pair(user, peer, RelationState(row.state), row.blocked)
        after = before.block() if before.friends else before.block().parted()
        await connection.execute(
            update(im_relation)
            .where(im_relation.c.user_id1 == row.user_id1, im_relation.c.user_id2 == row.user_id2)
            .values(state=int(after.state), blocked=after.blocked, updated=now)
        )
        if before.open:
            closed.append((row.user_id1, row.user_id2))
    return closed
