"""A chat server whose retained messages are kept in a store that obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aldis.bridge.memory import MemoryStore
from aldis.broker.ports import RetainedMessage, StoreUnavailable
from aldis.broker.retained_keeper import RetainedKeeper
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.chat import Chat, chatting
from tests.unit.broker.lab import Client, until

QUICK = Timeouts(collect_retained=0.01, read_retained=0.3, commit_retry=0.02)
TOPIC = "devices/alice/lamp"


class Store(MemoryStore):
    """Remembers what it was asked, refuses on command, and holds readings back at a gate, before or after."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[RetainedMessage]] = []
        self.reads: list[str] = []
        self.down = False
        self.defect = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = asyncio.Event()
        self.writing.set()

    async def retain(self, messages: Sequence[RetainedMessage]) -> None:
        await self.writing.wait()
        if self.defect:
            self.defect = False
            raise RuntimeError("a defect")
        if self.down:
            raise StoreUnavailable("disk full")
        await super().retain(messages)
        self.writes.append(list(messages))

    async def retained(self, prefix: str, *, limit: int) -> list[RetainedMessage]:
        self.reads.append(prefix)
        if self.down:
            raise StoreUnavailable("no route to the database")
        found = await super().retained(prefix, limit=limit)
        await self.gate.wait()
        return found

    async def kept(self, user: str = "alice") -> dict[str, bytes]:
        return {one.topic: one.payload for one in await MemoryStore.retained(self, f"devices/{user}/", limit=10_000)}


class Keeping:
    def __init__(self, chat: Chat, store: Store) -> None:
        self.chat = chat
        self.store = store
        self.node = chat.node
        self.keeper = RetainedKeeper(chat.node, store)
        self.keeper.start()

    async def client(self, device: str = "phone", user: str = "alice", **options: Any) -> Client:
        return await self.chat.client(device, user=user, **options)

    def in_memory(self) -> dict[str, bytes]:
        return {topic: message.payload for topic, message in self.node.router.retained.items()}

    async def written(self) -> None:
        await until(lambda: not len(self.keeper._unwritten))


async def say(client: Client, payload: bytes, topic: str = TOPIC, *, qos: int = 1, retain: bool = True) -> None:
    client.send(wire.publish(topic, payload, qos=qos, id=7, retain=retain))
    if qos:
        await client.expect(wire.puback(7))


@asynccontextmanager
async def keeping(
    store: Store | None = None, limits: Limits | None = None, timeouts: Timeouts = QUICK
) -> AsyncIterator[Keeping]:
    async with chatting(("alice", "bob"), limits=limits, timeouts=timeouts) as chat:
        made = Keeping(chat, store or Store())
        try:
            yield made
        finally:
            made.store.down = False
            made.store.gate.set()
            made.store.writing.set()
            await asyncio.wait_for(made.keeper.stop(), 5)
