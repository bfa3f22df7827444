"""Fills the index of the history (`im_history`) behind the group commit, inbox by inbox (ADR-0014).

Numbers n of one inbox have no gaps and are seen in their order, whoever commits: so "filled up to n" is exact, where
message ids, drawn by several transactions at once or by the journal long before, would not be. Filling is idempotent:
two who fill one inbox at the same time do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.pairs import ordered
from aldis.bridge.schema import im_history, im_history_place, im_inbox, im_message, im_offline
from aldis.broker.ports import Kind

_PLACES = (
    select(im_inbox.c.user_id, im_inbox.c.head, im_history_place.c.n)
    .select_from(im_inbox)
    .outerjoin(im_history_place, im_history_place.c.user_id == im_inbox.c.user_id)
)
_SOME = _PLACES.where(im_inbox.c.user_id.in_(bindparam("users", expanding=True)))
_NEXT = _PLACES.where(im_inbox.c.user_id > bindparam("after")).order_by(im_inbox.c.user_id).limit(bindparam("limit"))
_ITEMS = (
    select(im_offline.c.n, im_offline.c.mid, im_message.c.sender, im_message.c.recipient, im_message.c.kind)
    .select_from(im_offline)
    .join(im_message, im_message.c.mid == im_offline.c.mid)
    .where(im_offline.c.to_user_id == bindparam("user"), im_offline.c.n > bindparam("after"))
    .order_by(im_offline.c.n)
    .limit(bindparam("limit"))
)
_RAISE = (
    update(im_history_place)
    .where(im_history_place.c.user_id == bindparam("user"), im_history_place.c.n < bindparam("reached"))
    .values(n=bindparam("reached"))
)


class Inbox(msgspec.Struct, frozen=True):
    """An inbox whose newest item is `head`, of which everything up to `place` stands in the history."""

    user: str
    head: int
    place: int

    @property
    def behind(self) -> int:
        return self.head - self.place


class HistoryFilling:
    """Copies the pairs of new messages into `im_history`, many in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def inboxes(self, *, after: str, limit: int) -> list[Inbox]:
        """The next inboxes in the order of user ids."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_NEXT, {"after": after, "limit": limit})).all()
        return [Inbox(row.user_id, row.head, row.n or 0) for row in rows]

    async def those_of(self, users: Sequence[str]) -> list[Inbox]:
        """The inboxes of these users; who has none is left out."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_SOME, {"users": list(users)})).all()
        return [Inbox(row.user_id, row.head, row.n or 0) for row in rows]

    async def fill(self, inboxes: Sequence[Inbox], *, limit: int) -> int:
        """Brings what these inboxes have more than the history into it: at most `limit` items, in one transaction. How
        many items it was; less than `limit`: there is nothing left."""
        pairs: list[tuple[str, str, int]] = []
        reached: dict[str, int] = {}
        done = 0
        async with self._database.read() as connection:
            for inbox in inboxes:
                if inbox.behind <= 0 or done >= limit:
                    continue
                query = {"user": inbox.user, "after": inbox.place, "limit": limit - done}
                rows = (await connection.execute(_ITEMS, query)).all()
                if rows:
                    reached[inbox.user] = rows[-1].n
                    done += len(rows)
                    pairs += [pair for row in rows if (pair := _pair(inbox.user, row)) is not None]
        if reached:
            await self._store(pairs, reached)
        return done

    async def _store(self, pairs: list[tuple[str, str, int]], reached: dict[str, int]) -> None:
        rows = [{"user_id1": user1, "user_id2": user2, "mid": mid} for user1, user2, mid in sorted(pairs)]
        users = sorted(reached)

        async def work(connection: AsyncConnection) -> None:
            if rows:
                await connection.execute(self._database.insert_or_keep(im_history), rows)
            places = [{"user_id": user, "n": 0} for user in users]
            await connection.execute(self._database.insert_or_keep(im_history_place), places)
            await connection.execute(_RAISE, [{"user": user, "reached": reached[user]} for user in users])

        await self._database.write(work)


def _pair(owner: str, row: Any) -> tuple[str, str, int] | None:
    """None for what is no talk between two users, and for a copy: the recipient's item stands for the message."""
    if row.kind != Kind.CHAT or row.recipient != owner:
        return None
    return (*ordered(row.sender, row.recipient), row.mid)
