"""Messages for the tests of the history: a message store on the same tables as the accounts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from aldis.bridge.mysql import MySqlStore
from aldis.bridge.schema import im_history, im_message
from aldis.bridge.sqlite import SqliteStore
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.ports import Batch, Kind, NewMessage, Store, Stored
from tests.accounts.world import World
from tests.databases import shared_database

DAY = 86_400_000


class Talk:
    """What users write. `store` is the connector's; `world` has the same tables."""

    def __init__(self, world: World, store: Store) -> None:
        self.world = world
        self.store = store

    async def say(
        self, sender: str, to: str, *texts: str, sync: bool = False, ids: bool = False, ago: int = 0
    ) -> list[Stored]:
        """One message for each text, all in one commit, `ago` milliseconds ago."""
        created = self.world.now() - ago
        messages = [
            NewMessage(
                sender,
                "phone",
                to,
                json.dumps({"body": text}).encode(),
                created,
                Kind.CHAT,
                json.dumps(text) if ids else None,
                None,
                sync,
            )
            for text in texts
        ]
        return (await self.store.commit(Batch(messages))).stored

    async def take(self, user: str, device: str = "phone", *, up_to: int | None = None, at: int | None = None) -> None:
        """The device has everything, or everything up to that n; it was last seen then."""
        from aldis.broker.ports import CursorMove

        claim = await self.store.claim(user, device, now=at if at is not None else self.world.now(), limit=9)
        cursor = claim.head if up_to is None else up_to
        await self.store.commit(Batch(moves=[CursorMove(user, device, claim.epoch, cursor)]))

    async def indexed(self) -> list[tuple[str, str, int]]:
        async with self.world.engine.connect() as connection:
            rows = await connection.execute(select(im_history).order_by(im_history.c.mid))
            return [tuple(row) for row in rows]

    async def stored(self) -> dict[int, bytes]:
        """Contents by mid."""
        async with self.world.engine.connect() as connection:
            rows = await connection.execute(select(im_message.c.mid, im_message.c.content).order_by(im_message.c.mid))
            return {row.mid: row.content for row in rows}


@asynccontextmanager
async def talking(world: World, folder: Path, back_end: str) -> AsyncIterator[Talk]:
    store: Store
    if back_end == "mysql":
        store = MySqlStore(shared_database("aldis_accounts"), largest=4_000_000)
    else:
        assert isinstance(world.turn, WriteTurn)
        store = SqliteStore(folder / "aldis.db", busy_timeout=5.0, turn=world.turn)
    await store.open()
    try:
        yield Talk(world, store)
    finally:
        await store.close()
