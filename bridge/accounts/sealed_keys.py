"""Sealed relations: public keys of devices, and relation keys that clients have made and wrapped for each of them.

The server keeps who is concerned right (a new version is wrapped for exactly the devices that both users have
registered, a blob goes to its own device only) and cannot look inside. That the public keys are the right ones it can
only claim: members compare safety numbers, see docs/encryption.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import LimitReached
from aldis.bridge.accounts.key_errors import DevicesChanged, NoDeviceKey, NotSealed, UnknownVersion, VersionTaken
from aldis.bridge.accounts.key_versions import KeyVersions, mark_stale, of_pair
from aldis.bridge.accounts.pairs import ordered
from aldis.bridge.accounts.relation_lists import CORRESPONDENTS
from aldis.bridge.accounts.shared_keys import friends, next_version, open_pair, wanted_by
from aldis.bridge.accounts.users import is_active
from aldis.bridge.schema import im_device_key, im_relation_key, im_sealed_key, im_sealed_wish


class DeviceKey(msgspec.Struct, frozen=True):
    """A device's X25519 public key. `missing` are the sealed versions that nobody has wrapped for it yet, rising."""

    user: str
    device: str
    public_key: bytes
    created: int
    missing: list[int]


class Sealing(msgspec.Struct, frozen=True):
    """One blob: the key wrapped for the device that had registered `public_key`."""

    user: str
    device: str
    public_key: bytes
    wrapped: bytes


class SealedKeys:
    """What devices do, each on behalf of its own user `me`, who has been authenticated."""

    def __init__(self, database: Database, versions: KeyVersions) -> None:
        self._database = database
        self._versions = versions

    async def register(self, me: str, device: str, public_key: bytes, *, limit: int, now: int) -> list[str] | None:
        """Registers or replaces the device's public key. With another one, what was wrapped for the old one is gone.
        Returns with whom I have sealed relations; None if nothing has changed. Raises `LimitReached`."""

        async def work(connection: AsyncConnection) -> list[str] | None:
            await is_active(connection, me, lock=True)  # who counts a user's devices counts alone
            mine = im_device_key.c.user_id == me
            rows = (await connection.execute(select(im_device_key).where(mine).with_for_update())).all()
            found = {row.device_id: row.public_key for row in rows}
            if found.get(device) == public_key:
                return None
            if device in found:
                await forget_device_key(connection, me, device)
            elif len(found) >= limit:
                raise LimitReached(f"a user may have at most {limit} devices with public keys")
            row = {"user_id": me, "device_id": device, "public_key": public_key, "created": now}
            await connection.execute(insert(im_device_key), row)
            return await sealed_with(connection, me)

        return await self._database.write(work)

    async def want(self, me: str, peer: str, *, now: int) -> tuple[list[str], bool]:
        """Wants the relation sealed: who wants it now, and whether that is new. Raises `NotFriends`, `BlockedByYou`."""

        async def work(connection: AsyncConnection) -> tuple[list[str], bool]:
            await open_pair(connection, me, peer)
            before = await wanted_by(connection, *ordered(me, peer))
            if me in before:
                return before, False
            await connection.execute(insert(im_sealed_wish), {"user_id": me, "peer": peer, "created": now})
            return sorted([*before, me]), True

        return await self._database.write(work)

    async def leave(self, me: str, peer: str) -> list[str] | None:
        """Wants it sealed no longer: the next version may be the server's again. Returns who wants it still, None if
        nothing has changed, or the peer is to hear nothing of it. Raises `NotFriends`."""

        async def work(connection: AsyncConnection) -> list[str] | None:
            _, pair = await friends(connection, me, peer)
            wish = im_sealed_wish.c
            gone = await connection.execute(delete(im_sealed_wish).where(wish.user_id == me, wish.peer == peer))
            if not gone.rowcount or not pair.open:
                return None
            return await wanted_by(connection, *ordered(me, peer))

        return await self._database.write(work)

    async def devices(self, me: str, peer: str) -> list[DeviceKey]:
        """The devices of both of us that have public keys, by user and device id. Raises `NotFriends`."""
        user1, user2 = ordered(me, peer)
        sealed = select(im_relation_key.c.version).where(of_pair(user1, user2), im_relation_key.c.master_id.is_(None))
        had = im_sealed_key.c
        have = select(had.user_id, had.device_id, had.version).where(had.user_id1 == user1, had.user_id2 == user2)
        async with self._database.read() as connection:
            await friends(connection, me, peer, lock=False)
            versions = sorted((await connection.scalars(sealed)).all())
            there = {(row.user_id, row.device_id, row.version) for row in (await connection.execute(have)).all()}
            rows = await _devices(connection, me, peer)
        return [
            DeviceKey(
                row.user_id,
                row.device_id,
                row.public_key,
                row.created,
                [version for version in versions if (row.user_id, row.device_id, version) not in there],
            )
            for row in rows
        ]

    async def make(
        self, me: str, device: str, peer: str, version: int, check: bytes, sealings: Sequence[Sealing], *,
        limit: int, now: int,
    ) -> bool:  # fmt: skip
        """Stores the next version, wrapped by `device` for exactly the devices that both of us have registered. False
        if the very same was stored before. Raises `NotFriends`, `BlockedByYou`, `NotSealed`, `VersionTaken`,
        `DevicesChanged`, `NoDeviceKey`, `LimitReached`."""
        user1, user2 = ordered(me, peer)

        async def work(connection: AsyncConnection) -> bool:
            newest = await open_pair(connection, me, peer)
            if len(await wanted_by(connection, user1, user2)) < 2:
                raise NotSealed("both of you must want this relation sealed first")
            if version == newest and await self._is_check(connection, user1, user2, version, check):
                return False
            if version != newest + 1:
                raise VersionTaken(f"the next version is {newest + 1}")
            rows = await _devices(connection, me, peer, lock=True)
            registered = {(row.user_id, row.device_id): row.public_key for row in rows}
            given = {(one.user, one.device): one.public_key for one in sealings}
            by_key = _own(registered, me, device)
            if given != registered or len(given) != len(sealings):
                raise DevicesChanged("the key must be wrapped once for each registered device of both, and no other")
            await next_version(connection, user1, user2, version, limit=limit)
            await self._versions.note_sealed(connection, user1, user2, version, check=check, now=now)
            await _store(connection, user1, user2, version, sealings, (me, device, by_key), now)
            return True

        return await self._database.write(work)

    async def add(self, me: str, device: str, peer: str, version: int, sealings: Sequence[Sealing], *, now: int) -> int:
        """Gives devices that have come later a version that there is; how many of them lacked it. What is there already
        stays. Raises `NotFriends`, `BlockedByYou`, `UnknownVersion`, `DevicesChanged`, `NoDeviceKey`."""
        user1, user2 = ordered(me, peer)

        async def work(connection: AsyncConnection) -> int:
            _, pair = await friends(connection, me, peer)
            if not pair.open and any(one.user != me for one in sealings):
                await open_pair(connection, me, peer)
            if not await self._is_check(connection, user1, user2, version, None):
                raise UnknownVersion("there is no such sealed version")
            registered = {
                (row.user_id, row.device_id): row.public_key for row in await _devices(connection, me, peer, lock=True)
            }
            by_key = _own(registered, me, device)
            if any(registered.get((one.user, one.device)) != one.public_key for one in sealings):
                raise DevicesChanged("a device is not registered, or has another public key by now")
            here = im_sealed_key.c
            of_version = (here.user_id1 == user1) & (here.user_id2 == user2) & (here.version == version)
            rows = (await connection.execute(select(here.user_id, here.device_id).where(of_version))).all()
            there = {(row.user_id, row.device_id) for row in rows}
            if (me, device) not in there:
                raise UnknownVersion("this device does not have that version itself")
            new = {(one.user, one.device): one for one in sealings if (one.user, one.device) not in there}
            await _store(connection, user1, user2, version, list(new.values()), (me, device, by_key), now)
            return len(new)

        return await self._database.write(work)

    async def is_registered(self, me: str, device: str) -> bool:
        key = im_device_key.c
        async with self._database.read() as connection:
            mine = select(key.device_id).where(key.user_id == me, key.device_id == device)
            return (await connection.execute(mine)).first() is not None

    async def with_whom(self, me: str) -> list[str]:
        """The peers with whom I have sealed relations, in force and not blocked."""
        async with self._database.read() as connection:
            return await sealed_with(connection, me)

    async def _is_check(
        self, connection: AsyncConnection, user1: str, user2: str, version: int, check: bytes | None
    ) -> bool:
        """Whether there is such a sealed version, with this check unless that is None."""
        key = im_relation_key.c
        statement = select(key.key_check).where(of_pair(user1, user2), key.version == version, key.master_id.is_(None))
        found = await connection.scalar(statement)
        return found is not None and check in (None, found)


async def forget_device_key(connection: AsyncConnection, user: str, device: str) -> bool:
    """Within the caller's transaction: the device's public key and blobs are gone, the newest keys that it could open
    are marked as to be replaced. False if it had none."""
    key = im_device_key.c
    # first of all: it waits for who wraps for this device now, so that nothing is stored for it behind our back
    gone = await connection.execute(delete(im_device_key).where(key.user_id == user, key.device_id == device))
    await mark_stale(connection, user, device)
    here = im_sealed_key.c
    await connection.execute(delete(im_sealed_key).where(here.user_id == user, here.device_id == device))
    return gone.rowcount > 0


async def sealed_with(connection: AsyncConnection, me: str) -> list[str]:
    """The peers with whom both sides want the relation sealed, neither blocking the other."""
    mine, theirs = im_sealed_wish.alias("mine"), im_sealed_wish.alias("theirs")
    both = (theirs.c.user_id == mine.c.peer) & (theirs.c.peer == mine.c.user_id)
    statement = select(mine.c.peer).join(theirs, both).where(mine.c.user_id == me).order_by(mine.c.peer)
    open_to = set((await connection.scalars(CORRESPONDENTS, {"me": me})).all())
    return [peer for peer in (await connection.scalars(statement)).all() if peer in open_to]


def _own(registered: dict[tuple[str, str], bytes], me: str, device: str) -> bytes:
    if (me, device) not in registered:
        raise NoDeviceKey("this device has registered no public key")
    return registered[me, device]


async def _devices(connection: AsyncConnection, me: str, peer: str, *, lock: bool = False) -> Sequence[Any]:
    """`lock`: none of them goes or changes its key before the end of the transaction, which stores blobs for them."""
    key = im_device_key.c
    statement = select(im_device_key).where(or_(key.user_id == me, key.user_id == peer))
    statement = statement.order_by(key.user_id, key.device_id)
    return (await connection.execute(statement.with_for_update() if lock else statement)).all()


async def _store(
    connection: AsyncConnection, user1: str, user2: str, version: int, sealings: Sequence[Sealing],
    by: tuple[str, str, bytes], now: int,
) -> None:  # fmt: skip
    rows = [
        {
            "user_id1": user1,
            "user_id2": user2,
            "version": version,
            "user_id": one.user,
            "device_id": one.device,
            "wrapped": one.wrapped,
            "by_user": by[0],
            "by_device": by[1],
            "by_key": by[2],
            "created": now,
        }
        for one in sealings
    ]
    if rows:
        await connection.execute(insert(im_sealed_key), rows)
