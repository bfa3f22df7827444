"""A client that is gone before its CONNECT is answered: what the user status and other nodes were told of it is taken
back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aldis.broker.cluster_ports import Arrival
from aldis.broker.core.reasons import CloseReason
from tests import wire
from tests.unit.broker.chat import Chat
from tests.unit.broker.lab import until
from tests.unit.broker.test_cluster import FRIENDS, message, nodes


@asynccontextmanager
async def coming_in_vain(chat: Chat, *, clean: bool = True, patience: float = 60.0) -> AsyncIterator[None]:
    """Ben's phone connects; inside, the user status knows it, and it is gone. Behind, the node has the answer."""
    assert chat.cluster is not None
    chat.cluster.holdings._patience = patience
    status: Any = chat.cluster.way.status
    online, told, gate = status.online, asyncio.Event(), asyncio.Event()

    async def slow(devices: Sequence[tuple[str, str]]) -> list[Arrival]:
        arrivals: list[Arrival] = await online(devices)
        told.set()
        await gate.wait()
        return arrivals

    status.online = slow
    before = set(chat.node.connections)
    client = await chat.dial()
    client.send(wire.connect("phone", user="ben", clean=clean))
    await told.wait()
    (connection,) = chat.node.connections - before
    connection.end(CloseReason.ACCESS_REVOKED)  # or its time is over; what a client does now is not read
    yield
    gate.set()
    status.online = online
    await asyncio.sleep(0.5)


async def test_nobody_holds_it() -> None:
    async with nodes(FRIENDS) as made:
        cluster = made[0].cluster
        assert cluster is not None
        async with coming_in_vain(made[0]):
            pass
        assert not cluster.holdings.holds("ben")
        assert await cluster.way.status.present(["ben"]) == frozenset()
        assert (await cluster.way.status.connectors(["ben"]))["ben"] == frozenset()


async def test_nobody_holds_it_when_the_answer_comes_late() -> None:
    async with nodes(FRIENDS) as made:
        cluster = made[0].cluster
        assert cluster is not None
        async with coming_in_vain(made[0], patience=0.1):
            await asyncio.sleep(0.5)
        assert not cluster.holdings.holds("ben")
        assert await cluster.way.status.present(["ben"]) == frozenset()


async def test_its_persistent_session_waits_as_before() -> None:
    async with nodes(FRIENDS) as made:
        cluster = made[0].cluster
        assert cluster is not None
        await (await made[0].client("phone", user="ben", clean=False)).subscribed(("devices/ben/#", 1))
        made[0].clients[-1].close()
        await until(lambda: not made[0].node.connections)
        async with coming_in_vain(made[0], clean=False):
            pass
        assert await cluster.way.status.present(["ben"]) == frozenset()
        assert (await cluster.way.status.connectors(["ben"]))["ben"] == {"a"}
        again = await made[1].dial()
        await again.connected("phone", user="ben", clean=False, answer=wire.RESUMED)


async def test_an_earlier_connection_goes_on_and_its_end_is_heard_of() -> None:
    async with nodes(FRIENDS) as made:
        cluster = made[0].cluster
        assert cluster is not None
        ann, ben = await made[1].person("ann"), await made[0].person("ben")
        async with coming_in_vain(made[0]):
            pass
        assert await cluster.way.status.present(["ben"]) == {"ben"}
        ann.say("ben", {"id": 1, "body": 1}, id=1)
        assert (await message(ben))["body"] == 1
        ben.close()
        await until(lambda: not made[0].node.connections)
        await asyncio.sleep(0.5)
        assert not cluster.holdings.holds("ben")
        assert await cluster.way.status.present(["ben"]) == frozenset()


async def test_a_connection_elsewhere_that_it_has_replaced_ends() -> None:
    """Else it would go on there, and nobody would know of it."""
    async with nodes(FRIENDS) as made:
        cluster = made[0].cluster
        assert cluster is not None
        ben = await made[1].person("ben")
        async with coming_in_vain(made[0]):
            pass
        await ben.closed()
        assert await cluster.way.status.present(["ben"]) == frozenset()
