"""What the accounts side tells the connectors: logged with the change it tells of, numbered, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.announcement_log import CLEAN_EVERY, AnnouncementLog
from aldis.bridge.memory import MemoryStore
from aldis.bridge.schema import im_announcement, im_session
from aldis.broker.ports import (
    ANNOUNCEMENTS_KEPT,
    AccessRevoked,
    Announcement,
    RelationChanged,
    StoreUnavailable,
)
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import Caller, World, assert_problem


async def logged(world: World, after: int = 0) -> list[tuple[int, Announcement]]:
    return await world.accounts.directory.announcements(after, limit=1_000)


def announced(world: World) -> list[tuple[int, Announcement]]:
    return list(zip(world.bus.numbers, world.bus.announced, strict=True))


async def token(caller: Caller) -> str:
    answer = await caller.post("/v1/tokens", {"device_id": "esp", "name": "x"})
    token_id: str = answer.json()["token_id"]
    return token_id


async def test_whatever_is_announced_stands_in_the_log_under_its_number(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    token_id = await token(alice)
    assert (await world.accounts.directory.newest_announcement(), await logged(world)) == (0, [])
    await world.befriend(alice, bob)
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert (await alice.delete("/v1/friends/bob")).status_code == 204
    assert (await alice.delete(f"/v1/tokens/{token_id}")).status_code == 204
    replaced = world.services.access_tokens.verify(alice.tokens["access_token"], world.now()).session
    again = Caller(world, "alice", await world.tokens("alice"))  # the same device: the first login ends
    assert (await again.delete("/v1/devices/phone")).status_code == 204
    assert (await bob.post("/v1/logout")).status_code == 204
    session = world.services.access_tokens.verify(bob.tokens["access_token"], world.now()).session
    assert world.bus.announced == [
        *[RelationChanged("alice", "bob")] * 4,
        AccessRevoked("alice", session=token_id),
        AccessRevoked("alice", session=replaced),
        AccessRevoked("alice", device="phone"),
        AccessRevoked("bob", session=session),
    ]
    assert await logged(world) == announced(world)
    numbers = world.bus.numbers
    assert numbers == sorted(set(numbers)) and numbers[0] > 0
    directory = world.accounts.directory
    assert await directory.newest_announcement() == numbers[-1]
    assert await logged(world, after=numbers[2]) == announced(world)[3:]
    assert await directory.announcements(numbers[2], limit=2) == announced(world)[3:5]
    assert await directory.announcements(numbers[-1], limit=9) == []


async def test_a_refresh_token_used_twice_is_logged_although_the_call_fails(world: World) -> None:
    [alice] = await world.enter("alice")
    body = {"refresh_token": alice.tokens["refresh_token"]}
    assert (await world.client.post("/v1/token/refresh", json=body)).status_code == 200
    assert_problem(await world.client.post("/v1/token/refresh", json=body), 401, "refresh-reused")
    assert len(world.bus.announced) == 1
    assert await logged(world) == announced(world)


async def test_what_changes_nothing_for_the_connectors_is_not_announced(world: World) -> None:
    alice, bob, _carol = await world.enter("alice", "bob", "carol")
    await alice.post("/v1/friend-requests", {"to": "bob"})
    assert (await bob.post("/v1/friend-requests/alice/decline")).status_code == 204
    assert (await alice.put("/v1/blocks/carol")).status_code == 204
    assert (await alice.delete("/v1/blocks/carol")).status_code == 204
    assert (world.bus.announced, await logged(world)) == ([], [])
    await world.befriend(alice, bob)
    assert (await alice.put("/v1/blocks/bob")).status_code == 204
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert len(world.bus.announced) == 2


REVOKING: dict[str, Callable[[Caller, str], Awaitable[httpx.Response]]] = {
    "kick": lambda alice, _: alice.delete("/v1/devices/tablet"),
    "logout": lambda alice, _: alice.post("/v1/logout"),
    "token": lambda alice, token_id: alice.delete(f"/v1/tokens/{token_id}"),
    "block": lambda alice, _: alice.put("/v1/blocks/bob"),
    "unfriend": lambda alice, _: alice.delete("/v1/friends/bob"),
}


async def prepared(world: World) -> tuple[Caller, str]:
    """Alice with a friend, a device and a token; the recorders know nothing of that."""
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    await world.tokens("alice", "tablet")
    token_id = await token(alice)
    world.bus.announced.clear()
    world.bus.numbers.clear()
    return alice, token_id


@pytest.mark.parametrize("settles", [True, False])
@pytest.mark.parametrize("call", REVOKING)
async def test_a_revocation_waits_until_everybody_has_taken_it(
    world: World, call: str, settles: bool, caplog: pytest.LogCaptureFixture
) -> None:
    alice, token_id = await prepared(world)
    world.bus.settles = settles
    assert (await REVOKING[call](alice, token_id)).is_success, "what stands in the log will be found there"
    assert len(world.bus.announced) == 1
    assert world.bus.settling == world.bus.announced
    assert ("find it in the log" in caplog.text) is not settles


async def test_a_repeated_block_waits_too(world: World) -> None:
    alice, _ = await prepared(world)
    assert (await alice.put("/v1/blocks/bob")).status_code == 204
    world.bus.settling.clear()
    assert (await alice.put("/v1/blocks/bob")).status_code == 204
    assert world.bus.settling == world.bus.announced == [RelationChanged("alice", "bob")]


@pytest.mark.parametrize("call", REVOKING)
async def test_no_change_without_its_entry_and_none_is_announced(
    world: World, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both or neither: the log cannot be written, and so nothing has changed."""
    alice, token_id = await prepared(world)
    before = (await alice.get("/v1/relations")).json(), (await alice.get("/v1/devices")).json()
    entries = await logged(world)

    async def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AnnouncementLog, "add", fail)
        assert_problem(await REVOKING[call](alice, token_id), 503, "unavailable")
    assert world.bus.announced == []
    assert await logged(world) == entries
    assert ((await alice.get("/v1/relations")).json(), (await alice.get("/v1/devices")).json()) == before


@pytest.mark.parametrize("call", REVOKING)
async def test_an_entry_is_there_only_together_with_its_change(
    world: World, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction fails after the entry was written: it goes with the change."""
    alice, token_id = await prepared(world)
    entries = await logged(world)
    add = AnnouncementLog.add

    async def fail_after(self: AnnouncementLog, connection: AsyncConnection, *args: Any, **kwargs: Any) -> Any:
        await add(self, connection, *args, **kwargs)
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AnnouncementLog, "add", fail_after)
        assert_problem(await REVOKING[call](alice, token_id), 503, "unavailable")
    assert (world.bus.announced, await logged(world)) == ([], entries)


class Forgetting(MemoryStore):
    """Writes down how things stood when it was told to forget a device."""

    world: World
    found: list[Any]

    async def forget_device(self, user: str, device: str) -> bool:
        async with self.world.engine.connect() as connection:
            alive = select(im_session.c.device_id).where(im_session.c.revoked.is_(None))
            sessions = sorted((await connection.scalars(alive)).all())
        self.found = [sessions, await logged(self.world), list(self.world.bus.announced)]
        if device == "tablet":
            raise StoreUnavailable("no route to the database")
        return await super().forget_device(user, device)


async def test_a_device_is_revoked_then_forgotten_then_announced(tmp_path: Path, settings: AccountsSettings) -> None:
    """Whatever the store says in between: its credentials are gone, so the connectors must hear of it."""
    store = Forgetting()
    world = store.world = World(tmp_path, settings, store=store)
    await world.start()
    try:
        [alice] = await world.enter("alice")
        for device in ("tablet", "watch"):
            await world.tokens("alice", device)
            await store.claim("alice", device, now=1, limit=9)
        revoked = [AccessRevoked("alice", device=device) for device in ("tablet", "watch")]
        assert_problem(await alice.delete("/v1/devices/tablet"), 503, "unavailable")
        assert store.found == [["phone", "watch"], [(1, revoked[0])], []]
        assert world.bus.announced == revoked[:1]
        assert (await alice.delete("/v1/devices/watch")).status_code == 204
        assert store.found == [["phone"], [(1, revoked[0]), (2, revoked[1])], revoked[:1]]
        assert world.bus.announced == revoked
        # the first one, again: the store still knows it
        assert_problem(await alice.delete("/v1/devices/tablet"), 503, "unavailable")
        assert [device.device for device in await store.devices("alice")] == ["tablet"]
    finally:
        await world.stop()


async def test_old_entries_go_now_and_then(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")

    async def change(minutes: float) -> int:
        world.shift += int(minutes * 60_000)
        await world.befriend(alice, bob)
        assert (await bob.delete("/v1/friends/alice")).status_code == 204
        return world.bus.numbers[-1]

    assert CLEAN_EVERY < ANNOUNCEMENTS_KEPT
    first = await change(0)
    second = await change(59)
    third = await change(2)  # the first are old enough, but somebody has looked two minutes ago
    assert [number for number, _ in await logged(world)] == [first - 1, first, second - 1, second, third - 1, third]
    fourth = await change(8)
    assert [number for number, _ in await logged(world)] == [second - 1, second, third - 1, third, fourth - 1, fourth]
    assert await world.accounts.directory.newest_announcement() == fourth


async def test_numbers_are_not_given_twice_although_old_entries_go(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    async with world.engine.begin() as connection:
        await connection.execute(delete(im_announcement))
    assert await world.accounts.directory.newest_announcement() == 0
    assert (await bob.delete("/v1/friends/alice")).status_code == 204
    first, second = world.bus.numbers
    assert second > first


async def test_many_write_while_old_entries_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who deletes stands in nobody's way."""
    users = [f"user{i}" for i in range(12)]
    callers = await world.enter(*users)
    monkeypatch.setattr("aldis.bridge.accounts.announcement_log.CLEAN_EVERY", 0)
    for _ in range(3):
        for one, other in zip(callers[::2], callers[1::2], strict=True):
            await one.post("/v1/friend-requests", {"to": other.user})
        world.shift += ANNOUNCEMENTS_KEPT + 1
        before = len(world.bus.numbers)
        accepts = [
            other.post(f"/v1/friend-requests/{one.user}/accept")
            for one, other in zip(callers[::2], callers[1::2], strict=True)
        ]
        assert [answer.status_code for answer in await asyncio.gather(*accepts)] == [200] * 6
        numbers = world.bus.numbers[before:]
        assert sorted(number for number, _ in await logged(world)) == sorted(numbers)
        parting = [
            one.delete(f"/v1/friends/{other.user}") for one, other in zip(callers[::2], callers[1::2], strict=True)
        ]
        assert {answer.status_code for answer in await asyncio.gather(*parting)} == {204}
