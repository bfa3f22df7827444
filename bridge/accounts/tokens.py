"""Long-lived device tokens of bots and microcontrollers, stored only as SHA-256."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import LimitReached, SessionEnded, UnknownDevice, UnknownToken
from aldis.bridge.accounts.records import Logged, TokenEntry
from aldis.bridge.accounts.sealed_keys import forget_device_key
from aldis.bridge.accounts.sessions import revoke_device
from aldis.bridge.accounts.users import ACTIVE, is_active
from aldis.bridge.schema import im_token, im_user
from aldis.broker.ports import AccessRevoked

_LIST = (
    select(
        im_token.c.token_id,
        im_token.c.device_id,
        im_token.c.name,
        im_token.c.created,
        im_token.c.expires,
        im_token.c.last_used,
    )
    .where(im_token.c.user_id == bindparam("user"), im_token.c.revoked.is_(None))
    .order_by(im_token.c.created, im_token.c.token_id)
)


class DeviceTokens:
    """The table `im_token`. A revoked token's row goes: there is nothing left to say about it."""

    def __init__(self, database: Database, log: AnnouncementLog) -> None:
        self._database = database
        self._log = log

    async def add(self, user: str, entry: TokenEntry, *, hashed: bytes, limit: int) -> None:
        """Stores a new token. Raises `LimitReached` when it would be number `limit` + 1; expired ones do not count."""

        async def work(connection: AsyncConnection) -> None:
            if not await is_active(connection, user, lock=True):
                raise SessionEnded("this account is disabled")
            await connection.execute(
                delete(im_token).where(im_token.c.user_id == user, im_token.c.expires <= entry.created)
            )
            count = await connection.scalar(
                select(func.count()).select_from(im_token).where(im_token.c.user_id == user)
            )
            if count is not None and count >= limit:
                raise LimitReached(f"a user may have at most {limit} device tokens")
            await connection.execute(
                insert(im_token),
                {
                    "token_id": entry.token_id,
                    "hash": hashed,
                    "user_id": user,
                    "device_id": entry.device_id,
                    "name": entry.name,
                    "expires": entry.expires,
                    "last_used": None,
                    "revoked": None,
                    "created": entry.created,
                },
            )

        await self._database.write(work)

    async def of(self, user: str, *, now: int) -> list[TokenEntry]:
        """The user's tokens that are still good, oldest first."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_LIST, {"user": user})).all()
        entries = [TokenEntry(*row) for row in rows]
        return [entry for entry in entries if entry.expires is None or entry.expires > now]

    async def remove(self, user: str, token_id: str, *, now: int) -> Logged:
        """Revokes one of the user's own tokens; what is to be announced. Raises `UnknownToken`, for another's token
        too."""

        async def work(connection: AsyncConnection) -> Logged:
            result = await connection.execute(
                delete(im_token).where(im_token.c.token_id == token_id, im_token.c.user_id == user)
            )
            if result.rowcount == 0:
                raise UnknownToken("you have no such token")
            return await self._log.add(connection, AccessRevoked(user, session=token_id), now=now)

        return await self._database.write(work)

    async def revoke_device(self, user: str, device: str, *, known: bool, now: int) -> Logged:
        """Ends every login and token of the user's device and takes its public key away, all or nothing; what is to be
        announced. Raises `UnknownDevice` if there is none and the store does not know the device either (`known`)."""

        async def work(connection: AsyncConnection) -> Logged:
            sessions = await revoke_device(connection, user, device, now)
            result = await connection.execute(
                delete(im_token).where(im_token.c.user_id == user, im_token.c.device_id == device)
            )
            had_key = await forget_device_key(connection, user, device)
            if not (known or sessions or result.rowcount or had_key):
                raise UnknownDevice("you have no such device")
            return await self._log.add(connection, AccessRevoked(user, device=device), now=now)

        return await self._database.write(work)


GOOD_TOKEN = (
    select(im_token.c.token_id, im_token.c.user_id, im_token.c.device_id, im_token.c.expires, im_token.c.last_used)
    .join(im_user, im_user.c.user_id == im_token.c.user_id)
    .where(
        im_token.c.hash == bindparam("hashed"),
        im_token.c.revoked.is_(None),
        or_(im_token.c.expires.is_(None), im_token.c.expires > bindparam("now")),
        im_user.c.state == ACTIVE,
    )
)
"""The directory's one query at CONNECT: the token, still good, of an active user."""
