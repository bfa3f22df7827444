"""A connector with inboxes, all of it in memory: our plugins, the group commit, a store and a directory that obey."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pydantic import SecretStr

from aldis.bridge.bus import LocalBus
from aldis.bridge.credentials import AccessTokens
from aldis.bridge.group_commit import GroupCommit
from aldis.broker.cluster import Cluster, Links
from aldis.broker.compose_cluster import alone, among_others
from aldis.broker.inboxes import Inboxes
from aldis.broker.ports import (
    Announcement,
    Bus,
    Claim,
    Device,
    Grant,
    Item,
    Position,
    RelationChanged,
    Stored,
    StoreUnavailable,
)
from aldis.config.cluster import Cluster as ClusterSettings
from aldis.config.settings import Limits, Settings, Timeouts
from aldis.plugins.services import Services
from tests import wire
from tests.unit.bridge.flaky import FlakyStore
from tests.unit.broker.lab import ANONYMOUS, Client, Lab, Plugins, connector

OURS: Plugins = {
    ANONYMOUS: {},
    "aldis.plugins.authorisation.TopicAuthorisation": {},
    "aldis.plugins.ordering.Ordering": {},
    "aldis.plugins.delivery.Delivery": {},
}
AMONG_OTHERS = ClusterSettings(
    redis_url=SecretStr("redis://127.0.0.1"),  # not used: the way is given
    sweep=30.0,
    sweep_unconnected=0.1,
    ownership=0.5,
    status_timeout=0.3,
    hand_over=0.3,
    settle=0.5,
)
QUICK = Timeouts(commit_retry=0.02, hold_back=0.3, collect_acknowledgements=0.001)


class Store(FlakyStore):
    """Its reads fail, too, on command; `claims` holds claims back before they are made."""

    reads_fail = False
    positions_fail = False

    def __init__(self) -> None:
        super().__init__()
        self.claims = asyncio.Event()
        self.claims.set()

    def _try(self) -> None:
        if self.reads_fail:
            raise StoreUnavailable("no route to the database")

    async def positions(self, users: Sequence[str]) -> dict[str, Position]:
        if self.positions_fail:
            raise StoreUnavailable("no route to the database")
        return await super().positions(users)

    async def claim(self, user: str, device: str, *, now: int, limit: int) -> Claim:
        self._try()
        await self.claims.wait()
        return await super().claim(user, device, now=now, limit=limit)

    async def items(self, user: str, *, after: int, limit: int) -> list[Item]:
        self._try()
        return await super().items(user, after=after, limit=limit)

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        self._try()
        return await super().last_seq(user, device, recipient)

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        self._try()
        return await super().find(user, device, id)

    async def devices(self, user: str) -> list[Device]:
        self._try()
        return await super().devices(user)


class Friends:
    """The directory: who has accepted whom. `gate` holds answers back after they were read."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = {frozenset(pair) for pair in pairs}
        self.unavailable = False
        self.asked = 0
        self.log: list[tuple[int, Announcement]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def correspondents(self, user: str) -> frozenset[str]:
        self.asked += 1
        if self.unavailable:
            raise StoreUnavailable("accounts are away")
        found = frozenset(other for pair in self.pairs if user in pair for other in pair - {user})
        await self.gate.wait()
        return found

    async def token(self, hashed: bytes, *, now: int) -> Grant | None:
        return None

    async def session_active(self, session: str) -> bool:
        return True

    async def user_active(self, user: str) -> bool:
        return any(user in pair for pair in self.pairs)

    async def announcements(self, after: int, *, limit: int) -> list[tuple[int, Announcement]]:
        if self.unavailable:
            raise StoreUnavailable("accounts are away")
        return [(number, said) for number, said in self.log if number > after][:limit]

    async def newest_announcement(self) -> int:
        return max((number for number, _ in self.log), default=0)


class Shared(NamedTuple):
    """What the nodes of a cluster have in common."""

    store: Store
    friends: Friends


class Chat(Lab):
    """The lab with inboxes."""

    store: Store
    friends: Friends
    bus: Bus
    writer: GroupCommit
    cluster: Cluster | None

    async def person(self, user: str, device: str = "phone", *, qos: int = 1, clean: bool = True) -> Person:
        """A client that has subscribed to its whole inbox."""
        person = Person(*await self.open())
        self.clients.append(person)
        person.user = user
        await person.connected(device, user=user, clean=clean)
        await person.subscribed((f"inbox/{user}/#", qos))
        return person

    def relation(self, one: str, other: str, *, friends: bool) -> None:
        """Changes it in the directory and announces it."""
        (self.friends.pairs.add if friends else self.friends.pairs.discard)(frozenset((one, other)))
        self.bus.announce(RelationChanged(one, other))


class Person(Client):
    user = ""

    def say(self, to: str, document: Any, *, id: int, qos: int = 1, dup: bool = False) -> None:
        """A chat message; `id` is the packet id."""
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send(wire.publish(f"inbox/{to}/chat/{self.user}", payload, qos=qos, id=id, dup=dup))

    async def expect_acknowledged(self, id: int) -> None:
        """Reads on until the PUBACK."""
        while await self.packet() != wire.puback(id):
            pass

    async def told(self) -> list[Any]:
        """What has come so far: documents of receipts and messages, and the packet ids of PUBACK or PUBREC."""
        found: list[Any] = []
        for packet in await self.settled():
            if wire.is_publish(packet):
                found.append(json.loads(wire.published(packet).payload))
            else:
                assert packet[0] in (0x40, 0x50)
                found.append(int.from_bytes(packet[2:], "big"))
        return found

    async def heard(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages and receipts, acknowledged."""
        found = []
        for _ in range(count):
            published = await self.publication()
            if published.qos == 1:
                self.send(wire.puback(published.id))
            found.append(published.document)
        return found


@asynccontextmanager
async def chatting(
    *pairs: tuple[str, str],
    plugins: Plugins | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts = QUICK,
    shared: Shared | None = None,
    way: Links | None = None,
) -> AsyncIterator[Chat]:
    """Started. `pairs` are friends. With a `way` to other nodes it is one of several, which have the `shared` store and
    directory."""
    made = connector(OURS if plugins is None else plugins, limits, timeouts)
    node = made.node
    store, friends = shared or (Store(), Friends(*pairs))
    bus: Bus = LocalBus()
    clock = itertools.count(1_700_000_000_000)
    inboxes = Inboxes(node, store, lambda: next(clock))
    writer = GroupCommit(store, on_committed=inboxes.committed, retry=timeouts.commit_retry)
    inboxes.writer = writer
    writer.start()
    cluster = None
    if way is None:
        holdings = await alone(node)
    else:
        cluster, bus = among_others(inboxes, way, bus, friends, None, AMONG_OTHERS)
        holdings = cluster.holdings
        inboxes.receipts.committing = writer.committing
    bus.subscribe(inboxes.on_announcement)
    bus.subscribe(node.on_announcement)
    made.services = Services(
        settings=Settings(limits=node.limits, timeouts=timeouts),
        node=node,
        inboxes=inboxes,
        directory=friends,
        tokens=AccessTokens(bytes(32)),
        bus=bus,
        holdings=holdings,
        now_ms=lambda: next(clock),
    )
    if cluster is not None:
        await cluster.open()
    made.load_plugins()
    await made.start()
    chat = Chat(made)
    chat.store, chat.friends, chat.bus, chat.writer, chat.cluster = store, friends, bus, writer, cluster
    try:
        yield chat
    finally:
        await made.shutdown()
        store.repair()
        store.gate.set()
        await writer.stop(1.0)
        if cluster is not None:
            await cluster.close()
        for client in chat.clients:
            client.close()
