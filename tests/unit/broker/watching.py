"""For tests of presence: servers with the plugin, what clients hear of their friends, a user status that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aldis.broker.cluster_ports import StatusUnavailable
from aldis.broker.holdings import Holdings
from aldis.plugins.presence import Presence
from tests import wire
from tests.unit.broker.chat import OURS, Chat, chatting
from tests.unit.broker.lab import Client, Plugins

PRESENCE = "aldis.plugins.presence.Presence"
GRACE = 0.1
FRIENDS = ("ann", "ben")
START = 1_700_000_000_000
"""Where the clocks of these servers begin."""


def with_presence(**options: Any) -> Plugins:
    return {**OURS, PRESENCE: {"grace": GRACE, "settle": 0.3, **options}}


@asynccontextmanager
async def watching(*pairs: tuple[str, str], **options: Any) -> AsyncIterator[Chat]:
    async with chatting(*pairs, plugins=with_presence(**options)) as chat:
        yield chat


async def hears(client: Client, of: str, *, online: bool, to: str | None = None) -> dict[str, Any]:
    """The next thing that comes tells this."""
    published = await client.publication()
    user = to or getattr(client, "user", "")
    assert (published.topic, published.qos, published.retain) == (f"inbox/{user}/presence/{of}", 0, False)
    assert list(published.document) == ["online", "last_seen"]
    assert published.document["online"] is online
    return dict(published.document)


async def silence(*clients: Client, seconds: float = GRACE + 0.4) -> None:
    """Nothing comes, for longer than a grace and the tick after it."""
    await asyncio.sleep(seconds)
    for client in clients:
        await client.nothing()


async def drained(client: Client) -> list[tuple[str, bool]]:
    """Whatever has been told so far: friend, online."""
    told = [wire.published(packet) for packet in await client.settled()]
    return [(one.topic.rsplit("/", 1)[1], one.document["online"]) for one in told]


def holdings_of(chat: Chat) -> Holdings:
    services: Any = chat.connector.services
    return services.holdings  # type: ignore[no-any-return]


def plugin(chat: Chat) -> Presence:
    found: Presence = chat.plugin("Presence")
    return found


class Unreachable:
    """A user status that answers nobody while `away`; `sizes` are those of the questions."""

    def __init__(self, chat: Chat) -> None:
        self.away = False
        self.sizes: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        status: Any = holdings_of(chat).status
        self._status, self._present = status, status.present
        for name in ("online", "away", "offline", "restore"):
            setattr(status, name, self._guarded(getattr(status, name)))
        status.present = self.present

    def _guarded(self, call: Any) -> Any:
        async def guarded(*arguments: Any) -> Any:
            if self.away:
                raise StatusUnavailable("no route to Redis")
            return await call(*arguments)

        return guarded

    async def present(self, users: Sequence[str]) -> frozenset[str]:
        self.sizes.append(len(users))
        if self.away:
            raise StatusUnavailable("no route to Redis")
        found: frozenset[str] = await self._present(users)
        await self.gate.wait()
        return found


async def drained_after(client: Client, seconds: float = GRACE + 0.6) -> list[tuple[str, bool]]:
    await asyncio.sleep(seconds)
    return await drained(client)
