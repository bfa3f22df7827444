"""What one user may see of the relations: requests, friends with their keys, and who may write to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, or_, select, union_all

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.key_versions import KeyVersions
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import Relation, RelationKey, RelationState, Requested
from aldis.bridge.accounts.users import DELETED
from aldis.bridge.schema import im_relation, im_relation_key, im_user

_ME: BindParameter[str] = bindparam("me")
_STATE = im_relation.c.state
_NEWEST = and_(
    im_relation_key.c.user_id1 == im_relation.c.user_id1,
    im_relation_key.c.user_id2 == im_relation.c.user_id2,
    im_relation_key.c.version == im_relation.c.key_version,
)


def _mine(peer: Any, me: Any, condition: ColumnElement[bool]) -> Any:
    return select(peer.label("peer")).where(me == _ME, condition)


def _pages(*columns: Any, first: ColumnElement[bool], second: ColumnElement[bool], keyed: bool = False) -> list[Any]:
    """Rows by peer: those in which I am user 2 (`second` holds), so that the peer's id is smaller than mine, then those
    in which I am user 1 (`first` holds). Each half is read from an index, in its order, and no further than asked."""
    halves = []
    for me, peer, condition in (
        (im_relation.c.user_id2, im_relation.c.user_id1, second),
        (im_relation.c.user_id1, im_relation.c.user_id2, first),
    ):
        half = _mine(peer, me, condition).join(im_user, im_user.c.user_id == peer)
        if keyed:
            half = half.outerjoin(im_relation_key, _NEWEST)
        half = half.add_columns(im_user.c.name, *columns).where(peer > bindparam("after"))
        halves.append(half.order_by(peer).limit(bindparam("limit")))
    return halves


def _pending(mine: int, theirs: int, my_block: int) -> ColumnElement[bool]:
    """What I have asked, and what I was asked by somebody whom I have not blocked."""
    return or_(_STATE == mine, and_(_STATE == theirs, im_relation.c.blocked.bitwise_and(my_block) == 0))


REQUESTS = _pages(
    _STATE,
    im_relation.c.blocked,
    im_relation.c.updated,
    first=_pending(RelationState.ASKED_BY_1, RelationState.ASKED_BY_2, 1),
    second=_pending(RelationState.ASKED_BY_2, RelationState.ASKED_BY_1, 2),
)
RELATIONS = _pages(
    _STATE,
    im_relation.c.blocked,
    im_relation.c.key_version.label("version"),
    im_relation_key.c.master_id,
    im_relation_key.c.encrypt_key,
    im_relation.c.updated,
    im_user.c.state.label("account"),
    first=or_(_STATE == RelationState.FRIENDS, im_relation.c.blocked.bitwise_and(1) != 0),
    second=or_(_STATE == RelationState.FRIENDS, im_relation.c.blocked.bitwise_and(2) != 0),
    keyed=True,
)
_OPEN = (_STATE == RelationState.FRIENDS) & (im_relation.c.blocked == 0)
# each half has an index, which an OR over both columns would not use on every database
CORRESPONDENTS = union_all(
    _mine(im_relation.c.user_id2, im_relation.c.user_id1, _OPEN),
    _mine(im_relation.c.user_id1, im_relation.c.user_id2, _OPEN),
)
"""The directory's one query at CONNECT: the peers, friends and blocked by neither side, of the user `me`."""


class RelationLists:
    """Reads relations, always those of one user and as that user may see them."""

    def __init__(self, database: Database, keys: KeyVersions) -> None:
        self._database = database
        self._keys = keys

    async def requests(self, me: str, *, after: str, limit: int) -> list[Requested]:
        """Unanswered requests, to me and from me, by the other's id: at most `limit` of those behind `after`. Those of
        users I have blocked are not shown to me."""
        found = []
        for row in await self._page(REQUESTS, me, after, limit):
            pair = Pair(me, row.peer, RelationState(row.state), row.blocked)
            found.append(Requested(peer=row.peer, name=row.name, created=row.updated, mine=pair.asked_by_me))
        return found

    async def relations(self, me: str, *, after: str, limit: int) -> list[Relation]:
        """My friends with the keys we share, and whom I have blocked, by user id: at most `limit` of those behind
        `after`. Raises `KeyDamaged`."""
        return [self._relation(me, row) for row in await self._page(RELATIONS, me, after, limit)]

    async def _page(self, halves: Sequence[Any], me: str, after: str, limit: int) -> list[Any]:
        rows: list[Any] = []
        async with self._database.read() as connection:
            for half in halves:
                if len(rows) < limit:
                    known = {"me": me, "after": after, "limit": limit - len(rows)}
                    rows += (await connection.execute(half, known)).all()
        return rows

    def _relation(self, me: str, row: Any) -> Relation:
        pair = Pair(me, row.peer, RelationState(row.state), row.blocked)
        key = None
        if pair.friends:
            opened = self._keys.opened(*ordered(me, row.peer), row)
            key = None if opened is None else RelationKey(version=row.version, key=opened)
        return Relation(
            peer=row.peer,
            name=row.name,
            friends=pair.friends,
            blocked=pair.blocked_by_me,
            key=key,
            key_version=row.version if pair.friends else None,
            updated=row.updated,
            deleted=row.account == DELETED,
        )
