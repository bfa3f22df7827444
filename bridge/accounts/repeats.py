"""Requests that carry an Idempotency-Key: what the first one was answered, for a while."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database, is_duplicate
from aldis.bridge.schema import im_repeat


class Earlier(msgspec.Struct, frozen=True):
    """An earlier request with the same key. `answer` is None while it runs."""

    request_hash: bytes
    answer: bytes | None


class Repeats:
    """The table `im_repeat`. Keys and requests are known here by their hashes, answers only sealed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, key_hash: bytes, request_hash: bytes, *, now: int, expires: int, instead_of: bytes | None = None
    ) -> Earlier | None:
        """Takes the key until then, for a request that now runs; or says what there was with this key before.
        `instead_of` is an earlier answer that is not good any more."""

        async def work(connection: AsyncConnection) -> Earlier | None:
            await connection.execute(
                delete(im_repeat).where(
                    im_repeat.c.key_hash == key_hash,
                    or_(im_repeat.c.expires <= now, im_repeat.c.answer == instead_of)
                    if instead_of is not None
                    else im_repeat.c.expires <= now,
                )
            )
            row = {"key_hash": key_hash, "request_hash": request_hash, "answer": None, "expires": expires}
            try:
                await connection.execute(insert(im_repeat), row)
            except IntegrityError as error:
                if not is_duplicate(error):
                    raise
                there = select(im_repeat.c.request_hash, im_repeat.c.answer).where(im_repeat.c.key_hash == key_hash)
                found = (await connection.execute(there)).one()
                return Earlier(found.request_hash, found.answer)
            return None

        return await self._database.write(work)

    async def finish(self, key_hash: bytes, answer: bytes, *, expires: int) -> None:
        """The answer to the request that runs under this key, kept until then."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(im_repeat).where(im_repeat.c.key_hash == key_hash).values(answer=answer, expires=expires)
            )

        await self._database.write(work)

    async def give_up(self, key_hash: bytes) -> None:
        """The request has failed: the key is free for another attempt."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(im_repeat).where(im_repeat.c.key_hash == key_hash))

        await self._database.write(work)

    async def clean(self, *, now: int, limit: int) -> int:
        """Deletes what has expired, at most `limit` rows; how many."""
        async with self._database.read() as connection:
            old = select(im_repeat.c.key_hash).where(im_repeat.c.expires <= now).limit(limit)
            keys = list((await connection.scalars(old)).all())
        if keys:

            async def work(connection: AsyncConnection) -> None:
                await connection.execute(
                    delete(im_repeat).where(im_repeat.c.key_hash.in_(keys), im_repeat.c.expires <= now)
                )

            await self._database.write(work)
        return len(keys)
