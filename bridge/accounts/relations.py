"""Friend requests, friendships, blocks: the table `im_relation`, changed one pair at a time.

Every change reads the pair's row under a lock and writes what `pairs` says comes next, so two people who ask each
other at the same moment become friends exactly once.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import BindParameter, Select, and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import (
    BlockedByYou,
    LimitReached,
    NoSuchRequest,
    NotBlocked,
    NotFriends,
    NotWithOneself,
    UnknownUser,
)
from aldis.bridge.accounts.key_versions import KeyVersions
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import Logged, RelationState
from aldis.bridge.accounts.users import is_active
from aldis.bridge.schema import im_relation
from aldis.broker.ports import RelationChanged

Rule = Callable[[Pair], Pair]

_NO_REQUEST = "this user has not asked to be your friend"
_ME: BindParameter[str] = bindparam("me")
_FIRST = im_relation.c.user_id1 == _ME
_SECOND = im_relation.c.user_id2 == _ME
_OUTGOING = or_(and_(_FIRST, im_relation.c.state == 1), and_(_SECOND, im_relation.c.state == 2))
_INCOMING = or_(and_(_FIRST, im_relation.c.state == 2), and_(_SECOND, im_relation.c.state == 1))
_FRIENDS = and_(or_(_FIRST, _SECOND), im_relation.c.state == RelationState.FRIENDS)
_COUNT_OUTGOING, _COUNT_INCOMING, _COUNT_FRIENDS = (
    select(func.count()).select_from(im_relation).where(which) for which in (_OUTGOING, _INCOMING, _FRIENDS)
)


class Change:
    """What one call has done to a pair: the state before and after, and, where it makes a difference to who may write
    to whom, what is to be announced."""

    __slots__ = ("after", "before", "logged")

    def __init__(self, before: Pair, after: Pair, logged: Logged | None) -> None:
        self.before = before
        self.after = after
        self.logged = logged

    @property
    def effective(self) -> bool:
        """False for a repetition that has changed nothing."""
        return self.before != self.after


class Relations:
    """Changes relations. `max_friends` and `max_requests` bound what one user may have: friends, and unanswered
    requests in each direction."""

    def __init__(
        self, database: Database, log: AnnouncementLog, keys: KeyVersions, *, max_friends: int, max_requests: int
    ) -> None:
        self._database = database
        self._log = log
        self._keys = keys
        self._max_friends = max_friends
        self._max_requests = max_requests

    async def ask(self, me: str, peer: str, *, now: int) -> Change:
        """Asks `peer` to be a friend, or becomes one if the peer has asked too. Idempotent. If the peer has blocked
        `me` it looks the same from here, and nothing reaches the peer.

        Raises `NotWithOneself`, `UnknownUser`, `BlockedByYou`, `LimitReached`."""

        def rule(pair: Pair) -> Pair:
            if pair.blocked_by_me:
                raise BlockedByYou("you have blocked this user; unblock first")
            return pair.asked()

        return await self._change(me, peer, rule, now=now, create=True)

    async def accept(self, me: str, peer: str, *, now: int) -> Change:
        """Accepts the request of `peer`; repeating it changes nothing. Raises `NoSuchRequest`, `LimitReached`."""

        def rule(pair: Pair) -> Pair:
            if pair.friends and not pair.blocked_by_me:
                return pair
            if not pair.asked_by_peer or pair.blocked_by_me:
                raise NoSuchRequest(_NO_REQUEST)
            return pair.befriended()

        return await self._change(me, peer, rule, now=now, missing=NoSuchRequest(_NO_REQUEST))

    async def decline(self, me: str, peer: str, *, now: int) -> Change:
        """Declines the request of `peer`, who is not told. Raises `NoSuchRequest`."""

        def rule(pair: Pair) -> Pair:
            if not pair.asked_by_peer or pair.blocked_by_me:
                raise NoSuchRequest(_NO_REQUEST)
            return pair.parted()

        return await self._change(me, peer, rule, now=now, missing=NoSuchRequest(_NO_REQUEST))

    async def unfriend(self, me: str, peer: str, *, now: int) -> Change:
        """Ends the friendship; its key is destroyed. Raises `NotFriends`."""

        def rule(pair: Pair) -> Pair:
            if not pair.friends:
                raise NotFriends("you are not friends")
            return pair.parted()

        return await self._change(me, peer, rule, now=now, missing=NotFriends("you are not friends"))

    async def block(self, me: str, peer: str, *, now: int) -> Change:
        """Blocks `peer`, who is not told. Idempotent. Raises `NotWithOneself`, `UnknownUser`."""
        return await self._change(me, peer, Pair.block, now=now, create=True)

    async def unblock(self, me: str, peer: str, *, now: int) -> Change:
        """Takes the block back. Raises `NotBlocked`."""

        def rule(pair: Pair) -> Pair:
            if not pair.blocked_by_me:
                raise NotBlocked("you have not blocked this user")
            return pair.unblock()

        return await self._change(me, peer, rule, now=now, missing=NotBlocked("you have not blocked this user"))

    async def _change(
        self, me: str, peer: str, rule: Rule, *, now: int, create: bool = False, missing: Exception | None = None
    ) -> Change:
        if me == peer and create:
            raise NotWithOneself("the other user must be someone else")
        user1, user2 = ordered(me, peer)

        async def work(connection: AsyncConnection) -> Change:
            if create:
                if not await is_active(connection, peer):
                    raise UnknownUser("there is no such user")
                await self._make_row(connection, user1, user2, now)
            row = (await connection.execute(pair_row(user1, user2))).one_or_none()
            if row is None:
                raise missing if missing is not None else UnknownUser("there is no such user")
            before = Pair(me, peer, RelationState(row.state), row.blocked)
            after = rule(before)
            if after != before:
                await self._check_limits(connection, before, after)
                await self._store(connection, before, after, row.key_version, now)
            logged = None
            if after.open != before.open:
                logged = await self._log.add(connection, RelationChanged(user1, user2), now=now)
            return Change(before, after, logged)

        return await self._database.write(work)

    async def _make_row(self, connection: AsyncConnection, user1: str, user2: str, now: int) -> None:
        row = {"user_id1": user1, "user_id2": user2, "state": 0, "blocked": 0, "key_version": 0}
        await connection.execute(self._database.insert_or_keep(im_relation), {**row, "created": now, "updated": now})

    async def _check_limits(self, connection: AsyncConnection, before: Pair, after: Pair) -> None:
        if after.friends and not before.friends:
            for user in (after.me, after.peer):
                if await _count(connection, _COUNT_FRIENDS, user) >= self._max_friends:
                    raise LimitReached(f"a user may have at most {self._max_friends} friends")
        if after.asked_by_me and not before.asked_by_me:
            outgoing = await _count(connection, _COUNT_OUTGOING, after.me)
            incoming = await _count(connection, _COUNT_INCOMING, after.peer)
            if max(outgoing, incoming) >= self._max_requests:
                raise LimitReached(f"a user may have at most {self._max_requests} unanswered friend requests")

    async def _store(self, connection: AsyncConnection, before: Pair, after: Pair, version: int, now: int) -> None:
        user1, user2 = ordered(after.me, after.peer)
        values: dict[str, object] = {"state": int(after.state), "blocked": after.blocked}
        if after.state != before.state:
            # A block alone leaves no trace: the peer's request keeps its time.
            values["updated"] = now
        if after.friends and not before.friends:
            # The version goes on rising over friendships, so an old wrapped key never fits a new row.
            values["key_version"] = version + 1
            await self._keys.make(connection, user1, user2, version + 1, now=now)
        elif before.friends and not after.friends:
            await self._keys.destroy(connection, user1, user2)
        await connection.execute(
            update(im_relation).where(im_relation.c.user_id1 == user1, im_relation.c.user_id2 == user2).values(**values)
        )


def pair_row(user1: str, user2: str, *, lock: bool = True) -> Select[int, int, int]:
    """The row of a pair, under a lock to the end of the transaction where something is to be changed."""
    statement = select(im_relation.c.state, im_relation.c.blocked, im_relation.c.key_version).where(
        im_relation.c.user_id1 == user1, im_relation.c.user_id2 == user2
    )
    return statement.with_for_update() if lock else statement


async def _count(connection: AsyncConnection, statement: Select[int], user: str) -> int:
    return await connection.scalar(statement, {"me": user}) or 0
