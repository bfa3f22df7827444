"""Exchanging the master key while servers run: from one transaction on the new key wraps, then all that the old one has
wrapped is wrapped again, some rows at a time.

It may end at any point and be begun again: what is done is told by the rows themselves. Whoever makes a version holds
the row of the master key that wraps, so after `begin` nothing can appear under the old one any more.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.key_versions import OPENS, WRAPS, KeyVersions, of_pair
from aldis.bridge.accounts.master_keys import MasterKeys
from aldis.bridge.accounts.relation_keys import UNNAMED, KeyDamaged, KeyWrap
from aldis.bridge.schema import im_master_key, im_relation_key

Place = tuple[str, str, int]

_key, _master = im_relation_key.c, im_master_key.c
_BEGINNING: Place = ("", "", 0)


class MasterEntry(msgspec.Struct, frozen=True):
    """A master key of which the database or this process knows; `wrapped` counts the relation keys under it."""

    master_id: str
    wraps: bool
    registered: bool
    here: bool
    wrapped: int


class MasterRotation:
    """The tables `im_master_key` and, as far as master keys go, `im_relation_key`."""

    def __init__(self, database: Database, masters: MasterKeys) -> None:
        self._database = database
        self._wrap = KeyWrap(masters)
        self._versions = KeyVersions(database, self._wrap)

    @property
    def first(self) -> str:
        """What wraps in a database that has no master key yet."""
        return self._wrap.masters.first

    async def entries(self) -> list[MasterEntry]:
        """By id; the empty one stands for keys wrapped before master keys had ids."""
        counts = select(_key.master_id, func.count()).where(_key.master_id.is_not(None)).group_by(_key.master_id)
        async with self._database.read() as connection:
            wrapped = {row[0]: row[1] for row in (await connection.execute(counts)).all()}
            states = {row.master_id: row.state for row in (await connection.execute(select(im_master_key))).all()}
        here = self._wrap.masters.ids()
        return [
            MasterEntry(one, states.get(one) == WRAPS, one in states, one in here, wrapped.get(one, 0))
            for one in sorted({*wrapped, *states, *here})
        ]

    async def begin(self, master_id: str, *, now: int) -> None:
        """From now on this one wraps. Idempotent. Raises `StoreUnavailable` and changes nothing unless this
        process has it and every other one that is in use."""
        self._wrap.masters.cipher(master_id)
        await self._versions.check_masters()

        async def work(connection: AsyncConnection) -> None:
            if await self._versions.current_master(connection, now=now) == master_id:
                return
            await connection.execute(update(im_master_key).where(_master.state == WRAPS).values(state=OPENS))
            row = {"master_id": master_id, "state": OPENS, "since": now}
            await connection.execute(self._database.insert_or_keep(im_master_key), row)
            chosen = update(im_master_key).where(_master.master_id == master_id)
            await connection.execute(chosen.values(state=WRAPS, since=now))

        await self._database.write(work)

    async def rewrap(
        self, master_id: str, *, after: Place = _BEGINNING, limit: int
    ) -> tuple[int, list[Place], Place | None]:
        """Wraps at most `limit` keys behind `after` again: how many, which do not open (they stay as they are), and
        where to go on; None at the end. One transaction."""
        place = tuple_(_key.user_id1, _key.user_id2, _key.version)
        batch = (
            select(_key.user_id1, _key.user_id2, _key.version, _key.master_id, _key.encrypt_key)
            .where(
                _key.master_id != master_id,
                place > tuple_(*(_bound(value) for value in zip(_PLACE, after, strict=True))),
            )
            .order_by(_key.user_id1, _key.user_id2, _key.version)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> tuple[int, list[Place], Place | None]:
            rows = (await connection.execute(batch)).all()
            new, damaged = [], []
            for row in rows:
                here: Place = (row.user_id1, row.user_id2, row.version)
                try:
                    wrapped = self._wrap.rewrap(row.master_id, master_id, row.encrypt_key or b"", *here)
                except KeyDamaged:
                    damaged.append(here)
                    continue
                new.append(
                    dict(zip(("one", "two", "number"), here, strict=True)) | {"old": row.master_id, "new": wrapped}
                )
            if new:
                await connection.execute(_CHANGE, [{**one, "master": master_id} for one in new])
            last = rows[-1] if len(rows) == limit else None
            return len(new), damaged, None if last is None else (last.user_id1, last.user_id2, last.version)

        return await self._database.write(work)

    async def forget(self, master_id: str) -> bool:
        """Strikes a master key that wraps nothing any more off the database's list. False: it is in use."""

        async def work(connection: AsyncConnection) -> bool:
            under = select(func.count()).select_from(im_relation_key)
            under = under.where(_key.master_id.in_([master_id, UNNAMED]))
            if await connection.scalar(under):
                return False
            gone = delete(im_master_key).where(_master.master_id == master_id, _master.state == OPENS)
            await connection.execute(gone)
            left = select(func.count()).select_from(im_master_key).where(_master.master_id == master_id)
            return not await connection.scalar(left)

        return await self._database.write(work)


_PLACE: tuple[Any, ...] = (_key.user_id1, _key.user_id2, _key.version)
_CHANGE = (
    update(im_relation_key)
    .where(of_pair(bindparam("one"), bindparam("two")), _key.version == bindparam("number"))
    .where(_key.master_id == bindparam("old"))
    .values(encrypt_key=bindparam("new"), master_id=bindparam("master"))
)


def _bound(value: tuple[Any, object]) -> Any:
    column, given = value
    return bindparam(None, given, type_=column.type)
