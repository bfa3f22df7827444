"""The accounts' tables as the connector sees them: `aldis.broker.ports.Directory`, one query a call."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.relation_lists import CORRESPONDENTS
from aldis.bridge.accounts.sessions import Sessions
from aldis.bridge.accounts.tokens import GOOD_TOKEN
from aldis.bridge.accounts.users import Users
from aldis.bridge.schema import im_token
from aldis.broker.ports import Announcement, Grant, StoreUnavailable

logger = logging.getLogger(__name__)

NOTE_EVERY = 60_000
"""Milliseconds: a token's use is written down at most once a minute, so that a device which reconnects in a circle
costs no write each time."""

_NOTE = update(im_token).where(im_token.c.token_id == bindparam("token")).values(last_used=bindparam("used"))


class AccountsDirectory:
    """Who exists and who may write to whom. Read-only, but for noting when a token was last used: those notes are
    written in the background, many in one transaction, and may be lost with the process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = AnnouncementLog(database)
        self._sessions = Sessions(database, self._log)
        self._users = Users(database)
        self._notes: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None

    async def correspondents(self, user: str) -> frozenset[str]:
        async with self._database.read() as connection:
            return frozenset((await connection.scalars(CORRESPONDENTS, {"me": user})).all())

    async def token(self, hashed: bytes, *, now: int) -> Grant | None:
        async with self._database.read() as connection:
            row = (await connection.execute(GOOD_TOKEN, {"hashed": hashed, "now": now})).one_or_none()
        if row is None:
            return None
        if row.last_used is None or now - row.last_used >= NOTE_EVERY:
            self._note(row.token_id, now)
        return Grant(user=row.user_id, device=row.device_id, expires=row.expires, session=row.token_id)

    async def session_active(self, session: str) -> bool:
        return await self._sessions.active(session)

    async def user_active(self, user: str) -> bool:
        found = await self._users.find(user)
        return found is not None and found.active

    async def announcements(self, after: int, *, limit: int) -> list[tuple[int, Announcement]]:
        return await self._log.after(after, limit=limit)

    async def newest_announcement(self) -> int:
        return await self._log.newest()

    async def settle(self) -> None:
        """Waits until every note is written (or has failed). For shutdown."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def _note(self, token: str, now: int) -> None:
        self._notes[token] = now
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_notes())

    async def _write_notes(self) -> None:
        try:
            while self._notes:
                notes, self._notes = self._notes, {}

                async def work(connection: AsyncConnection, notes: dict[str, int] = notes) -> None:
                    rows = [{"token": token, "used": used} for token, used in sorted(notes.items())]
                    await connection.execute(_NOTE, rows)

                await self._database.write(work)
        except StoreUnavailable:
            logger.warning("when %d device tokens were last used could not be noted", len(notes))
        finally:
            self._writing = None
