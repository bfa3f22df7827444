"""Administrators: what they may, who is none, and that what they end is ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aldis.bridge.accounts.errors import UnknownUser
from aldis.bridge.credentials import hashed
from aldis.bridge.group_commit import GroupCommit
from aldis.broker.ports import AccessRevoked
from aldis.broker.postbox import LocalPostbox
from tests.accounts.talking import Talk
from tests.accounts.world import Caller, World, assert_problem


async def admin(world: World, *users: str) -> list[Caller]:
    """The first of the users is an administrator."""
    callers = await world.enter(*users)
    await world.accounts.administration.grant(users[0], now=world.now())
    return callers


async def test_only_administrators(world: World) -> None:
    alice, bob = await admin(world, "alice", "bob")
    paths = [
        ("GET", "/v1/admin/users"),
        ("GET", "/v1/admin/users/alice"),
        ("POST", "/v1/admin/users/alice/disable"),
        ("POST", "/v1/admin/users/bob/enable"),
        ("POST", "/v1/admin/users/alice/kick"),
        ("GET", "/v1/admin/figures"),
        ("POST", "/v1/admin/broadcasts"),
        ("GET", "/v1/admin/broadcasts"),
        ("GET", "/v1/admin/broadcasts/x"),
    ]
    for method, path in paths:
        assert_problem(await world.client.request(method, path, headers=bob.headers), 403, "not-admin")
        assert_problem(await world.client.request(method, path), 401, "invalid-token")
    document = (await world.client.get("/schema/openapi.json")).json()
    described = sum(len(item) for path, item in document["paths"].items() if path.startswith("/v1/admin/"))
    assert described == len(paths), "a call is missing here"
    assert (await alice.get("/v1/account")).json()["admin"] is True
    assert (await bob.get("/v1/account")).json() == {
        "user_id": "bob",
        "name": "",
        "device_id": "phone",
        "admin": False,
    }


async def test_the_role_counts_at_once(world: World) -> None:
    [alice] = await admin(world, "alice")
    assert (await alice.get("/v1/admin/figures")).status_code == 200
    assert await world.accounts.administration.withdraw("alice")
    assert not await world.accounts.administration.withdraw("alice")
    assert_problem(await alice.get("/v1/admin/figures"), 403, "not-admin")
    with pytest.raises(UnknownUser):
        await world.accounts.administration.grant("nobody", now=1)


async def test_users_page_by_page(world: World) -> None:
    [alice] = await admin(world, "alice")
    await world.register(*(f"user{number}" for number in range(5)))
    found, following = [], "/v1/admin/users?limit=2"
    while following:
        document = (await alice.get(following)).json()
        found += [entry["user_id"] for entry in document["users"]]
        following = document["next"]
    assert found == ["alice", *(f"user{number}" for number in range(5))]
    entry = (await alice.get("/v1/admin/users/alice")).json()
    assert (entry["state"], entry["admin"]) == ("active", True)
    assert_problem(await alice.get("/v1/admin/users/nobody"), 404, "unknown-user")
    for query in ("limit=0", "limit=501", "limit=x"):
        assert_problem(await alice.get(f"/v1/admin/users?{query}"), 400, "invalid-request")


async def test_disabling_ends_everything_until_enabled(world: World) -> None:
    alice, bob = await admin(world, "alice", "bob")
    token = (await bob.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    assert (await alice.post("/v1/admin/users/bob/disable")).status_code == 204
    assert world.bus.announced == world.bus.settling == [AccessRevoked("bob")]
    assert_problem(await bob.get("/v1/account"), 401, "session-ended")
    refresh = {"refresh_token": bob.tokens["refresh_token"]}
    assert_problem(await world.client.post("/v1/token/refresh", json=refresh), 401, "session-ended")
    body = {"user_id": "bob", "password": "correct horse battery", "device_id": "phone"}
    assert_problem(await world.client.post("/v1/login", json=body), 401, "wrong-login")
    directory = world.accounts.directory
    assert await directory.token(hashed(token), now=world.now()) is None
    assert not await directory.user_active("bob")
    assert (await alice.get("/v1/admin/users/bob")).json()["state"] == "disabled"
    assert (await alice.post("/v1/admin/users/bob/disable")).status_code == 204, "idempotent"
    assert (await alice.post("/v1/admin/users/bob/enable")).status_code == 204
    assert await directory.token(hashed(token), now=world.now()) is not None
    assert_problem(await bob.get("/v1/account"), 401, "session-ended")
    assert (await world.client.post("/v1/login", json=body)).status_code == 200
    for act in ("disable", "enable", "kick"):
        assert_problem(await alice.post(f"/v1/admin/users/nobody/{act}"), 404, "unknown-user")
    assert_problem(await alice.post("/v1/admin/users/alice/disable"), 400, "not-with-oneself")


async def test_a_kick_ends_the_logins_and_nothing_else(world: World) -> None:
    alice, bob = await admin(world, "alice", "bob")
    token = (await bob.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    assert (await alice.post("/v1/admin/users/bob/kick")).status_code == 204
    assert world.bus.announced == world.bus.settling == [AccessRevoked("bob")]
    assert_problem(await bob.get("/v1/account"), 401, "session-ended")
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is not None
    await world.tokens("bob")


async def test_figures(world: World) -> None:
    alice, bob, carol = await admin(world, "alice", "bob", "carol")
    await world.befriend(alice, bob)
    await carol.post("/v1/tokens", {"device_id": "esp", "name": "x"})
    await alice.post("/v1/admin/users/bob/disable")
    assert (await alice.get("/v1/admin/figures")).json() == {
        "users_active": 2,
        "users_disabled": 1,
        "users_deleted": 0,
        "admins": 1,
        "logins": 2,
        "tokens": 1,
        "devices": 0,
        "friendships": 1,
    }


async def finished(caller: Caller, broadcast_id: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            document = (await caller.get(f"/v1/admin/broadcasts/{broadcast_id}")).json()
            if document["finished"] is not None:
                return document
            await asyncio.sleep(0.02)


async def test_a_broadcast_comes_to_every_active_user_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.accounts_api.broadcasting.BATCH", 2)
    [alice] = await admin(world, "alice")
    await world.register(*(f"user{number}" for number in range(5)), "disabled")
    await alice.post("/v1/admin/users/disabled/disable")
    answer = await alice.post("/v1/admin/broadcasts", {"text": "maintenance tonight"})
    assert answer.status_code == 202
    begun = answer.json()
    done = await finished(alice, begun["broadcast_id"])
    assert (done["sent"], done["text"], done["created_by"]) == (6, "maintenance tonight", "alice")
    notice = {"type": "broadcast", "broadcast_id": begun["broadcast_id"], "text": "maintenance tonight"}
    assert sorted(world.postbox.posted, key=lambda one: one[0]) == [
        (user, notice) for user in ["alice", *(f"user{number}" for number in range(5))]
    ]
    listed = (await alice.get("/v1/admin/broadcasts")).json()
    assert (listed["broadcasts"], listed["next"]) == ([done], None)
    assert_problem(await alice.get("/v1/admin/broadcasts/unknown"), 404, "unknown-broadcast")


async def test_an_interrupted_broadcast_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.accounts_api.broadcasting.BATCH", 2)
    await world.services.housekeeping.stop()
    [alice] = await admin(world, "alice")
    await world.register("bob", "carol", "dave")
    begun = (await alice.post("/v1/admin/broadcasts", {"text": "x"})).json()
    broadcasting = world.services.broadcasting
    assert await broadcasting.send_some()
    world.postbox.broken = True
    with pytest.raises(Exception, match="no"):
        await broadcasting.send_some()
    world.postbox.broken = False
    await world.register("eve")
    while await broadcasting.send_some():
        pass
    assert [user for user, _ in world.postbox.posted] == ["alice", "bob", "carol", "dave"], "eve came later"
    assert (await alice.get(f"/v1/admin/broadcasts/{begun['broadcast_id']}")).json()["sent"] == 4


async def test_broadcasts_page_by_page_and_bad_ones(world: World) -> None:
    [alice] = await admin(world, "alice")
    for body in ({}, {"text": ""}, {"text": "x" * 4097}, {"text": 7}, {"text": "x", "to": "bob"}):
        assert_problem(await alice.post("/v1/admin/broadcasts", body), 400, "invalid-request")
    made = [(await alice.post("/v1/admin/broadcasts", {"text": str(n)})).json()["broadcast_id"] for n in range(3)]
    first = (await alice.get("/v1/admin/broadcasts?limit=2")).json()
    second = (await alice.get(first["next"])).json()
    ids = [entry["broadcast_id"] for entry in first["broadcasts"] + second["broadcasts"]]
    assert (ids, second["next"]) == (made[::-1], None)


async def test_a_batch_that_was_sent_but_not_written_down_is_not_stored_again(world: World, talk: Talk) -> None:
    """The process dies between the commit of a batch and the note of it: the next one sends the batch again."""
    writer = GroupCommit(talk.store, on_committed=lambda batch, committed: None)
    writer.start()
    postbox = LocalPostbox(writer, world.now)
    try:
        await postbox.post_to(["alice", "bob"], b'{"type":"broadcast"}', id="b1")
        await postbox.post_to(["alice", "bob", "carol"], b'{"type":"broadcast"}', id="b1")
        await postbox.post_to(["alice"], b'{"type":"broadcast"}', id="b2")
    finally:
        await writer.stop(5.0)
    counts = [len(await talk.store.items(user, after=0, limit=9)) for user in ("alice", "bob", "carol")]
    assert counts == [2, 1, 1]
