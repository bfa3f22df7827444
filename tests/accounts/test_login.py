"""Registration, login, refresh, logout over a real HTTP server."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import func, select, update

from aldis.bridge.credentials import REFRESH_TOKEN_PREFIX, AccessTokens, RefreshTokens
from aldis.bridge.schema import im_session, im_user
from aldis.broker.ports import AccessRevoked
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import PASSWORD, SIGNING_KEY, Caller, World, assert_problem


@pytest.fixture
def cheap_passwords() -> None:
    """Here they cost what they cost."""


async def login(world: World, **changes: str):
    body = {"user_id": "alice", "password": PASSWORD, "device_id": "phone"} | changes
    return await world.client.post("/v1/login", json=body)


async def renew(world: World, token: str):
    return await world.client.post("/v1/token/refresh", json={"refresh_token": token})


async def sessions(world: World) -> list[tuple[str, int | None]]:
    async with world.engine.connect() as connection:
        rows = await connection.execute(select(im_session.c.device_id, im_session.c.revoked))
        return [tuple(row) for row in rows]


async def test_registering(world: World) -> None:
    body = {"user_id": "Alice_1.-", "password": PASSWORD, "name": "Alice Ü"}
    before = world.now()
    answer = await world.client.post("/v1/users", json=body)
    assert answer.status_code == 201
    document = answer.json()
    assert before <= document.pop("created") <= world.now()
    assert document == {"user_id": "Alice_1.-", "name": "Alice Ü"}


async def test_a_name_belongs_to_the_first_and_case_matters(world: World) -> None:
    await world.register("alice")
    answer = await world.client.post("/v1/users", json={"user_id": "alice", "password": "another password"})
    assert_problem(answer, 409, "user-taken")
    assert (await login(world)).status_code == 200, "the loser must not have changed the password"
    await world.register("Alice")


async def test_of_many_at_once_one_gets_the_name(world: World) -> None:
    bodies = [{"user_id": "alice", "password": f"password number {i}"} for i in range(8)]
    answers = await asyncio.gather(*(world.client.post("/v1/users", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    winner = next(body for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 201)
    for body in bodies:
        answer = await login(world, password=body["password"])
        assert answer.status_code == (200 if body is winner else 401)


BAD_USER_IDS = ["", "a" * 65, ".", "..", "$server", "a/b", "a+", "#", "a b", "ä", "alice\n", "\nalice", "a\x00"]
BAD_REGISTRATIONS: list[dict[str, object]] = [
    {},
    {"user_id": "alice"},
    {"password": PASSWORD},
    {"user_id": "alice", "password": PASSWORD, "admin": True},
    {"user_id": "alice", "password": 12345678},
    {"user_id": None, "password": PASSWORD},
    {"user_id": "alice", "password": "seven77"},
    {"user_id": "alice", "password": "x" * 257},
    {"user_id": "alice", "password": PASSWORD, "name": "x" * 129},
    {"user_id": "alice", "password": PASSWORD, "name": "a\x07b"},
    *({"user_id": bad, "password": PASSWORD} for bad in BAD_USER_IDS),
]


async def test_bad_registrations(world: World) -> None:
    for body in BAD_REGISTRATIONS:
        assert_problem(await world.client.post("/v1/users", json=body), 400, "invalid-request")
    async with world.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(im_user)) == 0


BROKEN_BODIES = {
    "empty": b"",
    "cut": b"{",
    "list": b"[]",
    "null": b"null",
    "string": b'"x"',
    "not UTF-8": b'{"user_id":"a\xff"}',
    "lone surrogate": b'{"user_id":"\\ud800","password":"12345678"}',
    "deep": b"[" * 50_000,
}


async def test_bodies_that_are_no_object(world: World) -> None:
    for body in BROKEN_BODIES.values():
        answer = await world.client.post("/v1/users", content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 400, "invalid-request")


async def test_bodies_too_large_or_of_another_type(world: World) -> None:
    json_type = {"Content-Type": "application/json"}

    async def dripping():
        for _ in range(70):
            yield b" " * 1024

    answer = await world.client.post("/v1/users", content=b" " * 65_537, headers=json_type)
    assert_problem(answer, 413, "too-large")
    answer = await world.client.post("/v1/users", content=dripping(), headers=json_type)
    assert_problem(answer, 413, "too-large")
    answer = await world.client.post("/v1/users", content=b'{"user_id":"alice","password":"12345678"}')
    assert_problem(answer, 415, "unsupported-media-type")


async def test_login_gives_a_token_for_this_device(world: World) -> None:
    await world.register("alice")
    answer = await login(world, device_id="Telefon/Küche #1")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 86_400
    grant = AccessTokens(SIGNING_KEY).verify(tokens["access_token"], world.now())
    assert (grant.user, grant.device) == ("alice", "Telefon/Küche #1")
    assert abs(grant.expires - world.now() - 86_400_000) < 5_000
    assert await world.accounts.directory.session_active(grant.session)


async def test_bad_device_ids(world: World) -> None:
    await world.register("alice")
    for device in ["", "x" * 129, "a\nb", "a\x00", "\x7f", "\x85", " a", "a ", ".", "..", "/", "./."]:
        assert_problem(await login(world, device_id=device), 400, "invalid-request")
    assert await sessions(world) == []


async def test_unknown_user_wrong_password_and_disabled_look_the_same(world: World) -> None:
    await world.register("alice", "carol")
    async with world.engine.begin() as connection:
        await connection.execute(update(im_user).where(im_user.c.user_id == "carol").values(state=0))
    answers = [
        await login(world, password="wrong"),
        await login(world, user_id="bob"),
        await login(world, user_id="carol"),
    ]
    for answer in answers:
        assert_problem(answer, 401, "wrong-login")
    assert len({answer.text for answer in answers}) == 1
    assert await sessions(world) == []


async def test_unknown_user_and_wrong_password_take_the_same_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cost one hash of the same parameters; everything else is small beside it."""
    await world.register("alice")
    costs: list[str] = []
    verify = Argon2Hasher.verify

    def counted(self: Argon2Hasher, password: str | bytes, stored: str | bytes) -> bool:
        costs.append(str(stored).rsplit("$", 2)[0])
        return verify(self, password, stored)

    monkeypatch.setattr(Argon2Hasher, "verify", counted)
    assert (await login(world, password="wrong password")).status_code == 401
    assert (await login(world, user_id="nobody")).status_code == 401
    assert costs == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


async def test_a_password_is_the_same_however_it_is_typed(world: World) -> None:
    body = {"user_id": "alice", "password": "caf\u00e9 au lait"}
    assert (await world.client.post("/v1/users", json=body)).status_code == 201
    assert (await login(world, password="cafe\u0301 au lait")).status_code == 200


async def test_a_login_replaces_the_one_of_the_same_device(world: World) -> None:
    await world.register("alice")
    first = Caller(world, "alice", await world.tokens("alice", "phone"))
    other = Caller(world, "alice", await world.tokens("alice", "tablet"))
    second = Caller(world, "alice", await world.tokens("alice", "phone"))
    assert_problem(await first.get("/v1/relations"), 401, "session-ended")
    assert_problem(await renew(world, first.tokens["refresh_token"]), 401, "session-ended")
    assert (await other.get("/v1/relations")).status_code == 200
    assert (await second.get("/v1/relations")).status_code == 200
    assert world.bus.announced == [AccessRevoked("alice", session=session_of(first))]


def session_of(caller: Caller) -> str:
    session = AccessTokens(SIGNING_KEY).verify(caller.tokens["access_token"], caller.world.now()).session
    assert session is not None
    return session


class TestSessionLimit:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(max_sessions_per_user=2)

    async def test_beyond_the_limit_the_longest_unused_goes(self, world: World) -> None:
        await world.register("alice")
        one, two = [Caller(world, "alice", await world.tokens("alice", device)) for device in ("1", "2")]
        world.shift += 1_000
        one.tokens |= (await renew(world, one.tokens["refresh_token"])).json()
        three = Caller(world, "alice", await world.tokens("alice", "3"))
        assert_problem(await two.get("/v1/relations"), 401, "session-ended")
        assert (await one.get("/v1/relations")).status_code == 200
        assert (await three.get("/v1/relations")).status_code == 200
        assert len(await sessions(world)) == 2


async def test_refresh_rotates(world: World) -> None:
    [alice] = await world.enter("alice")
    answer = await renew(world, alice.tokens["refresh_token"])
    assert answer.status_code == 200
    fresh = answer.json()
    assert fresh.keys() == alice.tokens.keys()
    assert fresh["refresh_token"] != alice.tokens["refresh_token"]
    assert (await Caller(world, "alice", fresh).get("/v1/relations")).status_code == 200
    assert (await renew(world, fresh["refresh_token"])).status_code == 200
    assert world.bus.announced == []


async def test_reusing_a_refresh_token_ends_the_login_and_disconnects(world: World) -> None:
    [alice] = await world.enter("alice")
    fresh = (await renew(world, alice.tokens["refresh_token"])).json()
    assert_problem(await renew(world, alice.tokens["refresh_token"]), 401, "refresh-reused")
    assert_problem(await renew(world, fresh["refresh_token"]), 401, "session-ended")
    assert_problem(await Caller(world, "alice", fresh).get("/v1/relations"), 401, "session-ended")
    assert not await world.accounts.directory.session_active(session_of(alice))
    assert world.bus.announced == [AccessRevoked("alice", session=session_of(alice))]
    assert (await login(world)).status_code == 200


async def test_of_concurrent_refreshes_one_wins_and_the_login_ends(world: World) -> None:
    [alice] = await world.enter("alice")
    answers = await asyncio.gather(*(renew(world, alice.tokens["refresh_token"]) for _ in range(6)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] + [401] * 5
    assert [revoked is not None for _, revoked in await sessions(world)] == [True]
    assert world.bus.announced == [AccessRevoked("alice", session=session_of(alice))]


async def test_an_invented_refresh_token_can_end_nothing(world: World) -> None:
    [alice] = await world.enter("alice")
    mine = alice.tokens["refresh_token"]
    other_server = RefreshTokens(b"x" * 32).issue(session_of(alice))
    swapped = mine[:-1] + ("A" if mine[-1] != "A" else "B")
    for token in [
        other_server,
        swapped,
        mine[:-4],
        mine + "=",
        mine + "A",
        mine.upper(),
        REFRESH_TOKEN_PREFIX,
        "é",
        "x",
    ]:
        assert_problem(await renew(world, token), 401, "invalid-token")
    assert_problem(await renew(world, alice.tokens["access_token"]), 401, "invalid-token")
    assert_problem(await renew(world, ""), 400, "invalid-request")
    assert (await renew(world, mine)).status_code == 200
    assert world.bus.announced == []


async def test_refresh_tokens_expire_and_a_disabled_user_gets_none(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    async with world.engine.begin() as connection:
        await connection.execute(update(im_user).where(im_user.c.user_id == "bob").values(state=0))
    assert_problem(await renew(world, bob.tokens["refresh_token"]), 401, "session-ended")
    assert_problem(await bob.get("/v1/relations"), 401, "session-ended")
    world.shift += 90 * 86_400_000
    assert_problem(await renew(world, alice.tokens["refresh_token"]), 401, "session-ended")


async def test_logout_ends_this_login_only(world: World) -> None:
    await world.register("alice")
    phone, tablet = [Caller(world, "alice", await world.tokens("alice", device)) for device in ("phone", "tablet")]
    answer = await phone.post("/v1/logout")
    assert (answer.status_code, answer.content) == (204, b"")
    assert world.bus.announced == [AccessRevoked("alice", session=session_of(phone))]
    assert_problem(await phone.get("/v1/relations"), 401, "session-ended")
    assert_problem(await phone.post("/v1/logout"), 401, "session-ended")
    assert_problem(await renew(world, phone.tokens["refresh_token"]), 401, "session-ended")
    assert (await tablet.get("/v1/relations")).status_code == 200


async def test_the_access_token_expires(world: World) -> None:
    [alice] = await world.enter("alice")
    world.shift += 86_390_000
    assert (await alice.get("/v1/relations")).status_code == 200
    world.shift += 20_000
    assert_problem(await alice.get("/v1/relations"), 401, "invalid-token")


async def test_sessions_that_are_over_leave_the_table(world: World) -> None:
    await world.register("alice")
    for day in range(3):
        world.shift = day * 91 * 86_400_000
        await world.tokens("alice", f"device {day}")
    assert await sessions(world) == [("device 2", None)]


class TestLoginLimit:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(login_burst=3, login_per_minute=1, address_burst=5, address_per_minute=1)

    async def test_guessing_is_slowed_down_per_user_and_address(self, world: World) -> None:
        await world.register("alice")
        for _ in range(4):
            assert (await login(world)).status_code == 200, "good logins do not count"
        for _ in range(3):
            assert_problem(await login(world, password="wrong"), 401, "wrong-login")
        blocked = await login(world)
        assert_problem(blocked, 429, "too-many-attempts")
        assert 1 <= int(blocked.headers["retry-after"]) <= 60
        world.shift += 60_000
        assert (await login(world)).status_code == 200
        for number in range(2):
            assert_problem(await login(world, user_id=f"nobody{number}"), 401, "wrong-login")
        assert_problem(await login(world, user_id="nobody2"), 429, "too-many-attempts")


class TestRegistrationLimit:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(register_burst=2, register_per_minute=1)

    async def test_one_address_registers_only_so_many(self, world: World) -> None:
        await world.register("one", "two")
        answer = await world.client.post("/v1/users", json={"user_id": "three", "password": PASSWORD})
        assert_problem(answer, 429, "too-many-attempts")
        world.shift += 61_000
        await world.register("three")

    async def test_beyond_the_limit_a_key_does_not_make_the_database_write(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever has proved nothing could else hold up the messages of all with two transactions for each request."""
        await world.register("one", "two")
        begin = AsyncMock()
        monkeypatch.setattr(world.accounts.repeats, "begin", begin)
        body, headers = {"user_id": "three", "password": PASSWORD}, {"Idempotency-Key": "k"}
        answer = await world.client.post("/v1/users", json=body, headers=headers)
        assert_problem(answer, 429, "too-many-attempts")
        assert not begin.called


class TestHashingLimit:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(hashing_concurrency=1, hashing_queue=2)

    async def test_a_rush_of_logins_is_turned_away_not_piled_up(self, world: World) -> None:
        await world.register("alice")
        answers = await asyncio.gather(*(login(world, device_id=f"device {i}") for i in range(12)))
        turned_away = [answer for answer in answers if answer.status_code != 200]
        assert 1 <= len(turned_away) <= 9
        for answer in turned_away:
            assert_problem(answer, 503, "busy")
            assert answer.headers["retry-after"] == "1"
        assert (await login(world)).status_code == 200
