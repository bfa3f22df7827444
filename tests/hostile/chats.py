"""The whole node as a target: our plugins, inboxes, group commit, and a store that fails now and then."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from aldis.bridge.bus import LocalBus
from aldis.bridge.credentials import AccessTokens
from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.memory_status import MemoryUserStatus
from aldis.broker.connection import Connection
from aldis.broker.holdings import Holdings
from aldis.broker.inboxes import Inboxes
from aldis.broker.node import Node
from aldis.broker.ports import StoreUnavailable
from aldis.config.settings import Settings, Timeouts
from aldis.plugins.services import Services
from tests import wire
from tests.hostile import recipes
from tests.hostile.nodes import LIMITS, Wire, check_output, check_session, play
from tests.hostile.recipes import Choices
from tests.unit.broker.chat import OURS, Friends, Store
from tests.unit.broker.lab import connector

TIMEOUTS = Timeouts(commit_retry=0.001, hold_back=0.005, collect_acknowledgements=0.001)
PAYLOADS = [
    b'{"id":"a","body":1}',
    b'{"id":"a","body":1}',
    b'{"id":"b","body":2}',
    b"text",
    b'{"id":1,"seq":1}',
    b'{"id":2,"seq":2}',
    b'{"id":4,"seq":4}',
    b'{"seq":3}',
    b'{"n":1}',
    b'{"id":[]}',
    b"\xff",
    b"{" * 70,
    b'{"type":"read","up_to":1}',
    b'{"type":"read","up_to":9007199254740991}',
]
TOPICS = [*["inbox/v/chat/u"] * 2, "inbox/u/chat/u", "inbox/v/receipt/u", "inbox/v/typing/u", "inbox/x/chat/u"]


class World:
    """One node of its own, without a listener, and two friends: `u`, who is hostile, and `v`, who listens."""

    def __init__(self) -> None:
        self.defects: list[BaseException] = []
        made = connector(OURS, LIMITS, TIMEOUTS)
        self.node: Node = made.node
        self.node.failed = self._failed  # type: ignore[method-assign]
        self.store, bus = Store(), LocalBus()
        ticks = iter(range(1_700_000_000_000, 1_800_000_000_000))
        inboxes = Inboxes(self.node, self.store, lambda: next(ticks))
        self.writer = GroupCommit(self.store, on_committed=inboxes.committed, retry=TIMEOUTS.commit_retry)
        inboxes.writer = self.writer
        made.services = Services(
            settings=Settings(limits=LIMITS, timeouts=TIMEOUTS),
            node=self.node,
            inboxes=inboxes,
            directory=Friends(("u", "v")),
            tokens=AccessTokens(bytes(32)),
            bus=bus,
            holdings=Holdings(MemoryUserStatus(""), lambda: 0, patience=1.0),
            now_ms=lambda: next(ticks),
        )
        made.load_plugins()
        self.writer.start()
        self.node.start()

    def _failed(self, connection: Connection, error: Exception) -> None:
        self.defects.append(error)
        Node.failed(self.node, connection, error)

    def dial(self, user: str, device: str, *more: bytes, clean: bool = True) -> tuple[Connection, Wire]:
        connection, told = Connection(self.node, None), Wire()
        connection.connection_made(told)  # type: ignore[arg-type]
        connection.data_received(wire.connect(device, user=user, clean=clean) + b"".join(more))
        return connection, told

    async def settle(self, turns: int = 8) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        if self.defects:
            raise self.defects[0]
        for subscriber in self.node.sessions.subscribers.values():
            check_session(subscriber.session)

    async def close(self) -> None:
        for connection in list(self.node.connections):
            connection.connection_lost(None)
        self.store.repair()
        await self.writer.stop(1.0)
        self.node.stop()
        self.store.batches.clear()  # their messages lead back to this node, and no garbage collector looks into them


class Listener:
    """The friend's device: acknowledges all that comes, and judges it."""

    def __init__(self, world: World) -> None:
        self.connection, self.told = world.dial("v", "phone", wire.subscribe(1, ("inbox/v/#", 1)))
        self.items: list[dict[str, Any]] = []
        self._read = 0

    def listen(self) -> None:
        found = deque(split(bytes(self.told.written[self._read :])))
        self._read = len(self.told.written)
        for packet in found:
            if wire.is_publish(packet):
                one = wire.published(packet)
                if one.qos:
                    self.connection.data_received(wire.puback(one.id))
                    self.items.append(one.document)
        assert self.connection.closed is None, f"the listener was disconnected: {self.connection.closed}"


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        size, at, shift = 0, 1, 0
        while True:
            size |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 0x80:
                break
        found.append(data[: at + size])
        data = data[at + size :]
    return found


def inbox(data: bytes) -> None:
    """A hostile friend who sends anything, breaks off and comes back, while the store fails: what was acknowledged is
    stored, once for each id, and the other's inbox arrives without a gap, in order."""
    play(_inbox, data)


async def _inbox(_: object, choices: Choices) -> None:
    world = World()
    try:
        await _scene(world, choices)
    finally:
        await world.close()


async def _scene(world: World, choices: Choices) -> None:
    listener = Listener(world)
    await world.settle()
    wires: list[Wire] = []

    def dial() -> Connection:
        more = wire.subscribe(9, ("inbox/u/#", choices.below(3)))
        connection, told = world.dial("u", "phone", more, clean=choices.below(2) == 0)
        wires.append(told)
        return connection

    client = dial()
    for _ in range(40):
        if not choices.left:
            break
        match choices.below(16):
            case 0:
                client.connection_lost(None)
            case 1:
                world.store.after = choices.below(2) == 1
                world.store.errors = [StoreUnavailable("disk full")] * (1 + choices.below(3))
            case 2:
                await world.settle(30)
            case 3 | 4 | 5:
                packet = recipes.spoil(choices, recipes.PACKETS[choices.below(8)](choices))
                client.data_received(packet)
            case 6:
                client.data_received(recipes.acknowledgement(choices))
            case _:
                topic, payload = TOPICS[choices.below(len(TOPICS))], PAYLOADS[choices.below(len(PAYLOADS))]
                client.data_received(publish(choices, topic, payload))
        if choices.below(4) == 0:
            await world.settle()
            listener.listen()
        if client.closed is not None:
            client = dial()
    await _judge(world, listener, wires)


def publish(choices: Choices, topic: str, payload: bytes) -> bytes:
    qos = choices.below(3)
    return wire.publish(topic, payload, qos=qos, id=1 + choices.below(3), dup=bool(qos and choices.below(4) == 3))


async def _judge(world: World, listener: Listener, wires: list[Wire]) -> None:
    world.store.repair()
    await asyncio.sleep(2 * TIMEOUTS.hold_back)
    await world.settle()
    await world.writer.flush()
    stored = await world.store.items("v", after=0, limit=1_000)
    for _ in range(200):
        if len(listener.items) >= len(stored):
            break
        await world.settle()
        await asyncio.sleep(0.002)
        listener.listen()
    assert [one["n"] for one in listener.items] == list(range(1, len(stored) + 1))
    assert [one["mid"] for one in listener.items] == [item.mid for item in stored]
    ids = [one["id"] for one in listener.items if "id" in one]
    assert len(ids) == len({json.dumps(id) for id in ids}), "one id, two messages"
    mids = {item.mid for user in "uv" for item in await world.store.items(user, after=0, limit=1_000)}
    for told in wires:
        check_output(bytes(told.written))
        for packet in split(bytes(told.written)):
            if wire.is_publish(packet) and wire.published(packet).topic.startswith("inbox/u/receipt/"):
                document = wire.published(packet).document
                assert document["type"] != "sent" or document["mid"] in mids, "sent, but not stored"
