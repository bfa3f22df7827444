"""Login sessions: one row per login, carrying the hash of its newest refresh token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import RefreshReused, SessionEnded
from aldis.bridge.accounts.records import Logged, SessionEntry
from aldis.bridge.accounts.users import ACTIVE, is_active
from aldis.bridge.schema import im_session, im_user
from aldis.broker.ports import AccessRevoked

_ENTRY = (
    im_session.c.session_id,
    im_session.c.user_id,
    im_session.c.device_id,
    im_session.c.expires,
    im_session.c.created,
)
_ACTIVE = (
    select(im_session.c.session_id)
    .join(im_user, im_user.c.user_id == im_session.c.user_id)
    .where(im_session.c.session_id == bindparam("session"), im_session.c.revoked.is_(None), im_user.c.state == ACTIVE)
)


class Sessions:
    """The table `im_session`. A session is alive while it is neither revoked nor expired and its user is active."""

    def __init__(self, database: Database, log: AnnouncementLog) -> None:
        self._database = database
        self._log = log

    async def open(self, entry: SessionEntry, *, refresh_hash: bytes, limit: int) -> list[Logged]:
        """Starts a session, and ends those that it replaces: the ones of the same device, and beyond `limit` sessions
        of the user the ones refreshed longest ago. Returns what is to be announced of the sessions ended. Raises
        `SessionEnded` if the user was disabled meanwhile."""

        async def work(connection: AsyncConnection) -> list[Logged]:
            if not await is_active(connection, entry.user_id, lock=True):
                raise SessionEnded("this account is disabled")
            mine = im_session.c.user_id == entry.user_id
            await connection.execute(
                delete(im_session).where(
                    mine, or_(im_session.c.revoked.is_not(None), im_session.c.expires <= entry.created)
                )
            )
            alive = (
                await connection.execute(
                    select(im_session.c.session_id, im_session.c.device_id)
                    .where(mine)
                    .order_by(im_session.c.expires.desc(), im_session.c.session_id.desc())
                )
            ).all()
            ended = [row.session_id for row in alive if row.device_id == entry.device_id]
            others = [row.session_id for row in alive if row.device_id != entry.device_id]
            ended += others[limit - 1 :]
            # A replaced session leaves at once: no token that names it is good for anything any more.
            if ended:
                await connection.execute(delete(im_session).where(im_session.c.session_id.in_(ended)))
            await connection.execute(
                insert(im_session),
                {
                    "session_id": entry.session_id,
                    "user_id": entry.user_id,
                    "device_id": entry.device_id,
                    "refresh_hash": refresh_hash,
                    "expires": entry.expires,
                    "revoked": None,
                    "created": entry.created,
                },
            )
            return [await self._revoked(connection, entry.user_id, one, entry.created) for one in ended]

        return await self._database.write(work)

    async def rotate(
        self, session: str, *, old: bytes, new: bytes, expires: int, now: int, repeats_since: int
    ) -> SessionEntry:
        """Replaces the refresh token with hash `old` by the one with hash `new`. If `new` is the newest one already,
        and not from before `repeats_since`, the same request has come again: nothing changes.

        Raises `SessionEnded`, or `RefreshReused` when `old` is not the newest one: then the session is revoked, and
        that is durable. Of two callers with the same token one wins and the other is taken for a thief.
        """

        async def work(connection: AsyncConnection) -> SessionEntry | RefreshReused:
            row = await _locked(connection, session)
            if row is None or row.revoked is not None or row.expires <= now:
                raise SessionEnded("this login has ended; log in again")
            if not await is_active(connection, row.user_id):
                raise SessionEnded("this account is disabled")
            if row.refresh_hash == new and row.refreshed is not None and row.refreshed >= repeats_since:
                return SessionEntry(session, row.user_id, row.device_id, row.expires, row.created)
            if row.refresh_hash != old:
                await _revoke(connection, im_session.c.session_id == session, now)
                # Handed out, not raised: raising would roll the revocation back.
                return RefreshReused(
                    "this refresh token was used before; the login has been revoked",
                    user=row.user_id,
                    session=session,
                    logged=await self._revoked(connection, row.user_id, session, now),
                )
            await connection.execute(
                update(im_session)
                .where(im_session.c.session_id == session)
                .values(refresh_hash=new, expires=expires, refreshed=now)
            )
            return SessionEntry(session, row.user_id, row.device_id, expires, row.created)

        result = await self._database.write(work)
        if isinstance(result, RefreshReused):
            raise result
        return result

    async def untouched(self, session: str, *, refresh_hash: bytes, now: int) -> bool:
        """Whether the session is alive, and the refresh token with this hash its newest one."""
        async with self._database.read() as connection:
            row = (
                await connection.execute(
                    select(im_session.c.session_id)
                    .join(im_user, im_user.c.user_id == im_session.c.user_id)
                    .where(
                        im_session.c.session_id == session,
                        im_session.c.refresh_hash == refresh_hash,
                        im_session.c.revoked.is_(None),
                        im_session.c.expires > now,
                        im_user.c.state == ACTIVE,
                    )
                )
            ).first()
        return row is not None

    async def revoke(self, user: str, session: str, *, now: int) -> Logged:
        """Ends one session of the user; it may have ended before. Returns what is to be announced."""

        async def work(connection: AsyncConnection) -> Logged:
            await _revoke(connection, (im_session.c.session_id == session) & (im_session.c.user_id == user), now)
            return await self._revoked(connection, user, session, now)

        return await self._database.write(work)

    async def _revoked(self, connection: AsyncConnection, user: str, session: str, now: int) -> Logged:
        return await self._log.add(connection, AccessRevoked(user, session=session), now=now)

    async def active(self, session: str) -> bool:
        """See `Directory.session_active`."""
        async with self._database.read() as connection:
            return (await connection.execute(_ACTIVE, {"session": session})).first() is not None

    async def alive(self, user: str, *, now: int) -> list[SessionEntry]:
        """The user's sessions that are neither revoked nor expired."""
        async with self._database.read() as connection:
            rows: Sequence[Any] = (
                await connection.execute(
                    select(*_ENTRY).where(
                        im_session.c.user_id == user, im_session.c.revoked.is_(None), im_session.c.expires > now
                    )
                )
            ).all()
        return [SessionEntry(*row) for row in rows]


async def _locked(connection: AsyncConnection, session: str) -> Any:
    statement = select(im_session).where(im_session.c.session_id == session).with_for_update()
    return (await connection.execute(statement)).one_or_none()


async def _revoke(connection: AsyncConnection, which: ColumnElement[bool], now: int) -> int:
    result = await connection.execute(
        update(im_session).where(which, im_session.c.revoked.is_(None)).values(revoked=now)
    )
    return result.rowcount


async def revoke_device(connection: AsyncConnection, user: str, device: str, now: int) -> int:
    """Ends every session of a device within the caller's transaction; how many there were."""
    return await _revoke(connection, (im_session.c.user_id == user) & (im_session.c.device_id == device), now)
