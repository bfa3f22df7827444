"""Devices and their long-lived tokens over a real HTTP server."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from sqlalchemy import select

from aldis.bridge.credentials import hashed
from aldis.bridge.schema import im_token
from aldis.broker.ports import AccessRevoked, Grant
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import Caller, World, assert_problem


async def make_token(caller: Caller, **changes: object):
    return await caller.post("/v1/tokens", {"device_id": "esp", "name": "greenhouse"} | changes)


async def device_ids(caller: Caller) -> list[str]:
    return [entry["device_id"] for entry in (await caller.get("/v1/devices")).json()]


async def test_devices_are_those_connected_logged_in_or_holding_a_token(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.tokens("alice", "tablet")
    await world.store.claim("alice", "tablet", now=1_234, limit=20)
    await world.store.claim("alice", "old phone", now=77, limit=20)
    await make_token(alice)
    await make_token(alice)
    usual = {"name": "", "last_seen": None, "expires": None, "logged_in": False, "tokens": 0, "current": False}
    assert (await alice.get("/v1/devices")).json() == [
        usual | {"device_id": "esp", "tokens": 2},
        usual | {"device_id": "old phone", "last_seen": 77, "expires": 77 + 180 * 86_400_000},
        usual | {"device_id": "phone", "logged_in": True, "current": True},
        usual | {"device_id": "tablet", "last_seen": 1_234, "logged_in": True},
    ], "the tablet was seen last of those that have taken most, so it stays"
    assert await device_ids(bob) == ["phone"]


async def test_removing_a_device_ends_everything_it_had(world: World) -> None:
    [alice] = await world.enter("alice")
    tablet = Caller(world, "alice", await world.tokens("alice", "tablet"))
    token = (await make_token(alice, device_id="tablet")).json()["token"]
    await world.store.claim("alice", "tablet", now=1, limit=20)
    await world.store.claim("alice", "phone", now=1, limit=20)
    answer = await alice.delete("/v1/devices/tablet")
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(await tablet.get("/v1/relations"), 401, "session-ended")
    refresh = {"refresh_token": tablet.tokens["refresh_token"]}
    assert_problem(await world.client.post("/v1/token/refresh", json=refresh), 401, "session-ended")
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is None
    assert [device.device for device in await world.store.devices("alice")] == ["phone"]
    assert world.bus.announced == [AccessRevoked("alice", device="tablet")]
    assert await device_ids(alice) == ["phone"]
    assert_problem(await alice.delete("/v1/devices/tablet"), 404, "unknown-device")


async def test_removing_the_own_device(world: World) -> None:
    [alice] = await world.enter("alice")
    assert (await alice.delete("/v1/devices/phone")).status_code == 204
    assert_problem(await alice.get("/v1/devices"), 401, "session-ended")


async def test_odd_device_ids_can_be_removed(world: World) -> None:
    [alice] = await world.enter("alice")
    for device in ["/", "a/b", "/a/", "a//b", "Küche #1 50%", "%2F", "a?b=c", "a b", "devices/x", "x/devices/y"]:
        if device != "/":
            assert (await make_token(alice, device_id=device)).status_code == 201
            assert device in await device_ids(alice)
            answer = await alice.delete(f"/v1/devices/{quote(device, safe='')}")
            assert answer.status_code == 204, device
            assert world.bus.announced[-1] == AccessRevoked("alice", device=device)
    assert await device_ids(alice) == ["phone"]
    for unknown in ["%ff", "%00", "nothing", "a/b"]:
        assert_problem(await alice.delete(f"/v1/devices/{unknown}"), 404, "unknown-device")


async def test_another_users_device_of_the_same_name_is_untouched(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    token = (await make_token(bob)).json()["token"]
    await world.store.claim("bob", "esp", now=1, limit=20)
    assert_problem(await alice.delete("/v1/devices/esp"), 404, "unknown-device")
    assert (await alice.delete("/v1/devices/phone")).status_code == 204
    assert await device_ids(bob) == ["esp", "phone"]
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is not None


async def test_a_token_is_shown_once_and_stored_hashed(world: World) -> None:
    [alice] = await world.enter("alice")
    answer = await make_token(alice)
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == {"token_id", "token", "device_id", "name", "created", "expires"}
    assert made["token"].startswith("aldis_dt_") and len(made["token"]) == 52
    assert made["expires"] is None
    listed = (await alice.get("/v1/tokens")).json()
    assert listed == [{name: made[name] for name in made if name != "token"} | {"last_used": None}]
    async with world.engine.connect() as connection:
        row = (await connection.execute(select(im_token))).one()
    assert row.hash == hashed(made["token"])
    assert made["token"] not in repr(row)


async def test_a_token_proves_its_user_and_device(world: World) -> None:
    [alice] = await world.enter("alice")
    made = (await make_token(alice, expires_in=60)).json()
    now = world.now()
    assert abs(made["expires"] - now - 60_000) < 5_000
    grant = await world.accounts.directory.token(hashed(made["token"]), now=now)
    assert grant == Grant(user="alice", device="esp", expires=made["expires"], session=made["token_id"])
    assert await world.accounts.directory.token(hashed(made["token"]), now=made["expires"]) is None
    world.shift += 61_000
    assert (await alice.get("/v1/tokens")).json() == []


async def test_revoking_a_token_disconnects_it(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    made = (await make_token(alice)).json()
    path = f"/v1/tokens/{made['token_id']}"
    assert_problem(await bob.delete(path), 404, "unknown-token")
    assert (await bob.get("/v1/tokens")).json() == []
    assert await world.accounts.directory.token(hashed(made["token"]), now=world.now()) is not None
    assert (await alice.delete(path)).status_code == 204
    assert world.bus.announced == [AccessRevoked("alice", session=made["token_id"])]
    assert await world.accounts.directory.token(hashed(made["token"]), now=world.now()) is None
    assert_problem(await alice.delete(path), 404, "unknown-token")
    assert (await alice.get("/v1/tokens")).json() == []


async def test_bad_token_requests(world: World) -> None:
    [alice] = await world.enter("alice")
    bad: list[dict[str, object]] = [
        {"device_id": ""},
        {"device_id": "a\n"},
        {"name": ""},
        {"name": "x" * 129},
        {"name": "a\x00"},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": 1.5},
        {"expires_in": "60"},
        {"expires_in": 315_360_001},
        {"expire_in": 60},
        {"user_id": "bob"},
    ]
    for changes in bad:
        assert_problem(await make_token(alice, **changes), 400, "invalid-request")
    assert (await alice.get("/v1/tokens")).json() == []


class TestTokenLimit:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(max_tokens_per_user=3)

    async def test_tokens_are_bounded_also_when_made_at_once(self, world: World) -> None:
        alice, bob = await world.enter("alice", "bob")
        answers = await asyncio.gather(*(make_token(alice, expires_in=60) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 3
        assert (await make_token(bob)).status_code == 201
        world.shift += 61_000
        assert (await make_token(alice)).status_code == 201, "expired ones do not count"
