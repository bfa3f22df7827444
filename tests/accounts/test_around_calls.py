"""What holds for every call: repeats, pages, proxies, other origins, slow bodies, answers that the client has."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_network

import pytest
from sqlalchemy import func, select, update

from aldis.accounts_api.addresses import client_address
from aldis.bridge.schema import im_repeat, im_token
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import PASSWORD, Caller, World, assert_problem

# Idempotency-Key


async def make_token(caller: Caller, key: str | None, **changes: object):
    headers = caller.headers if key is None else caller.headers | {"Idempotency-Key": key}
    body = {"device_id": "esp", "name": "greenhouse"} | changes
    return await caller.world.client.post("/v1/tokens", json=body, headers=headers)


async def test_the_same_key_gets_the_same_answer(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    first, again = await make_token(alice, "k1"), await make_token(alice, "k1")
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json(), "the token too, which is shown once"
    other = await make_token(alice, "k2")
    theirs = await make_token(bob, "k1")
    assert len({answer.json()["token"] for answer in (first, other, theirs)}) == 3
    assert len((await alice.get("/v1/tokens")).json()) == 2
    assert_problem(await make_token(alice, "k1", name="other"), 422, "idempotency-key-reused")
    async with world.engine.connect() as connection:
        rows = (await connection.execute(select(im_repeat))).all()
    assert len(rows) == 3
    for row in rows:
        assert b"aldis_dt_" not in row.answer and b"greenhouse" not in row.answer, "a copy of the database is no use"


async def test_a_key_is_forgotten_after_its_time(world: World) -> None:
    [alice] = await world.enter("alice")
    first = await make_token(alice, "k1")
    world.shift += int(world.settings.repeat_lifetime * 1000) + 1_000
    alice = Caller(world, "alice", await world.tokens("alice"))
    assert (await make_token(alice, "k1")).json()["token"] != first.json()["token"]


async def test_a_failed_request_may_be_tried_again_with_its_key(world: World) -> None:
    [alice] = await world.enter("alice")
    body = {"user_id": "bob", "password": PASSWORD}
    headers = {"Idempotency-Key": "k"}
    await world.register("bob")
    assert_problem(await world.client.post("/v1/users", json=body, headers=headers), 409, "user-taken")
    async with world.engine.begin() as connection:
        assert await connection.scalar(select(func.count()).select_from(im_repeat)) == 0
    assert_problem(await make_token(alice, "k", name=""), 400, "invalid-request")
    assert (await make_token(alice, "k")).status_code == 201


async def test_registering_twice_with_one_key_is_registering_once(world: World) -> None:
    body = {"user_id": "bob", "password": PASSWORD}
    headers = {"Idempotency-Key": "k"}
    first = await world.client.post("/v1/users", json=body, headers=headers)
    again = await world.client.post("/v1/users", json=body, headers=headers)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    wrong = await world.client.post("/v1/users", json=body | {"password": "not the one"}, headers=headers)
    assert_problem(wrong, 422, "idempotency-key-reused")


async def test_at_once_it_is_done_once(world: World) -> None:
    [alice] = await world.enter("alice")
    answers = await asyncio.gather(*(make_token(alice, "k") for _ in range(6)))
    good = [answer for answer in answers if answer.status_code == 201]
    assert good and len({answer.json()["token"] for answer in good}) == 1
    for answer in answers:
        if answer not in good:
            assert_problem(answer, 409, "still-running")
    async with world.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(im_token)) == 1


async def test_a_request_whose_process_died_does_not_hold_its_key(world: World) -> None:
    [alice] = await world.enter("alice")
    await make_token(alice, "k")
    async with world.engine.begin() as connection:
        await connection.execute(update(im_repeat).values(answer=None, expires=world.now() + 60_000))
    assert_problem(await make_token(alice, "k"), 409, "still-running")
    world.shift += 60_001
    assert (await make_token(alice, "k")).status_code == 201


async def test_bad_keys(world: World) -> None:
    [alice] = await world.enter("alice")
    for key in ("", "x" * 129, "a b", "ä".encode("latin-1").decode("latin-1")):
        headers = {**alice.headers, "Idempotency-Key": key.encode("latin-1")}
        body = {"device_id": "esp", "name": "x"}
        answer = await world.client.post("/v1/tokens", json=body, headers=headers)
        assert_problem(answer, 400, "invalid-request")


# Pages of lists


async def test_lists_in_pages(world: World) -> None:
    [alice] = await world.enter("alice")
    made = [(await make_token(alice, None, device_id=f"d {n}")).json()["token_id"] for n in range(5)]
    for path, name, expected in (
        ("/v1/tokens", "token_id", made),
        ("/v1/devices", "device_id", [*(f"d {n}" for n in range(5)), "phone"]),
    ):
        found: list[str] = []
        following: str | None = f"{path}?limit=2"
        while following is not None:
            answer = await alice.get(following)
            found += [entry[name] for entry in answer.json()]
            link = answer.headers.get("link")
            following = None if link is None else link.split(">")[0].removeprefix("<")
        assert found == expected
        assert "link" not in (await alice.get(path)).headers
        assert_problem(await alice.get(f"{path}?limit=0"), 400, "invalid-request")


# Answers that the client has


async def test_what_has_not_changed_is_not_sent_again(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    for path in ("/v1/relations", "/v1/devices"):
        first = await alice.get(path)
        tag = first.headers["etag"]

        async def ask(known: str, path: str = path):
            return await world.client.get(path, headers=alice.headers | {"If-None-Match": known})

        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            answer = await ask(known)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
            assert answer.headers["cache-control"] == "no-store"
        assert (await ask('"x"')).json() == first.json()
    await world.befriend(alice, bob)
    answer = await world.client.get("/v1/relations", headers=alice.headers | {"If-None-Match": '"x"'})
    assert answer.headers["etag"] != tag and len(answer.json()) == 1
    missing = await world.client.get("/v1/nothing", headers=alice.headers | {"If-None-Match": "*"})
    assert_problem(missing, 404, "not-found")


# Where a request comes from

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("::1/128")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.5, 10.9.9.9"], "203.0.113.5"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("10.0.0.1", ["203.0.113.5, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.9.9.9"], "10.9.9.9"),
        ("::1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.5:80"], "203.0.113.5"),
        ("unknown", ["203.0.113.5"], "unknown"),
        ("10.0.0.1", [""], "10.0.0.1"),
    ],
)
def test_whose_address_counts(peer: str, forwarded: list[str], expected: str) -> None:
    assert client_address(peer, forwarded, NETWORKS) == expected
    assert client_address(peer, forwarded, []) == peer


async def guesses(world: World, forwarded: str) -> int:
    """How many wrong logins, each for another user, the address has before it must wait."""
    for number in range(20):
        body = {"user_id": f"nobody{number}", "password": "a guess", "device_id": "x"}
        answer = await world.client.post("/v1/login", json=body, headers={"X-Forwarded-For": forwarded})
        if answer.status_code == 429:
            return number
    return 20


class TestWithoutProxies:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(address_burst=3, address_per_minute=1)

    async def test_the_header_is_nothing_but_words(self, world: World) -> None:
        assert await guesses(world, "203.0.113.1") == 3
        assert await guesses(world, "203.0.113.2") == 0


class TestBehindProxies:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(address_burst=3, address_per_minute=1, trusted_proxies=("127.0.0.0/8",))

    async def test_each_client_is_counted_by_itself(self, world: World) -> None:
        assert await guesses(world, "203.0.113.1") == 3
        assert await guesses(world, "203.0.113.1") == 0
        assert await guesses(world, "198.51.100.1, 203.0.113.1") == 0, (
            "what the client writes itself stands further left"
        )
        assert await guesses(world, "203.0.113.2") == 3


class TestCalls:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(call_burst=5, call_per_minute=1)

    async def test_a_user_calls_only_so_often_over_all_devices(self, world: World) -> None:
        alice, bob = await world.enter("alice", "bob")
        tablet = Caller(world, "alice", await world.tokens("alice", "tablet"))
        for _ in range(5):
            assert (await alice.get("/v1/account")).status_code == 200
        answer = await tablet.get("/v1/account")
        assert_problem(answer, 429, "too-many-attempts")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await bob.get("/v1/account")).status_code == 200
        world.shift += 61_000
        assert (await tablet.get("/v1/account")).status_code == 200


# Other origins


async def preflight(world: World, origin: str):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }
    return await world.client.options("/v1/account/password", headers=headers)


async def test_no_other_origin_by_default(world: World) -> None:
    for origin in ("https://evil.example", "null"):
        assert "access-control-allow-origin" not in (await preflight(world, origin)).headers
        answer = await world.client.get("/healthz", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


class TestOrigins:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(cors_origins=("https://chat.example.org",))

    async def test_only_those_that_are_named(self, world: World) -> None:
        good = await preflight(world, "https://chat.example.org")
        assert good.headers["access-control-allow-origin"] == "https://chat.example.org"
        assert "authorization" in good.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in good.headers
        for origin in ("https://evil.example", "https://chat.example.org.evil.example", "http://chat.example.org"):
            assert "access-control-allow-origin" not in (await preflight(world, origin)).headers


# Broken and slow bodies


async def test_a_client_that_goes_away_in_mid_body_is_no_fault_of_the_server(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/v1/users", "/v1/token/refresh"):
        _, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{{"
        writer.write(head.encode())
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.3)
    assert (await world.client.get("/healthz")).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


class TestSlowBodies:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(body_timeout=0.4)

    async def test_a_body_that_drips_is_given_up(self, world: World) -> None:
        """However busy it looks: a byte now and then holds nothing for longer."""
        reader, writer = await asyncio.open_connection(world.client.base_url.host, world.client.base_url.port)
        head = "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
        writer.write(head.encode())

        async def drip() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):  # it was still dripping
                while piece := await reader.read(4_096):  # to the end: the connection is closed, too
                    answer += piece
        dripping.cancel()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ") and b"urn:aldis:problem:timeout" in answer
        assert (await world.client.get("/healthz")).status_code == 200
