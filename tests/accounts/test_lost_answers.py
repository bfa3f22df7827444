"""A login or a refresh whose answer is lost: asked again with the same Idempotency-Key it costs nobody the login, and a
refresh token that was stolen is found out as before."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from aldis.bridge.credentials import AccessTokens, RefreshTokens
from aldis.bridge.schema import im_repeat, im_session
from aldis.broker.ports import AccessRevoked
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import PASSWORD, SIGNING_KEY, Caller, World, assert_problem


async def renew(world: World, token: str, key: str | None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await world.client.post("/v1/token/refresh", json={"refresh_token": token}, headers=headers)


async def login(world: World, key: str | None, user: str = "alice", **changes: Any) -> httpx.Response:
    body = {"user_id": user, "password": PASSWORD, "device_id": "phone"} | changes
    headers = {} if key is None else {"Idempotency-Key": key}
    return await world.client.post("/v1/login", json=body, headers=headers)


async def lets_in(world: World, pair: dict[str, Any]) -> bool:
    return (await Caller(world, "alice", pair).get("/v1/account")).status_code == 200


async def test_a_refresh_asked_again_costs_nothing(world: World) -> None:
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    lost = (await renew(world, old, "k1")).json()
    world.shift += 60_000
    again = await renew(world, old, "k1")
    assert again.status_code == 200
    pair = again.json()
    assert pair["refresh_token"] == lost["refresh_token"] != old
    assert pair.keys() == lost.keys() and pair["expires_in"] == 86_400
    assert await lets_in(world, pair) and await lets_in(world, lost)
    assert world.bus.announced == []
    # and it goes on from there
    fresh = (await renew(world, pair["refresh_token"], "k2")).json()
    assert fresh["refresh_token"] not in (old, pair["refresh_token"])
    assert await lets_in(world, fresh)


async def test_many_at_once_get_one_token(world: World) -> None:
    [alice] = await world.enter("alice")
    answers = await asyncio.gather(*(renew(world, alice.tokens["refresh_token"], "k") for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert world.bus.announced == []


@pytest.mark.parametrize("second", [None, "k2", "K1", "k"])
async def test_without_that_key_it_is_a_reuse(world: World, second: str | None) -> None:
    """Who has stolen the old token does not have the key."""
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    pair = (await renew(world, old, "k1")).json()
    thief = await renew(world, old, second)
    assert_problem(thief, 401, "refresh-reused")
    assert not await lets_in(world, pair)
    assert_problem(await renew(world, pair["refresh_token"], "k3"), 401, "session-ended")
    assert_problem(await renew(world, old, "k1"), 401, "session-ended")
    [announced] = world.bus.announced
    assert isinstance(announced, AccessRevoked) and announced.user == "alice"


async def test_a_key_of_a_refresh_without_one_is_a_reuse(world: World) -> None:
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    assert (await renew(world, old, None)).status_code == 200
    assert_problem(await renew(world, old, "k1"), 401, "refresh-reused")


async def test_once_the_new_token_was_used_the_old_one_is_a_reuse(world: World) -> None:
    """The answer has arrived somewhere: whoever asks again with the old one is not the one who has used it."""
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    pair = (await renew(world, old, "k1")).json()
    newest = (await renew(world, pair["refresh_token"], "k2")).json()
    assert_problem(await renew(world, old, "k1"), 401, "refresh-reused")
    assert not await lets_in(world, newest)


async def test_owner_and_thief_with_everything_are_found_out_by_the_next_refresh(world: World) -> None:
    """A thief with a copy of the device, key and all, is given what the owner is given; then their ways part."""
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    stolen, own = [(await renew(world, old, "k1")).json() for _ in range(2)]
    assert (await renew(world, stolen["refresh_token"], "thief")).status_code == 200
    assert_problem(await renew(world, own["refresh_token"], "owner"), 401, "refresh-reused")


async def test_later_it_is_a_reuse(world: World) -> None:
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    assert (await renew(world, old, "k1")).status_code == 200
    world.shift += int(world.settings.login_repeat_lifetime * 1000) + 1_000
    assert_problem(await renew(world, old, "k1"), 401, "refresh-reused")


async def test_a_login_that_has_ended_stays_ended(world: World) -> None:
    [alice] = await world.enter("alice")
    old = alice.tokens["refresh_token"]
    pair = (await renew(world, old, "k1")).json()
    assert (await Caller(world, "alice", pair).post("/v1/logout")).status_code == 204
    assert_problem(await renew(world, old, "k1"), 401, "session-ended")


async def test_a_key_is_good_for_the_token_it_came_with(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    first = (await renew(world, alice.tokens["refresh_token"], "same")).json()
    theirs = (await renew(world, bob.tokens["refresh_token"], "same")).json()
    next_one = (await renew(world, first["refresh_token"], "same")).json()
    assert len({one["refresh_token"] for one in (first, theirs, next_one)}) == 3
    assert AccessTokens(SIGNING_KEY).verify(theirs["access_token"], world.now()).user == "bob"


def test_what_follows_cannot_be_worked_out_without_the_servers_key() -> None:
    ours, others = RefreshTokens(SIGNING_KEY), RefreshTokens(b"o" * 32)
    token = ours.issue("session")
    following = ours.following(token, "k")
    assert following == ours.following(token, "k") and ours.session_of(following) == "session"
    assert len({following, ours.following(token, "l"), ours.following(following, "k")}) == 3
    theirs = others.issue("session")
    assert others.following(theirs, "k") != following


# Login


async def sessions(world: World) -> int:
    async with world.engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(im_session)) or 0


async def test_a_login_asked_again_is_the_same_login(world: World) -> None:
    await world.register("alice")
    first, again = await login(world, "k1"), await login(world, "k1")
    assert first.status_code == again.status_code == 200
    assert first.json()["refresh_token"] == again.json()["refresh_token"]
    assert await lets_in(world, first.json()) and await lets_in(world, again.json())
    assert world.bus.announced == [] and await sessions(world) == 1
    async with world.engine.connect() as connection:
        [row] = (await connection.execute(select(im_repeat))).all()
    assert b"aldis_rt_" not in row.answer, "kept sealed"
    other = await login(world, "k2")
    assert not await lets_in(world, first.json()) and await lets_in(world, other.json()), "another key, another login"
    assert_problem(await login(world, "k2", device_id="tablet"), 422, "idempotency-key-reused")


async def test_a_login_that_was_used_or_has_ended_is_not_given_again(world: World) -> None:
    """A program that always sends the same key must not be given tokens that would end its login."""
    await world.register("alice")
    first = (await login(world, "always")).json()
    assert (await renew(world, first["refresh_token"], None)).status_code == 200
    second = (await login(world, "always")).json()
    assert second["refresh_token"] != first["refresh_token"] and await lets_in(world, second)
    assert (await Caller(world, "alice", second).post("/v1/logout")).status_code == 204
    third = (await login(world, "always")).json()
    assert await lets_in(world, third)
    world.shift += int(world.settings.login_repeat_lifetime * 1000) + 1_000
    fourth = (await login(world, "always")).json()
    assert fourth["refresh_token"] != third["refresh_token"] and await lets_in(world, fourth)
    assert (await login(world, "always")).json()["refresh_token"] == fourth["refresh_token"]


class TestGuessing:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(login_burst=3, login_per_minute=1)

    async def test_a_key_does_not_tell_whether_a_password_is_right(self, world: World) -> None:
        """The key of a login may be known, or guessed. What is said to a wrong password is what is always said, and it
        counts."""
        await world.register("alice")
        assert (await login(world, "login-1")).status_code == 200
        for _ in range(3):
            assert_problem(await login(world, "login-1", password="a guess of mine"), 401, "wrong-login")
        assert_problem(await login(world, "login-1"), 429, "too-many-attempts")


async def test_another_users_key_means_nothing(world: World) -> None:
    await world.register("alice", "bob")
    mine, theirs = await login(world, "k"), await login(world, "k", "bob")
    assert mine.status_code == theirs.status_code == 200
    assert AccessTokens(SIGNING_KEY).verify(theirs.json()["access_token"], world.now()).user == "bob"


async def test_a_disabled_user_is_not_let_in_by_a_key(world: World) -> None:
    await world.register("alice")
    assert (await login(world, "k")).status_code == 200
    await world.accounts.administration.disable("alice", now=world.now())
    assert_problem(await login(world, "k"), 401, "wrong-login")


async def test_at_once_it_is_one_login(world: World) -> None:
    await world.register("alice")
    answers = await asyncio.gather(*(login(world, "k") for _ in range(4)))
    good = [answer for answer in answers if answer.status_code == 200]
    assert good and len({answer.json()["refresh_token"] for answer in good}) == 1
    for answer in answers:
        if answer not in good:
            assert_problem(answer, 409, "still-running")
    assert await sessions(world) == 1
