"""What members do with the keys of their relations: read the versions, make the next one.

While one of the two blocks the other nobody makes a new version, so a blocked user can never be given one: who blocks
is told to unblock first, who is blocked is answered like somebody who is no friend, as with a message.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import BlockedByYou, LimitReached, NotFriends
from aldis.bridge.accounts.key_errors import RelationSealed, UnknownVersion
from aldis.bridge.accounts.key_versions import KeyVersions, of_pair
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import RelationState
from aldis.bridge.accounts.relations import pair_row
from aldis.bridge.schema import im_relation, im_relation_key, im_sealed_key, im_sealed_wish

NOT_FRIENDS = "you are not friends"

Mode = Literal["server", "sealed"]


class Wrapped(msgspec.Struct, frozen=True):
    """A key as one device has wrapped it for another; what `by` had registered as its public key then, with it."""

    wrapped: bytes
    by_user: str
    by_device: str
    by_key: bytes


class KeyVersion(msgspec.Struct, frozen=True):
    """One version. `key` where the server made it; else `check`, and `wrapped` if the asking device was given it.
    `stale`: a device that has it was removed since."""

    version: int
    key: bytes | None
    check: bytes | None
    wrapped: Wrapped | None
    stale: bool
    created: int


class PairKeys(msgspec.Struct, frozen=True):
    """The versions of a relation's key, rising; `newest` also where others were asked for. `wanted_by` are the members
    who want it sealed: it is when both do."""

    newest: int
    wanted_by: list[str]
    versions: list[KeyVersion]

    @property
    def mode(self) -> Mode:
        return "sealed" if len(self.wanted_by) == 2 else "server"


class SharedKeys:
    """The versions of keys, for `me`, who has been authenticated. Only friends have keys."""

    def __init__(self, database: Database, versions: KeyVersions) -> None:
        self._database = database
        self._versions = versions

    async def of(self, me: str, peer: str, *, device: str, versions: Collection[int] | None = None) -> PairKeys:
        """All versions of the key that I share with `peer`, or those asked for; sealed ones as they are wrapped for
        `device` of mine. Raises `NotFriends`, `UnknownVersion`, `KeyDamaged`, `MasterKeyMissing`."""
        user1, user2 = ordered(me, peer)
        pair = of_pair(user1, user2)
        mine = im_sealed_key.c
        statement = (
            select(im_relation_key, mine.wrapped, mine.by_user, mine.by_device, mine.by_key)
            .outerjoin(
                im_sealed_key,
                (mine.user_id1 == im_relation_key.c.user_id1)
                & (mine.user_id2 == im_relation_key.c.user_id2)
                & (mine.version == im_relation_key.c.version)
                & (mine.user_id == me)
                & (mine.device_id == device),
            )
            .where(pair, _FRIENDS_OF_KEY)
            .order_by(im_relation_key.c.version)
        )
        async with self._database.read() as connection:
            wanted = await wanted_by(connection, user1, user2)
            rows = (await connection.execute(statement)).all()
        if not rows:
            raise NotFriends(NOT_FRIENDS)
        newest = rows[-1].version
        if versions is not None:
            if not set(versions) <= {row.version for row in rows}:
                raise UnknownVersion("there is no such version of the key")
            rows = [row for row in rows if row.version in versions]
        return PairKeys(newest, wanted, [self._version(user1, user2, row) for row in rows])

    def _version(self, user1: str, user2: str, row: Any) -> KeyVersion:
        wrapped = None if row.wrapped is None else Wrapped(row.wrapped, row.by_user, row.by_device, row.by_key)
        key = self._versions.opened(user1, user2, row)
        return KeyVersion(row.version, key, row.key_check, wrapped, bool(row.stale), row.created)

    async def rotate(self, me: str, peer: str, *, after: int | None, limit: int, now: int) -> bool:
        """Makes the next version; with `after`, only if that is still the newest one. False: it was not, and nothing
        has changed. Older versions stay. Raises `NotFriends`, `BlockedByYou`, `RelationSealed`, `LimitReached`,
        `MasterKeyMissing`."""
        user1, user2 = ordered(me, peer)

        async def work(connection: AsyncConnection) -> bool:
            newest = await open_pair(connection, me, peer)
            if after is not None and newest != after:
                return False
            if len(await wanted_by(connection, user1, user2)) == 2:
                raise RelationSealed("this relation is sealed: a client makes its next key")
            await next_version(connection, user1, user2, newest + 1, limit=limit)
            await self._versions.make(connection, user1, user2, newest + 1, now=now)
            return True

        return await self._database.write(work)


_FRIENDS_OF_KEY = (
    select(im_relation.c.state)
    .where(
        im_relation.c.user_id1 == im_relation_key.c.user_id1,
        im_relation.c.user_id2 == im_relation_key.c.user_id2,
        im_relation.c.state == RelationState.FRIENDS,
    )
    .exists()
)


async def open_pair(connection: AsyncConnection, me: str, peer: str) -> int:
    """Locks the pair and returns the newest version of its key, if the two may write to each other. Raises
    `NotFriends`, `BlockedByYou`."""
    newest, pair = await friends(connection, me, peer)
    if pair.blocked_by_me:
        raise BlockedByYou("you have blocked this user; unblock first")
    if not pair.open:
        raise NotFriends(NOT_FRIENDS)
    return newest


async def friends(connection: AsyncConnection, me: str, peer: str, *, lock: bool = True) -> tuple[int, Pair]:
    """The newest version of the pair's key, and how the two stand; locks the pair. Raises `NotFriends`."""
    row = (await connection.execute(pair_row(*ordered(me, peer), lock=lock))).one_or_none()
    if row is None or row.state != RelationState.FRIENDS:
        raise NotFriends(NOT_FRIENDS)
    return row.key_version, Pair(me, peer, RelationState(row.state), row.blocked)


async def wanted_by(connection: AsyncConnection, user1: str, user2: str) -> list[str]:
    """Who of the two wants the relation sealed."""
    wish = im_sealed_wish.c
    both = ((wish.user_id == user1) & (wish.peer == user2)) | ((wish.user_id == user2) & (wish.peer == user1))
    return sorted((await connection.scalars(select(wish.user_id).where(both))).all())


async def next_version(connection: AsyncConnection, user1: str, user2: str, version: int, *, limit: int) -> None:
    """Makes `version` the newest one of the pair. Raises `LimitReached` where there are `limit` already."""
    count = await connection.scalar(select(func.count()).select_from(im_relation_key).where(of_pair(user1, user2)))
    if (count or 0) >= limit:
        raise LimitReached(f"a relation may have at most {limit} versions of its key")
    here = (im_relation.c.user_id1 == user1) & (im_relation.c.user_id2 == user2)
    await connection.execute(update(im_relation).where(here).values(key_version=version))
