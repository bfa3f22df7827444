"""The transfers that keep the contract, each with a way to break what lies between its nodes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from aldis.bridge.framed_transfer import FramedTransfer, TransferLimits
from aldis.bridge.frames import ALL
from aldis.bridge.memory_transfer import MemoryTransfer, Wire
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_transfer import RedisTransfer
from aldis.broker.cluster_ports import AnyParcel
from tests.redis_server import RedisProcess, shared_redis
from tests.tcp_proxy import TcpProxy

KEY = b"the key of the cluster under test"
HEARTBEAT, SILENCE, PEER_TIMEOUT = 0.05, 0.4, 1.0
LIMITS: dict[str, Any] = {"heartbeat": HEARTBEAT, "silence": SILENCE, "peer_timeout": PEER_TIMEOUT}


class Recorder:
    """A node that writes down what it is told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.frames: list[tuple[str, list[AnyParcel]]] = []
        self.fails = False

    def received(self, source: str, parcels: Sequence[AnyParcel]) -> None:
        self.frames.append((source, [*parcels]))
        self.events += [("parcel", source, parcel) for parcel in parcels]
        if self.fails:
            raise RuntimeError("planted")

    def missed(self, source: str | None) -> None:
        self.events.append(("missed", source))

    def joined(self, node: str) -> None:
        self.events.append(("joined", node))

    def gone(self, node: str) -> None:
        self.events.append(("gone", node))

    def parcels(self, source: str) -> list[AnyParcel]:
        return [event[2] for event in self.events if event[:2] == ("parcel", source)]

    def count(self, *event: Any) -> int:
        return self.events.count(event)


async def eventually(condition: Callable[[], bool], seconds: float = 8.0) -> float:
    """Waits until it is so; returns how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come about"
        await asyncio.sleep(0.004)
    return time.monotonic() - began


class Net(Protocol):
    """What lies between nodes. `cut` breaks links openly, `hold` silently; both keep new ones from coming about until
    `mend`."""

    def make(self, node: str, *, key: bytes = KEY, **limits: Any) -> FramedTransfer: ...
    def cut(self, *nodes: str) -> None: ...
    def hold(self) -> None: ...
    def mend(self) -> None: ...
    def put(self, target: str, data: bytes) -> None:
        """A frame that comes from nobody in particular."""


class MemoryNet:
    def __init__(self) -> None:
        self.wire = Wire()

    async def open(self, stack: AsyncExitStack) -> None: ...

    async def prepare(self, node: str, stack: AsyncExitStack) -> None: ...

    def make(self, node: str, *, key: bytes = KEY, **limits: Any) -> FramedTransfer:
        return MemoryTransfer(node, self.wire, key=key, limits=TransferLimits(**{**LIMITS, **limits}))

    def cut(self, *nodes: str) -> None:
        self.wire.cut(*nodes)

    def hold(self) -> None:
        self.wire.hold()

    def mend(self) -> None:
        self.wire.release()
        self.wire.mend()

    def put(self, target: str, data: bytes) -> None:
        self.wire.put(target, data)


class RedisNet:
    """Each node has a path of its own to one Redis."""

    def __init__(self, redis: RedisProcess | None = None) -> None:
        self.redis = redis or shared_redis()
        self.prefix = f"test-{uuid.uuid4()}"
        self.proxies: dict[str, TcpProxy] = {}

    async def open(self, stack: AsyncExitStack) -> None: ...

    async def prepare(self, node: str, stack: AsyncExitStack) -> None:
        if node not in self.proxies:
            self.proxies[node] = await stack.enter_async_context(TcpProxy(self.redis.port))

    def make(self, node: str, *, key: bytes = KEY, **limits: Any) -> FramedTransfer:
        server = RedisServer(self.redis.url_at(self.proxies[node].port), connect_timeout=SILENCE)
        return RedisTransfer(node, server, key=key, prefix=self.prefix, limits=TransferLimits(**{**LIMITS, **limits}))

    def cut(self, *nodes: str) -> None:
        for node in nodes or self.proxies:
            self.proxies[node].refuse = True
            self.proxies[node].cut()

    def hold(self) -> None:
        for proxy in self.proxies.values():
            proxy.swallow_up = proxy.swallow_down = True

    def mend(self) -> None:
        for proxy in self.proxies.values():
            proxy.refuse = proxy.swallow_up = proxy.swallow_down = False

    def put(self, target: str, data: bytes) -> None:
        with self.redis.client() as client:
            client.publish(f"{self.prefix}:{'all' if target == ALL else 'to:' + target}", data)


class Nodes:
    """Opened transfers, closed at the end of the test."""

    def __init__(self, net: MemoryNet | RedisNet, stack: AsyncExitStack) -> None:
        self.net = net
        self._stack = stack

    async def make(self, node: str, **options: Any) -> FramedTransfer:
        await self.net.prepare(node, self._stack)
        return self.net.make(node, **options)

    async def open(self, node: str, **options: Any) -> tuple[FramedTransfer, Recorder]:
        """Linked already, but not necessarily known to the others."""
        transfer, recorder = await self.make(node, **options), Recorder()
        await transfer.open(recorder)
        self._stack.push_async_callback(transfer.close)
        await eventually(lambda: transfer.connected)
        return transfer, recorder

    async def pair(self, **options: Any) -> tuple[FramedTransfer, Recorder, FramedTransfer, Recorder]:
        """Two that know each other."""
        ann, at_ann = await self.open("ann", **options)
        bob, at_bob = await self.open("bob", **options)
        await eventually(lambda: "bob" in ann.peers and "ann" in bob.peers)
        return ann, at_ann, bob, at_bob


NETS: dict[str, Callable[[], MemoryNet | RedisNet]] = {"memory": MemoryNet, "redis": RedisNet}
