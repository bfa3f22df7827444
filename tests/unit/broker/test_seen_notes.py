"""Devices that stay connected are noted as seen, once a day, and only by who owns them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aldis.broker import seen_notes
from aldis.broker.ports import StoreUnavailable
from aldis.broker.seen_notes import NOTE_EVERY, SeenNotes

DAY = 86_400_000


class Store:
    def __init__(self) -> None:
        self.noted: list[tuple[str, str, int, int]] = []
        self.broken = False

    async def release(self, user: str, device: str, *, epoch: int, last_seen: int) -> None:
        if self.broken:
            raise StoreUnavailable("away")
        self.noted.append((user, device, epoch, last_seen))


def device(user: str, name: str, *, heard: float, epoch: int, ephemeral: bool = False) -> Any:
    return SimpleNamespace(
        session=SimpleNamespace(user=user, device=name, ephemeral=ephemeral),
        connection=SimpleNamespace(heard=heard),
        feed=SimpleNamespace(epoch=epoch),
    )


class World:
    def __init__(self, *devices: Any) -> None:
        self.store = Store()
        self.spawned: list[asyncio.Task[None]] = []
        self.node = SimpleNamespace(now=1_000.0, spawn=self._spawn)
        self._devices = list(devices)
        self.notes = SeenNotes(self)  # type: ignore[arg-type]

    def attached(self) -> list[Any]:
        return self._devices

    def now_ms(self) -> int:
        return 10 * DAY

    def _spawn(self, work: Any, _name: str) -> None:
        self.spawned.append(asyncio.get_running_loop().create_task(work))

    async def tick(self, now: float) -> None:
        self.node.now = now
        self.notes.on_tick(now)
        for task in self.spawned:
            await task


async def test_once_a_day_with_the_time_of_the_last_packet() -> None:
    world = World(
        device("alice", "phone", heard=1_000.0 + NOTE_EVERY - 60.0, epoch=7),
        device("alice", "", heard=0.0, epoch=0, ephemeral=True),
    )
    await world.tick(1_000.0 + NOTE_EVERY - 1)
    assert world.store.noted == []
    await world.tick(1_000.0 + NOTE_EVERY)
    assert world.store.noted == [("alice", "phone", 7, 10 * DAY - 60_000)]
    await world.tick(1_000.0 + NOTE_EVERY + 3_600)
    assert len(world.store.noted) == 1
    await world.tick(1_000.0 + 2 * NOTE_EVERY)
    assert len(world.store.noted) == 2


async def test_a_store_that_is_away_is_asked_again_tomorrow() -> None:
    world = World(device("alice", "phone", heard=0.0, epoch=1))
    world.store.broken = True
    await world.tick(1_000.0 + NOTE_EVERY)
    world.store.broken = False
    await world.tick(1_000.0 + 2 * NOTE_EVERY)
    assert len(world.store.noted) == 1


async def test_many_in_portions(monkeypatch: Any) -> None:
    monkeypatch.setattr(seen_notes, "_AT_ONCE", 3)
    monkeypatch.setattr(seen_notes, "_PAUSE", 0.0)
    world = World(*(device(f"user{number}", "phone", heard=0.0, epoch=1) for number in range(8)))
    await world.tick(1_000.0 + NOTE_EVERY)
    assert sorted(user for user, *_ in world.store.noted) == [f"user{number}" for number in range(8)]
