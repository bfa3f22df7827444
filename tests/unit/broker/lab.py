"""A connector without inboxes in the test's own event loop, on a free port, and a client that does nothing alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aldis.broker.connector import Connector
from aldis.broker.node import Node
from aldis.config.settings import Limits, Timeouts
from tests import wire

PLUGINS = "tests.unit.broker.plugins"
ANONYMOUS = "amqtt.plugins.authentication.AnonymousAuthPlugin"
PATIENCE = 5.0

Plugins = Mapping[str, Mapping[str, Any]]


async def until(holds: Callable[[], bool]) -> None:
    """Waits for something that no byte on a connection tells."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class Client:
    """One TCP connection, speaking the bytes of `tests.wire`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Client:
        return cls(*await asyncio.open_connection(*address))

    def close(self) -> None:
        """Ends the connection without DISCONNECT."""
        self.writer.close()

    def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))

    async def packet(self) -> bytes:
        """The next whole packet. Raises `TimeoutError`, or `IncompleteReadError` at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readexactly(2)
            while head[-1] & 0x80:
                head += await self.reader.readexactly(1)
            size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
            return head + await self.reader.readexactly(size)

    async def expect(self, *packets: bytes) -> None:
        for wanted in packets:
            assert (await self.packet()).hex(" ") == wanted.hex(" ")

    async def publication(self) -> wire.Published:
        return wire.published(await self.packet())

    async def settled(self) -> list[bytes]:
        """Everything that the server had to say before it answers a ping."""
        self.send(wire.PINGREQ)
        found = []
        while (packet := await self.packet()) != wire.PINGRESP:
            found.append(packet)
        return found

    async def nothing(self) -> None:
        assert await self.settled() == []

    async def closed(self) -> list[bytes]:
        """Waits until the server closes; what it said before."""
        found = []
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                found.append(await self.packet())
        return found

    async def connected(self, client_id: str = "c", answer: bytes = wire.ACCEPTED, **options: Any) -> Client:
        self.send(wire.connect(client_id, **options))
        await self.expect(answer)
        return self

    async def subscribed(self, *filters: tuple[str, int], codes: tuple[int, ...] | None = None) -> Client:
        self.send(wire.subscribe(1, *filters))
        await self.expect(wire.suback(1, *(codes or [qos for _, qos in filters])))
        return self


class Lab:
    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self.node = connector.node
        self.clients: list[Client] = []

    @property
    def address(self) -> tuple[str, int]:
        return self.connector.addresses()["default"]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def dial(self) -> Client:
        client = Client(*await self.open())
        self.clients.append(client)
        return client

    async def client(self, client_id: str = "c", **options: Any) -> Client:
        """A connection whose CONNECT is accepted."""
        return await (await self.dial()).connected(client_id, **options)

    def plugin(self, name: str) -> Any:
        return self.connector.plugins_manager.get_plugin(name)


def connector(
    plugins: Plugins,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    listeners: Plugins | None = None,
) -> Connector:
    """A connector whose plugins are not loaded yet. `listeners` come beside the default one."""
    loop = asyncio.get_running_loop()
    node = Node(limits or Limits(), timeouts or Timeouts(), loop)
    config = {
        "listeners": {
            "default": {"type": "tcp", "bind": "127.0.0.1:0", "max_connections": 100},
            **{name: dict(options) for name, options in (listeners or {}).items()},
        },
        "plugins": {path: dict(options) for path, options in plugins.items()},
    }
    return Connector(config, node, loop)


def make(*given: Any) -> Connector:
    """A connector with its plugins loaded, not started; the arguments are those of `connector`."""
    made = connector(*given)
    made.load_plugins()
    return made


@asynccontextmanager
async def running(
    plugins: Plugins | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    listeners: Plugins | None = None,
) -> AsyncIterator[Lab]:
    """A started connector; anybody may connect if no plugins are named."""
    made = make({ANONYMOUS: {}} if plugins is None else plugins, limits, timeouts, listeners)
    await made.start()
    lab = Lab(made)
    try:
        yield lab
    finally:
        await made.shutdown()
        for client in lab.clients:
            client.close()
