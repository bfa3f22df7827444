"""A node whose process stood still (a suspended machine, a frozen container) blames no client for that time."""

from __future__ import annotations

import asyncio

from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.timers import GRAIN
from aldis.config.settings import Timeouts
from tests import wire
from tests.unit.broker.lab import running, until
from tests.unit.impatient import ImpatientLoop

LONG = 100.0
"""Seconds: longer than any time-out of a connection."""


async def stand_still(seconds: float = LONG) -> None:
    """The clock has gone on, and nothing was done meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ImpatientLoop)
    loop.stand_still(seconds)
    await asyncio.sleep(2 * GRAIN)


async def test_who_has_spoken_meanwhile_was_not_silent() -> None:
    """What it has said is read before the clock is looked at: it seems to have come before the standstill."""
    async with running() as lab:
        client = await lab.client(keep_alive=1)
        client.send(wire.PINGREQ)
        await stand_still()
        await client.expect(wire.PINGRESP)
        await client.nothing()


async def test_who_could_not_be_heard_has_its_keep_alive_from_then_on_and_no_longer() -> None:
    async with running() as lab:
        client = await lab.client(keep_alive=1)
        await stand_still()
        await client.nothing()
        await client.closed()
        assert lab.node.figures.ended[CloseReason.KEEP_ALIVE_TIMEOUT] == 1


async def test_who_could_not_be_written_to_was_no_slow_reader() -> None:
    async with running(timeouts=Timeouts(slow_reader=2.0, acknowledge=0.5)) as lab:
        await lab.client()
        (connection,) = lab.node.connections
        connection.pause_writing()
        await stand_still()
        assert connection.closed is None
        await until(lambda: connection.closed is CloseReason.NOT_READING)


async def test_a_node_that_is_always_late_is_busy_and_still_misses_who_is_silent() -> None:
    async with running() as lab:
        client = await lab.client(keep_alive=60)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ImpatientLoop)
        for _ in range(100):
            loop.stand_still(2.0)
            await asyncio.sleep(0)
        await client.closed()
        assert lab.node.figures.ended[CloseReason.KEEP_ALIVE_TIMEOUT] == 1
