"""Files by their metadata: whose, how large, who may fetch them. The bytes are `aldis.bridge.blobs`' affair.

    (nothing) ──begin──> UPLOADING ──finish──> THERE ──remove, expired──> GONE ──forget──> (nothing)
                             └──give up, deadline over──────────────────────^

Bytes are written while a file is UPLOADING, and removed only once it is GONE: whoever removes has said so first, and a
`finish` that comes later finds nothing to finish. What an owner has is summed up anew, under the lock of the owner's
row, whenever an upload begins: there is no counter that could drift.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.errors import LimitReached, NotFriends, SessionEnded
from aldis.bridge.accounts.file_errors import UnknownFile, UploadTimeout
from aldis.bridge.accounts.pairs import Pair, ordered
from aldis.bridge.accounts.records import RelationState
from aldis.bridge.accounts.users import is_active
from aldis.bridge.schema import im_file, im_file_grant, im_relation, im_storage

UPLOADING, THERE, GONE = 0, 1, 2
"""`im_file.state`. Stored as these numbers; never renumber."""

_STORAGE = "files"
_file, _grant = im_file.c, im_file_grant.c


class FileEntry(msgspec.Struct, frozen=True):
    """One file that is there. `hash` is the SHA-256 of its bytes."""

    file_id: str
    owner: str
    name: str
    mime: str
    size: int
    hash: bytes
    created: int
    expires: int | None


class NewFile(msgspec.Struct, frozen=True):
    """What is known when an upload begins: at most `size` bytes, until `deadline`."""

    file_id: str
    owner: str
    receivers: Collection[str]
    size: int
    deadline: int


class FileLimits(msgspec.Struct, frozen=True):
    """What one owner's files may be together, and how many may have one of them."""

    total: int
    files: int
    receivers: int


_FOR_ME = (
    select(
        _file.file_id, _file.owner, _file.name, _file.mime, _file.size, _file.hash, _file.created, _file.expires
    )
    .outerjoin(im_file_grant, and_(_grant.file_id == _file.file_id, _grant.user_id == bindparam("me")))
    .where(
        _file.file_id == bindparam("file"),
        _file.state == THERE,
        or_(_file.expires.is_(None), _file.expires > bindparam("now")),
        or_(_file.owner == bindparam("me"), _grant.user_id.is_not(None)),
    )
)  # fmt: skip
_USED = select(func.count(), func.coalesce(func.sum(_file.size), 0)).where(
    _file.owner == bindparam("owner"), _file.state.in_([UPLOADING, THERE])
)
_MINE = (
    select(_file.file_id, _file.owner, _file.name, _file.mime, _file.size, _file.hash, _file.created, _file.expires)
    .where(
        _file.owner == bindparam("owner"),
        _file.state == THERE,
        or_(_file.expires.is_(None), _file.expires > bindparam("now")),
        # two conditions: not every database looks up a pair of columns in an index
        _file.created <= bindparam("created"),
        or_(_file.created < bindparam("created"), _file.file_id < bindparam("file")),
    )
    .order_by(_file.created.desc(), _file.file_id.desc())
    .limit(bindparam("limit"))
)
_RECEIVERS = select(func.count()).select_from(im_file_grant).where(_grant.file_id == bindparam("file"))


class Files:
    """The tables `im_file` and `im_file_grant`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, new: NewFile, limits: FileLimits, *, now: int) -> None:
        """Sets `new.size` bytes aside for an upload. Raises `NotFriends` unless the owner and every receiver may write
        to each other, `LimitReached`, `SessionEnded` for an account that has been disabled."""
        if len(new.receivers) > limits.receivers:
            raise LimitReached(f"a file may have at most {limits.receivers} receivers")

        async def work(connection: AsyncConnection) -> None:
            if not await is_active(connection, new.owner, lock=True):
                raise SessionEnded("this account is disabled")
            for receiver in new.receivers:
                await _check_correspondents(connection, new.owner, receiver)
            count, used = (await connection.execute(_USED, {"owner": new.owner})).one()
            if count >= limits.files:
                raise LimitReached(f"a user may have at most {limits.files} files")
            if used + new.size > limits.total:
                raise LimitReached(f"a user's files may have at most {limits.total} bytes together")
            row = {"file_id": new.file_id, "owner": new.owner, "name": "", "mime": "", "size": new.size, "hash": None}
            await connection.execute(
                insert(im_file), {**row, "state": UPLOADING, "created": now, "expires": new.deadline}
            )
            for receiver in sorted(set(new.receivers) - {new.owner}):
                await self._grant(connection, new.file_id, receiver, new.owner, now)

        await self._database.write(work)

    async def finish(self, entry: FileEntry) -> None:
        """Its bytes are in the storage, whole: from now on it can be fetched. Raises `UploadTimeout` if it has been
        given up meanwhile."""

        async def work(connection: AsyncConnection) -> None:
            values = {"name": entry.name, "mime": entry.mime, "size": entry.size, "hash": entry.hash}
            finished = await connection.execute(
                update(im_file)
                .where(_file.file_id == entry.file_id, _file.state == UPLOADING, _file.expires > entry.created)
                .values(**values, state=THERE, created=entry.created, expires=entry.expires)
            )
            if not finished.rowcount:
                raise UploadTimeout("the upload has taken too long")

        await self._database.write(work)

    async def find(self, me: str, file_id: str, *, now: int) -> FileEntry:
        """A file that `me` may fetch. Raises `UnknownFile`, in the same words whether there is none or it is not for
        me."""
        async with self._database.read() as connection:
            row = (await connection.execute(_FOR_ME, {"me": me, "file": file_id, "now": now})).one_or_none()
        if row is None:
            raise UnknownFile("there is no such file for you")
        return FileEntry(*row)

    async def give(self, me: str, file_id: str, to: str, *, limit: int, now: int) -> None:
        """Lets `to` fetch it, too; repeating changes nothing. Raises `UnknownFile`, `NotFriends`, `LimitReached`."""

        async def work(connection: AsyncConnection) -> None:
            # locked: of two that are given it at once, the second is counted after the first
            known = {"me": me, "file": file_id, "now": now}
            row = (await connection.execute(_FOR_ME.with_for_update(of=im_file), known)).one_or_none()
            if row is None:
                raise UnknownFile("there is no such file for you")
            await _check_correspondents(connection, me, to)
            if to == row.owner:
                return
            has = select(_grant.user_id).where(_grant.file_id == file_id, _grant.user_id == to)
            if (await connection.execute(has)).first() is not None:
                return
            if (await connection.scalar(_RECEIVERS, {"file": file_id}) or 0) >= limit:
                raise LimitReached(f"a file may have at most {limit} receivers")
            await self._grant(connection, file_id, to, me, now)

        await self._database.write(work)

    async def remove(self, me: str, file_id: str, *, now: int) -> bool:
        """The owner's file goes for everybody (True: its bytes may be removed); a receiver's for the receiver alone.
        Raises `UnknownFile`."""

        async def work(connection: AsyncConnection) -> bool:
            row = (await connection.execute(_FOR_ME, {"me": me, "file": file_id, "now": now})).one_or_none()
            if row is None:
                raise UnknownFile("there is no such file for you")
            if row.owner != me:
                mine = (_grant.file_id == file_id) & (_grant.user_id == me)
                await connection.execute(delete(im_file_grant).where(mine))
                return False
            await connection.execute(update(im_file).where(_file.file_id == file_id).values(state=GONE, expires=now))
            return True

        return await self._database.write(work)

    async def give_up(self, file_id: str, *, now: int) -> None:
        """An upload has failed, at whatever point: what is set aside for it is free, and its bytes may be removed."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(im_file).where(_file.file_id == file_id).values(state=GONE, expires=now))

        await self._database.write(work)

    async def forget(self, file_ids: Collection[str]) -> None:
        """Deletes what is said of files that are GONE, once their bytes are."""
        if not file_ids:
            return

        async def work(connection: AsyncConnection) -> None:
            gone = select(_file.file_id).where(_file.file_id.in_(file_ids), _file.state == GONE)
            ids = list((await connection.scalars(gone)).all())
            await connection.execute(delete(im_file_grant).where(_grant.file_id.in_(ids)))
            await connection.execute(delete(im_file).where(_file.file_id.in_(ids), _file.state == GONE))

        await self._database.write(work)

    async def mine(self, owner: str, *, before: tuple[int, str], limit: int, now: int) -> list[FileEntry]:
        """What the user has sent and not removed, the newest first: at most `limit` of those that come after the file
        of this time and id, which may be gone."""
        query = {"owner": owner, "created": before[0], "file": before[1], "limit": limit, "now": now}
        async with self._database.read() as connection:
            return [FileEntry(*row) for row in (await connection.execute(_MINE, query)).all()]

    async def used(self, owner: str) -> tuple[int, int]:
        """How many files the user has, uploads under way included, and their bytes."""
        async with self._database.read() as connection:
            count, size = (await connection.execute(_USED, {"owner": owner})).one()
        return int(count), int(size)

    async def has_storage(self) -> bool:
        """Whether there has ever been a file."""
        async with self._database.read() as connection:
            mark = select(im_storage.c.mark).where(im_storage.c.name == _STORAGE)
            return await connection.scalar(mark) is not None

    async def storage_mark(self, found: str) -> str:
        """The mark of the storage that belongs to this database: `found`, if it is the first to be named."""

        async def work(connection: AsyncConnection) -> str:
            row = {"name": _STORAGE, "mark": found}
            await connection.execute(self._database.insert_or_keep(im_storage), row)
            mark: str | None = await connection.scalar(select(im_storage.c.mark).where(im_storage.c.name == _STORAGE))
            assert mark is not None
            return mark

        return await self._database.write(work)

    async def _grant(self, connection: AsyncConnection, file_id: str, to: str, by: str, now: int) -> None:
        row = {"file_id": file_id, "user_id": to, "granted_by": by, "created": now}
        await connection.execute(self._database.insert_or_keep(im_file_grant), row)


async def _check_correspondents(connection: AsyncConnection, me: str, peer: str) -> None:
    """Raises `NotFriends`, in the same words whatever stands between the two."""
    if peer == me:
        return
    user1, user2 = ordered(me, peer)
    statement: Any = select(im_relation.c.state, im_relation.c.blocked).where(
        im_relation.c.user_id1 == user1, im_relation.c.user_id2 == user2
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None or not Pair(me, peer, RelationState(row.state), row.blocked).open:
        raise NotFriends("you are not friends")
