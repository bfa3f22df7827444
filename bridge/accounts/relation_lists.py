"""What one user may see of the relations: requests, friends with their keys, and who may write to whom."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, or_, select, union_all

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.key_versions import KeyVersions
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import Relation, RelationKey, RelationState, Requested
from aldis.bridge.schema import im_relation, im_relation_key, im_user

_ME: BindParameter[str] = bindparam("me")
_STATE = im_relation.c.state
_NEWEST = and_(
    im_relation_key.c.user_id1 == im_relation.c.user_id1,
    im_relation_key.c.user_id2 == im_relation.c.user_id2,
    im_relation_key.c.version == im_relation.c.key_version,
)


def _seen_by_me(
    *columns: Any, first: ColumnElement[bool], second: ColumnElement[bool], named: bool = True, keyed: bool = False
) -> Any:
    """Rows in which I am user 1 (`first` holds) and those in which I am user 2 (`second`): each half has an index,
    which an OR over both columns would not use on every database."""
    halves = []
    for me, peer, condition in (
        (im_relation.c.user_id1, im_relation.c.user_id2, first),
        (im_relation.c.user_id2, im_relation.c.user_id1, second),
    ):
        if named:
            half = select(peer.label("peer"), im_user.c.name, *columns).join(im_user, im_user.c.user_id == peer)
        else:
            half = select(peer.label("peer"), *columns)
        if keyed:
            half = half.outerjoin(im_relation_key, _NEWEST)
        halves.append(half.where(me == _ME, condition))
    return union_all(*halves)


_PENDING = _STATE.in_([RelationState.ASKED_BY_1, RelationState.ASKED_BY_2])
_REQUESTS = _seen_by_me(_STATE, im_relation.c.blocked, im_relation.c.updated, first=_PENDING, second=_PENDING)
_RELATIONS = _seen_by_me(
    _STATE,
    im_relation.c.blocked,
    im_relation.c.key_version.label("version"),
    im_relation_key.c.master_id,
    im_relation_key.c.encrypt_key,
    im_relation.c.updated,
    first=or_(_STATE == RelationState.FRIENDS, im_relation.c.blocked.bitwise_and(1) != 0),
    second=or_(_STATE == RelationState.FRIENDS, im_relation.c.blocked.bitwise_and(2) != 0),
    keyed=True,
)
_OPEN = (_STATE == RelationState.FRIENDS) & (im_relation.c.blocked == 0)
CORRESPONDENTS = _seen_by_me(first=_OPEN, second=_OPEN, named=False)
"""The directory's one query at CONNECT: the peers, friends and blocked by neither side, of the user `me`."""


class RelationLists:
    """Reads relations, always those of one user and as that user may see them."""

    def __init__(self, database: Database, keys: KeyVersions) -> None:
        self._database = database
        self._keys = keys

    async def requests(self, me: str) -> tuple[list[Requested], list[Requested]]:
        """Unanswered requests: (to me, from me), oldest first. Those of users I have blocked are not shown to me."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_REQUESTS, {"me": me})).all()
        incoming, outgoing = [], []
        for row in sorted(rows, key=lambda row: (row.updated, row.peer)):
            pair = Pair(me, row.peer, RelationState(row.state), row.blocked)
            entry = Requested(peer=row.peer, name=row.name, created=row.updated)
            if pair.asked_by_me:
                outgoing.append(entry)
            elif not pair.blocked_by_me:
                incoming.append(entry)
        return incoming, outgoing

    async def relations(self, me: str) -> list[Relation]:
        """My friends with the keys we share, and whom I have blocked, by user id. Raises `KeyDamaged`."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_RELATIONS, {"me": me})).all()
        return [self._relation(me, row) for row in sorted(rows, key=lambda row: row.peer)]

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
        )
