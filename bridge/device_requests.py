"""Claims and releases of devices, gathered: after a restart everybody comes back at the same time, and each transaction
costs an fsync. Those that come while one transaction runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aldis.broker.ports import Claim, TooManyDevices

MOST = 500
"""Requests in one transaction: it holds locks that messages wait for."""


class Taking(NamedTuple):
    """The arguments of `Store.claim`."""

    user: str
    device: str
    now: int
    limit: int


class Leaving(NamedTuple):
    """The arguments of `Store.release`."""

    user: str
    device: str
    epoch: int
    last_seen: int


TurnOver = Callable[[list[Leaving], list[Taking]], Awaitable[list[Claim | TooManyDevices]]]
"""Does all of it in one transaction, who leaves first; the results belong to the second list, in its order."""


class DeviceRequests:
    """`turn_over` is called by one at a time. What it raises is raised to everybody who took part."""

    def __init__(self, turn_over: TurnOver) -> None:
        self._work = turn_over
        self._leaving: list[tuple[Leaving, asyncio.Future[None]]] = []
        self._taking: list[tuple[Taking, asyncio.Future[Claim]]] = []
        self._running: asyncio.Task[None] | None = None

    async def claim(self, request: Taking) -> Claim:
        claimed: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        self._taking.append((request, claimed))
        self._start()
        return await claimed

    async def release(self, request: Leaving) -> None:
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving.append((request, released))
        self._start()
        await released

    async def settle(self) -> None:
        """Waits until nothing runs and nobody waits."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="device requests")

    async def _run(self) -> None:
        try:
            while self._leaving or self._taking:
                leaving, self._leaving = self._leaving[:MOST], self._leaving[MOST:]
                taking, self._taking = self._taking[:MOST], self._taking[MOST:]
                await self._serve(leaving, taking)
        finally:
            self._running = None

    async def _serve(
        self,
        leaving: list[tuple[Leaving, asyncio.Future[None]]],
        taking: list[tuple[Taking, asyncio.Future[Claim]]],
    ) -> None:
        try:
            results = await self._work([request for request, _ in leaving], [request for request, _ in taking])
        except BaseException as error:
            waiting: list[asyncio.Future[Any]] = [released for _, released in leaving]
            waiting += [claimed for _, claimed in taking]
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for _, released in leaving:
            if not released.done():
                released.set_result(None)
        for (_, claimed), result in zip(taking, results, strict=True):
            if claimed.done():
                continue
            if isinstance(result, TooManyDevices):
                claimed.set_exception(result)
            else:
                claimed.set_result(result)
