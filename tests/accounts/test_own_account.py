"""The caller's own account: password, every login, the end; and names of devices."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from aldis.bridge.credentials import hashed
from aldis.bridge.schema import im_session, im_token, im_user
from aldis.broker.ports import AccessRevoked, RelationChanged
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.talking import Talk
from tests.accounts.test_history import page, texts
from tests.accounts.test_login import session_of
from tests.accounts.world import PASSWORD, Caller, World, assert_problem

NEW = "another correct horse"


async def change(caller: Caller, old: str = PASSWORD, new: str = NEW):
    body = {"old_password": old, "password": new}
    return await caller.world.client.put("/v1/account/password", json=body, headers=caller.headers)


async def test_a_new_password_ends_every_other_login(world: World) -> None:
    [alice] = await world.enter("alice")
    tablet = Caller(world, "alice", await world.tokens("alice", "tablet"))
    token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    assert (await change(alice)).status_code == 204
    assert world.bus.announced == world.bus.settling == [AccessRevoked("alice", session=session_of(tablet))]
    assert (await alice.get("/v1/account")).status_code == 200
    assert_problem(await tablet.get("/v1/account"), 401, "session-ended")
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is not None
    body = {"user_id": "alice", "password": PASSWORD, "device_id": "tablet"}
    assert_problem(await world.client.post("/v1/login", json=body), 401, "wrong-login")
    assert (await world.client.post("/v1/login", json=body | {"password": NEW})).status_code == 200


async def test_a_token_is_not_enough_for_a_new_password(world: World) -> None:
    [alice] = await world.enter("alice")
    assert_problem(await change(alice, old="a guess"), 401, "wrong-login")
    for new in ("short", "x" * 257):
        assert_problem(await change(alice, new=new), 400, "invalid-request")
    assert (await change(alice)).status_code == 204
    assert_problem(await change(alice), 401, "wrong-login")


class TestGuessing:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(login_burst=3, login_per_minute=1)

    async def test_guessing_by_a_stolen_token_is_slowed_down(self, world: World) -> None:
        [alice] = await world.enter("alice")
        for _ in range(3):
            assert_problem(await change(alice, old="a guess"), 401, "wrong-login")
        assert_problem(await change(alice), 429, "too-many-attempts")
        answer = await alice.post("/v1/account/deletion", {"password": "a guess"})
        assert_problem(answer, 429, "too-many-attempts")


async def test_logging_out_everywhere(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    tablet = Caller(world, "alice", await world.tokens("alice", "tablet"))
    assert (await tablet.post("/v1/account/logout")).status_code == 204
    assert world.bus.announced == world.bus.settling == [AccessRevoked("alice")]
    for caller in (alice, tablet):
        assert_problem(await caller.get("/v1/account"), 401, "session-ended")
    assert (await bob.get("/v1/account")).status_code == 200


async def test_a_deleted_account_is_gone_but_not_what_it_said(world: World, talk: Talk) -> None:
    alice, bob, carol, dave = await world.enter("alice", "bob", "carol", "dave")
    await world.befriend(alice, bob)
    await alice.post("/v1/friend-requests", {"to": "carol"})
    await dave.post("/v1/friend-requests", {"to": "alice"})
    token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    await world.store.claim("alice", "phone", now=1, limit=9)
    await talk.say("alice", "bob", "remember me", sync=True)
    await talk.say("bob", "alice", "I do")
    [key] = [entry["key"] for entry in (await bob.get("/v1/relations")).json()]
    world.bus.announced.clear()
    assert_problem(await alice.post("/v1/account/deletion", {"password": "a guess"}), 401, "wrong-login")
    assert (await alice.post("/v1/account/deletion", {"password": PASSWORD})).status_code == 204
    assert world.bus.announced == world.bus.settling == [RelationChanged("alice", "bob"), AccessRevoked("alice")]

    # the account is gone
    assert_problem(await alice.get("/v1/account"), 401, "session-ended")
    body = {"user_id": "alice", "password": PASSWORD, "device_id": "phone"}
    assert_problem(await world.client.post("/v1/login", json=body), 401, "wrong-login")
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is None
    assert not await world.accounts.directory.user_active("alice")
    assert await world.store.devices("alice") == []
    async with world.engine.connect() as connection:
        row = (await connection.execute(select(im_user).where(im_user.c.user_id == "alice"))).one()
        assert (row.name, row.password_hash, row.state) == ("", "!", 2)
        for table in (im_session, im_token):
            count = select(func.count()).select_from(table).where(table.c.user_id == "alice")
            assert await connection.scalar(count) == 0

    # the name is never given again
    again = {"user_id": "alice", "password": PASSWORD}
    assert_problem(await world.client.post("/v1/users", json=again), 409, "user-taken")

    # nobody writes to it, nobody waits for it
    for user in ("alice", "bob"):
        assert await world.accounts.directory.correspondents(user) == frozenset()
    assert_problem(await bob.post("/v1/friend-requests", {"to": "alice"}), 404, "unknown-user")
    assert (await carol.get("/v1/friend-requests")).json() == {"incoming": [], "outgoing": [], "next": None}

    # what was said stays readable, with its key, to the other
    assert texts(await page(bob, peer="alice")) == ["I do", "remember me"]
    assert [(entry["key"], entry["deleted"]) for entry in (await bob.get("/v1/relations")).json()] == [(key, True)]
    assert (await bob.delete("/v1/friends/alice")).status_code == 204


async def test_who_could_write_to_a_deleted_account_is_told_and_nobody_else(world: World) -> None:
    alice, bob, carol, dave, erin = await world.enter("alice", "bob", "carol", "dave", "erin")
    for friend in (bob, carol, dave):
        await world.befriend(alice, friend)
    await alice.put("/v1/blocks/carol")
    await dave.put("/v1/blocks/alice")
    await erin.post("/v1/friend-requests", {"to": "alice"})
    assert [entry["deleted"] for entry in (await bob.get("/v1/relations")).json()] == [False]
    world.postbox.posted.clear()
    assert (await alice.post("/v1/account/deletion", {"password": PASSWORD})).status_code == 204
    assert world.postbox.posted == [("bob", {"type": "account_deleted", "user_id": "alice"})]


async def test_an_account_is_deleted_although_nobody_can_be_told(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    world.postbox.broken = True
    assert (await alice.post("/v1/account/deletion", {"password": PASSWORD})).status_code == 204
    assert [entry["deleted"] for entry in (await bob.get("/v1/relations")).json()] == [True]


async def test_a_device_has_a_name_for_people(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")

    async def name(caller: Caller, device: str, body: object):
        path = f"/v1/devices/{device}"
        return await world.client.patch(path, json=body, headers=caller.headers)

    assert (await name(alice, "phone", {"name": "Telefon ☎"})).status_code == 204
    assert [entry["name"] for entry in (await alice.get("/v1/devices")).json()] == ["Telefon ☎"]
    assert [entry["name"] for entry in (await bob.get("/v1/devices")).json()] == [""]
    assert_problem(await name(bob, "tablet", {"name": "x"}), 404, "unknown-device")
    for body in ({}, {"name": "a\n"}, {"name": "x" * 129}, {"name": 7}, {"name": "x", "device_id": "y"}):
        assert_problem(await name(alice, "phone", body), 400, "invalid-request")
    assert (await name(alice, "phone", {"name": ""})).status_code == 204
    assert [entry["name"] for entry in (await alice.get("/v1/devices")).json()] == [""]
    await world.tokens("alice", "a/b")
    assert (await name(alice, "a%2Fb", {"name": "slash"})).status_code == 204
    assert [entry["name"] for entry in (await alice.get("/v1/devices")).json()] == ["slash", ""]
    assert (await alice.delete("/v1/devices/a%2Fb")).status_code == 204
    await world.tokens("alice", "a/b")
    assert [entry["name"] for entry in (await alice.get("/v1/devices")).json()] == ["", ""], "the name goes with it"
