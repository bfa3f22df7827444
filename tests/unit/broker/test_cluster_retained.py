"""Retained messages of a user whose devices are on several nodes: one store, and what the nodes tell one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aldis.broker.core.packets import Message
from aldis.broker.retained_keeper import RetainedKeeper
from tests import wire
from tests.unit.broker.keeping import Store, say
from tests.unit.broker.lab import Client, until
from tests.unit.broker.test_cluster import Nodes, nodes

TOPIC = "devices/ann/lamp"


class Keepers:
    """Two nodes, each with a keeper on the same store."""

    def __init__(self, made: Nodes) -> None:
        self.nodes = made
        self.store = Store()
        self.keepers: list[RetainedKeeper] = []
        for chat in made.chats:
            keeper = RetainedKeeper(chat.node, self.store)
            keeper.start()
            assert chat.cluster is not None
            chat.cluster._retained = keeper
            self.keepers.append(keeper)

    async def client(self, number: int, device: str) -> Client:
        return await self.nodes[number].client(device, user="ann")

    async def hears(self, number: int, device: str) -> dict[str, bytes]:
        """What a new subscription of a new device gets with the RETAIN flag."""
        client = await (await self.client(number, device)).subscribed(("devices/ann/#", 0))
        told = [wire.published(packet) for packet in await client.settled()]
        return {one.topic: one.payload for one in told if one.retain}

    def memory(self, number: int) -> Message | None:
        return self.nodes[number].node.router.retained.get(TOPIC)


@asynccontextmanager
async def keeping() -> AsyncIterator[Keepers]:
    async with nodes(("ann", "ben")) as made:
        kept = Keepers(made)
        try:
            yield kept
        finally:
            kept.store.down = False
            kept.store.writing.set()
            kept.store.gate.set()
            for keeper in kept.keepers:
                await asyncio.wait_for(keeper.stop(), 5)


async def test_what_is_retained_on_one_node_is_there_on_the_other_before_it_is_written() -> None:
    async with keeping() as kept:
        phone = await kept.client(0, "phone")
        pad = await (await kept.client(1, "pad")).subscribed(("devices/ann/#", 1))
        kept.store.writing.clear()
        await say(phone, b"on", TOPIC)
        found = await pad.publication()
        assert (found.payload, found.retain) == (b"on", False)
        assert await kept.hears(1, "new") == {TOPIC: b"on"}
        await say(phone, b"", TOPIC)
        await pad.publication()
        assert await kept.hears(1, "newer") == {}


async def test_of_a_change_here_and_one_there_the_later_is_kept() -> None:
    async with keeping() as kept:
        phone, pad = await kept.client(0, "phone"), await kept.client(1, "pad")
        await say(phone, b"0", TOPIC)
        await until(lambda: len(kept.store.writes) == 1)
        for number in range(1, 20):
            await say((phone, pad)[number % 2], b"%d" % number, TOPIC)
            await until(
                lambda n=number: all((kept.memory(one) or Message("", b"")).payload == b"%d" % n for one in (0, 1))
            )
        await until(lambda: not any(len(keeper._unwritten) for keeper in kept.keepers))
        assert await kept.store.kept("ann") == {TOPIC: b"19"}


async def test_a_node_that_the_user_is_new_on_is_told_what_the_store_does_not_have_yet() -> None:
    """The device reads the store before the change is written, and was nowhere when it was made."""
    async with keeping() as kept:
        phone = await kept.client(0, "phone")
        kept.store.writing.clear()
        await say(phone, b"on", TOPIC)
        kept.nodes.wire.hold()
        assert await kept.hears(1, "pad") == {}
        kept.nodes.wire.release()
        await until(lambda: kept.memory(1) is not None)
        assert await kept.hears(1, "other") == {TOPIC: b"on"}


async def test_after_a_hole_the_store_is_read_again() -> None:
    async with keeping() as kept:
        phone, pad = await kept.client(0, "phone"), await kept.client(1, "pad")
        await pad.subscribed(("devices/ann/#", 0))
        await say(phone, b"old", TOPIC)
        assert (await pad.publication()).payload == b"old"
        kept.nodes.wire.cut()
        await say(phone, b"new", TOPIC)
        await until(lambda: not len(kept.keepers[0]._unwritten))
        await asyncio.sleep(0.3)  # a grain of the node's clock
        kept.nodes.wire.mend()
        await until(lambda: kept.keepers[1]._owners["ann"].doubted is not None)
        assert await kept.hears(1, "other") == {TOPIC: b"new"}
