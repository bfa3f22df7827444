"""Nobody else's: every route of the API's own description, called without a token and by a stranger.

The routes come from the OpenAPI document, so a new one is tested the day that it is there; one that needs something to
be stolen must be in the table below, or the last test says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.accounts.filing import stored
from tests.accounts.world import Caller, World, assert_problem

OPEN = {"/v1/users", "/v1/login", "/v1/token/refresh", "/healthz", "/readyz"}


async def operations(world: World) -> list[tuple[str, str]]:
    document = (await world.client.get("/schema/openapi.json")).json()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item if path not in OPEN]


def filled(path: str, value: str) -> str:
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + value + rest.partition("}")[2]
    return path


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic YTpi"], ids=["none", "empty", "no token", "nonsense", "basic"]
)
async def test_every_call_needs_a_login(world: World, header: str | None) -> None:
    """Before anything of the request is looked at: no body makes a difference."""
    found = await operations(world)
    assert len(found) > 25
    headers = {} if header is None else {"Authorization": header}
    for method, path in found:
        answer = await world.client.request(method, filled(path, "1"), headers=headers, content=b"{")
        if method == "HEAD":
            assert answer.status_code == 401
        else:
            assert_problem(answer, 401, "invalid-token")


@dataclass
class Theirs:
    """What Alice has, and Mallory would like. `ids` by the name of the path parameter."""

    alice: Caller
    mallory: Caller
    ids: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    async def look(self) -> list[Any]:
        """All that Alice sees of her own."""
        paths = ("/v1/account", "/v1/devices", "/v1/tokens", "/v1/friend-requests", "/v1/relations", "/v1/files")
        return [(await self.alice.get(path)).json() for path in paths]


async def prepared(world: World) -> Theirs:
    alice, bob, mallory = await world.enter("alice", "bob", "mallory")
    await world.befriend(alice, bob)
    await world.register("carol")
    assert (await alice.post("/v1/friend-requests", {"to": "carol"})).status_code == 200
    assert (await alice.put("/v1/blocks/carol")).status_code == 204
    made = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "greenhouse"})).json()
    key = (await alice.get("/v1/relations")).json()
    theirs = Theirs(alice, mallory)
    file_id = await stored(alice, b"a letter", to="bob", name="letter.txt")
    theirs.ids = {"token_id": made["token_id"], "device_id": "esp", "user_id": "alice", "version": "1"}
    theirs.ids["file_id"] = file_id
    theirs.secrets = [made["token_id"], made["token"], "greenhouse", file_id, "letter"]
    theirs.secrets += [entry["key"]["key"] for entry in key if entry["key"]]
    return theirs


BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/v1/devices/{device_id}"): {"name": "mine now"},
    ("POST", "/v1/tokens"): {"device_id": "esp", "name": "mine"},
    ("POST", "/v1/friend-requests"): {"to": "alice"},
    ("PUT", "/v1/account/password"): {"old_password": "a guess", "password": "long enough"},
    ("POST", "/v1/account/deletion"): {"password": "a guess"},
    ("POST", "/v1/admin/broadcasts"): {"text": "from mallory"},
    ("POST", "/v1/files/{file_id}/grants"): {"to": "mallory"},
}
LAST = [("POST", "/v1/logout"), ("POST", "/v1/account/logout")]
"""After these Mallory is not even logged in."""
ASKING = [("POST", "/v1/friend-requests")]
"""Leaves a request with Alice, as it should; called last of all, and undone."""


async def call(theirs: Theirs, method: str, path: str) -> httpx.Response:
    for name, value in theirs.ids.items():
        path = path.replace(f"{{{name}}}", value)
    client, headers = theirs.mallory.world.client, theirs.mallory.headers
    return await client.request(method, filled(path, "alice"), headers=headers, json=BODIES.get((method, path)))


async def test_a_stranger_finds_and_changes_nothing_with_any_id(world: World) -> None:
    theirs = await prepared(world)
    before = await theirs.look()
    found = [one for one in await operations(world) if one not in LAST and one not in ASKING]
    for method, path in found:
        answer = await call(theirs, method, path)
        assert answer.status_code < 500, (method, path, answer.text)
        for secret in theirs.secrets:
            assert secret not in answer.text, (method, path)
        assert await theirs.look() == before, (method, path)
    for method, path in LAST:
        await world.tokens("mallory")
        await call(theirs, method, path)
    assert await theirs.look() == before


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        ("PATCH", "/v1/devices/{device_id}", "unknown-device"),
        ("DELETE", "/v1/devices/{device_id}", "unknown-device"),
        ("DELETE", "/v1/tokens/{token_id}", "unknown-token"),
        ("GET", "/v1/files/{file_id}", "unknown-file"),
        ("POST", "/v1/files/{file_id}/grants", "unknown-file"),
        ("DELETE", "/v1/files/{file_id}", "unknown-file"),
        ("DELETE", "/v1/friends/{user_id}", "not-friends"),
        ("DELETE", "/v1/blocks/{user_id}", "not-blocked"),
        ("POST", "/v1/friend-requests/{user_id}/accept", "no-such-request"),
        ("POST", "/v1/friend-requests/{user_id}/decline", "no-such-request"),
    ],
)
async def test_somebody_elses_is_as_if_it_were_not_there(world: World, method: str, path: str, slug: str) -> None:
    theirs = await prepared(world)
    stolen = await world.client.request(
        method,
        filled(path, next(theirs.ids[name] for name in theirs.ids if f"{{{name}}}" in path)),
        headers=theirs.mallory.headers,
        json=BODIES.get((method, path)),
    )
    assert_problem(stolen, 404, slug)
    invented = await world.client.request(
        method,
        filled(path, "f" * 32 if "/files/" in path else "nobody-at-all"),
        headers=theirs.mallory.headers,
        json=BODIES.get((method, path)),
    )
    assert invented.json() == stolen.json(), "the answer does not tell whether it exists"


INJECTIONS = ["' OR '1'='1", '"; DROP TABLE im_user; --', "%' UNION SELECT password_hash FROM im_user --", "\\", "a'b"]


async def test_sql_in_every_place_is_only_text(world: World) -> None:
    theirs = await prepared(world)
    mallory, client = theirs.mallory, world.client
    for text in INJECTIONS:
        for query in ({"peer": text}, {"peer": "alice", "before": text}):
            answer = await client.get("/v1/messages", params=query, headers=mallory.headers)
            assert_problem(answer, 400, "invalid-request")
        body = {"user_id": text, "password": text + "12345678", "device_id": text}
        assert_problem(await client.post("/v1/login", json=body), 400, "invalid-request")
        made = await mallory.post("/v1/tokens", {"device_id": text, "name": text})
        assert made.status_code == 201
        names = {"name": text}
        path = httpx.URL("http://x").copy_with(path=f"/v1/devices/{text}").raw_path.decode()
        assert (await client.patch(path, json=names, headers=mallory.headers)).status_code == 204
        assert text in [entry["name"] for entry in (await mallory.get("/v1/devices")).json()]
        for path in ("/v1/devices", "/v1/tokens", "/v1/relations", "/v1/friend-requests"):
            answer = await client.get(path, params={"after": text}, headers=mallory.headers)
            assert answer.status_code == 200
            for secret in theirs.secrets:
                assert secret not in answer.text
        answer = await client.get("/v1/files", params={"before": text}, headers=mallory.headers)
        assert_problem(answer, 400, "invalid-request")
        await world.accounts.administration.grant("mallory", now=1)
        answer = await client.get("/v1/admin/users", params={"after": text}, headers=mallory.headers)
        assert {entry["user_id"] for entry in answer.json()["users"]} <= {"alice", "bob", "carol", "mallory"}
        await world.accounts.administration.withdraw("mallory")
    assert (await theirs.alice.get("/v1/account")).status_code == 200


async def test_no_header_can_be_written_through_a_value(world: World) -> None:
    theirs = await prepared(world)
    poisoned = "x\r\nX-Injected: 1"
    client, headers = world.client, theirs.mallory.headers
    for path in ("/v1/tokens", "/v1/devices"):
        for _ in range(2):
            await theirs.mallory.post("/v1/tokens", {"device_id": "a", "name": "b"})
        answer = await client.get(path, params={"after": poisoned[:4], "limit": 1}, headers=headers)
        assert "x-injected" not in answer.headers
    for body in ({"device_id": poisoned, "name": "x"}, {"device_id": "x", "name": poisoned}):
        assert_problem(await theirs.mallory.post("/v1/tokens", body), 400, "invalid-request")
