"""The versions of relation keys in the database: made, given to members, destroyed with the friendship.

A version is written in the transaction that changes the pair, under the pair's row lock. Which master key wraps it, the
database says (`im_master_key`), not the process: its row is locked until the version is committed, so that no version
can still be made under a master key that has been replaced (`master_rotation`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.relation_keys import UNNAMED, KeyDamaged, KeyWrap
from aldis.bridge.schema import im_master_key, im_relation_key, im_sealed_key, im_sealed_wish
from aldis.broker.ports import StoreUnavailable

WRAPS, OPENS = 1, 0
"""`im_master_key.state`."""

_key = im_relation_key.c


def of_pair(user1: Any, user2: Any) -> Any:
    return (_key.user_id1 == user1) & (_key.user_id2 == user2)


class KeyVersions:
    """The table `im_relation_key`. Everything here runs within the caller's transaction."""

    def __init__(self, database: Database, wrap: KeyWrap) -> None:
        self._database = database
        self.wrap = wrap

    async def make(self, connection: AsyncConnection, user1: str, user2: str, version: int, *, now: int) -> None:
        """A new random key of this version. Raises `MasterKeyMissing`."""
        master_id = await self.current_master(connection, now=now)
        await self._insert(connection, user1, user2, version, now, master_id, None)

    async def note_sealed(
        self, connection: AsyncConnection, user1: str, user2: str, version: int, *, check: bytes, now: int
    ) -> None:
        """A version that a client has made and the server never sees."""
        await self._insert(connection, user1, user2, version, now, None, check)

    async def _insert(
        self, connection: AsyncConnection, user1: str, user2: str, version: int, now: int, master_id: str | None,
        check: bytes | None,
    ) -> None:  # fmt: skip
        row = {
            "user_id1": user1,
            "user_id2": user2,
            "version": version,
            "master_id": master_id,
            "encrypt_key": None if master_id is None else self.wrap.new(master_id, user1, user2, version),
            "key_check": check,
            "stale": 0,
            "created": now,
        }
        await connection.execute(insert(im_relation_key), row)

    async def current_master(self, connection: AsyncConnection, *, now: int) -> str:
        """The id of the master key that wraps, locked to the end of the transaction; this process's own in a database
        that has none yet."""
        row = (await connection.execute(_CURRENT)).first()
        if row is None:
            first = {"master_id": self.wrap.masters.first, "state": WRAPS, "since": now}
            await connection.execute(self._database.insert_or_keep(im_master_key), first)
            row = (await connection.execute(_CURRENT)).first()
        assert row is not None
        master_id: str = row.master_id
        return master_id

    async def destroy(self, connection: AsyncConnection, user1: str, user2: str) -> None:
        """Every version, and the agreement to seal, at the end of a friendship."""
        await connection.execute(delete(im_relation_key).where(of_pair(user1, user2)))
        await connection.execute(
            delete(im_sealed_key).where(im_sealed_key.c.user_id1 == user1, im_sealed_key.c.user_id2 == user2)
        )
        wish = im_sealed_wish.c
        for one, other in ((user1, user2), (user2, user1)):
            await connection.execute(delete(im_sealed_wish).where(wish.user_id == one, wish.peer == other))

    def opened(self, user1: str, user2: str, row: Any) -> bytes | None:
        """The key in a row of the table; None for a sealed version. Raises `KeyDamaged`, `MasterKeyMissing`."""
        if row.master_id is None:
            return None
        if row.encrypt_key is None:
            raise KeyDamaged(f"version {row.version} of the key of {user1} and {user2} is not there")
        return self.wrap.open(row.master_id, row.encrypt_key, user1, user2, row.version)

    async def check_masters(self) -> None:
        """Raises `MasterKeyMissing`, or `StoreUnavailable` where no id is written down, unless this process can open
        what is in the database. Changes nothing."""
        async with self._database.read() as connection:
            used = (await connection.scalars(select(_key.master_id).where(_key.master_id > UNNAMED).distinct())).all()
            named = (await connection.scalars(select(im_master_key.c.master_id).where(_WRAPS))).all()
            unnamed = (await connection.execute(_ROWS.where(_key.master_id == UNNAMED).limit(1))).first()
        for master_id in sorted({*used, *named}):
            self.wrap.masters.cipher(master_id)
        if unnamed is not None:
            try:
                self.opened(unnamed.user_id1, unnamed.user_id2, unnamed)
            except KeyDamaged as error:
                raise StoreUnavailable(
                    "relation keys in the database do not open under the master key of this server "
                    f"({', '.join(self.wrap.masters.ids())}): give it the one that wrapped them, from a backup"
                ) from error


_ROWS: Select[Any] = select(_key.user_id1, _key.user_id2, _key.version, _key.master_id, _key.encrypt_key)
_WRAPS = im_master_key.c.state == WRAPS
# FOR UPDATE, not FOR SHARE: not every engine that speaks MySQL's language has the latter, and keys are made seldom
_CURRENT = select(im_master_key.c.master_id).where(_WRAPS).with_for_update()


async def mark_stale(connection: AsyncConnection, user: str, device: str) -> None:
    """The newest versions that this device could open should be replaced: it is one no longer."""
    had = im_sealed_key.c
    newest = (
        select(had.user_id1.label("one"), had.user_id2.label("two"), func.max(had.version).label("newest"))
        .where(had.user_id == user, had.device_id == device)
        .group_by(had.user_id1, had.user_id2)
    )
    rows = [dict(row) for row in (await connection.execute(newest)).mappings()]
    if rows:
        here = of_pair(bindparam("one"), bindparam("two")) & (_key.version == bindparam("newest"))
        await connection.execute(update(im_relation_key).where(here).values(stale=1), rows)
