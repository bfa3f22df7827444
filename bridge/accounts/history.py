"""What two users have said to each other, by message id: reading `im_history`, which others fill.

What the index has not got yet, the reader brings into it first: usually the last minute of two inboxes.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, func, select

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import HistoryBehind
from aldis.bridge.accounts.history_filling import HistoryFilling
from aldis.bridge.accounts.pairs import ordered
from aldis.bridge.schema import im_history, im_message

FILL_AT_ONCE = 1_000
"""Items that a reader brings into the index in one transaction: about 10 ms."""
FILL_BEFORE_READING = 5
"""Transactions of a reader at most. A longer way back is there only after an update from a version without history, or
where nobody fills: then the reader is asked to come again, and each time it is further."""
PAGE_BYTES = 1_048_576
"""Contents in one page; a page that would have more ends earlier, but has one message at least."""

_OF_PAIR = (im_history.c.user_id1 == bindparam("user1"), im_history.c.user_id2 == bindparam("user2"))
_SIZES = (
    select(im_history.c.mid, func.length(im_message.c.content).label("size"))
    .join(im_message, im_message.c.mid == im_history.c.mid)
    .where(*_OF_PAIR)
    .limit(bindparam("limit"))
)
_BEFORE = _SIZES.where(im_history.c.mid < bindparam("mid")).order_by(im_history.c.mid.desc())
_AFTER = _SIZES.where(im_history.c.mid > bindparam("mid")).order_by(im_history.c.mid)
_MESSAGES = select(
    im_message.c.mid, im_message.c.sender, im_message.c.recipient, im_message.c.created, im_message.c.content
).where(im_message.c.mid.in_(bindparam("mids", expanding=True)))


class HistoryEntry(msgspec.Struct, frozen=True):
    """One message of the history, as it was stored; `content` is the sender's JSON object."""

    mid: int
    sender: str
    recipient: str
    created: int
    content: bytes


class History:
    """Reads the talk of two users. Who may ask for it is the caller's to judge: one of the two."""

    def __init__(self, database: Database, filling: HistoryFilling) -> None:
        self._database = database
        self._filling = filling

    async def page(
        self, me: str, peer: str, *, before: int | None, after: int | None, limit: int
    ) -> tuple[list[HistoryEntry], bool]:
        """Messages between the two, and whether there are more behind them: with `after` those with higher ids, oldest
        first; else those with lower ids than `before`, newest first. Raises `HistoryBehind`."""
        await self._fill(me, peer)
        user1, user2 = ordered(me, peer)
        statement, mid = (_AFTER, after) if after is not None else (_BEFORE, before if before is not None else 2**62)
        query = {"user1": user1, "user2": user2, "mid": mid, "limit": limit + 1}
        async with self._database.read() as connection:
            found = (await connection.execute(statement, query)).all()
            mids: list[int] = []
            size = 0
            for row in found[:limit]:
                size += row.size
                if mids and size > PAGE_BYTES:
                    break
                mids.append(row.mid)
            rows = (await connection.execute(_MESSAGES, {"mids": mids})).all() if mids else []
        by_mid = {row.mid: HistoryEntry(*row) for row in rows}
        # between the two questions retention may have removed one
        return [by_mid[mid] for mid in mids if mid in by_mid], len(mids) < len(found)

    async def _fill(self, me: str, peer: str) -> None:
        for _ in range(FILL_BEFORE_READING):
            behind = [inbox for inbox in await self._filling.those_of([me, peer]) if inbox.behind > 0]
            if not behind:
                return
            if await self._filling.fill(behind, limit=FILL_AT_ONCE) < FILL_AT_ONCE:
                return
        raise HistoryBehind("the history of this conversation is still being prepared; try again", retry_after=1)
