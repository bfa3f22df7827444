"""The user statuses under contract, and what can be done to them: nodes die, leases run out, everything is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

from aldis.bridge.memory_status import MemoryUserStatus, StatusBoard
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_status import RedisUserStatus
from aldis.broker.cluster_ports import Holding, UserStatus
from tests.redis_server import RedisProcess, new_redis


class Ears:
    """What a user status has told its node."""

    def __init__(self) -> None:
        self.lost = 0
        self.superseded_times = 0
        self.left: Counter[str] = Counter()

    def lease_lost(self) -> None:
        self.lost += 1

    def superseded(self) -> None:
        self.superseded_times += 1

    def left_behind(self, users: Sequence[str]) -> None:
        self.left.update(users)


class Statuses(Protocol):
    """Several nodes on one back end. Leases do not run out by themselves; `lapse` does it."""

    ears: dict[UserStatus, Ears]
    timeout: float
    """Seconds, for what a node asks; of the nodes that are made from now on."""

    async def node(self, name: str) -> UserStatus:
        """A new process of that name, open."""

    async def settle(self) -> None:
        """Every node that is open has renewed its lease, or has tried; everything is told."""

    async def lapse(self, status: UserStatus) -> None:
        """This node stands still or is dead: its lease has run out, and the others have noticed. What is asked of it
        from now on is asked of one that has woken."""

    async def die(self, status: UserStatus) -> None:
        """As `lapse`; and nothing is ever asked of this one again."""

    async def flush(self) -> None:
        """The back end loses everything; nobody has noticed yet."""

    async def cut(self) -> None:
        """The back end answers nobody."""

    async def mend(self) -> None:
        """It does again, and has kept everything."""

    async def end(self) -> None:
        """Everything is closed."""


class MemoryStatuses:
    timeout = 0.0

    def __init__(self) -> None:
        self.ears: dict[UserStatus, Ears] = {}
        self._board = StatusBoard()

    async def node(self, name: str) -> UserStatus:
        status = MemoryUserStatus(name, self._board)
        self.ears[status] = Ears()
        await status.open(self.ears[status])
        await self.settle()
        return status

    async def settle(self) -> None:
        for status in self._board.nodes:
            status.renew()
        for _ in range(3):
            await asyncio.sleep(0)

    async def lapse(self, status: UserStatus) -> None:
        self._board.lapse(status.node)
        for other in self._board.nodes:
            if other is not status:
                other.renew()
        await asyncio.sleep(0)

    async def die(self, status: UserStatus) -> None:
        self._board.die(status.node)
        await self.settle()

    async def flush(self) -> None:
        self._board.flush()

    async def cut(self) -> None:
        self._board.cut()

    async def mend(self) -> None:
        self._board.mend()
        await self.settle()

    async def end(self) -> None:
        for status in self.ears:
            await status.close()


@cache
def _contract_redis() -> RedisProcess:
    return new_redis().start()


class RedisStatuses:
    """On a real server, which no other tests use at the same time."""

    _numbers = itertools.count(1)
    timeout = 10.0

    def __init__(self) -> None:
        self.ears: dict[UserStatus, Ears] = {}
        self._redis = _contract_redis()
        self._prefix = f"contract{next(self._numbers)}"
        self._frozen: set[UserStatus] = set()
        self._open: list[RedisUserStatus] = []

    async def node(self, name: str) -> UserStatus:
        server = RedisServer(self._redis.url, connect_timeout=self.timeout, answer_timeout=self.timeout)
        status = RedisUserStatus(server, name, prefix=self._prefix, lease=3_600, grace=0)
        self.ears[status] = Ears()
        await status.open(self.ears[status])
        self._open.append(status)
        await self.settle()
        return status

    async def settle(self) -> None:
        for _ in range(2):  # a death is noticed, then what is left is removed
            for status in self._open:
                if status not in self._frozen:
                    await status.renew()
        await asyncio.sleep(0)

    async def lapse(self, status: UserStatus) -> None:
        self._redis.ask("DEL", f"{self._prefix}:node:{status.node}")
        self._frozen.add(status)
        await self.settle()
        self._frozen.discard(status)

    async def die(self, status: UserStatus) -> None:
        assert isinstance(status, RedisUserStatus)
        self._open.remove(status)
        await self.lapse(status)

    async def flush(self) -> None:
        self._redis.flush()

    async def cut(self) -> None:
        self._redis.pause()

    async def mend(self) -> None:
        self._redis.resume()
        await self.settle()

    async def end(self) -> None:
        self._redis.resume()
        for status in self.ears:
            await status.close()


STATUSES: dict[str, Callable[[], Statuses]] = {"memory": MemoryStatuses, "redis": RedisStatuses}


async def arrive(status: UserStatus, user: str, device: str = "phone") -> Holding:
    (arrival,) = await status.online([(user, device)])
    return arrival.holding


async def where(status: UserStatus, user: str) -> set[str]:
    return set((await status.connectors([user]))[user])
