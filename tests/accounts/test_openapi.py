"""The API's own description, its page, its headers and its health calls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Response, get

from aldis.accounts_api.app import create_app
from aldis.accounts_api.docs_page import STATIC
from aldis.accounts_api.problems import STATUSES, TYPES
from aldis.bridge.memory import MemoryStore
from aldis.broker.ports import StoreUnavailable
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import World, assert_problem

PROMISED = {
    ("post", "/v1/users"): {201, 400, 409, 413, 415, 422, 429, 503},
    ("post", "/v1/login"): {200, 400, 401, 409, 413, 415, 422, 429, 503},
    ("post", "/v1/token/refresh"): {200, 400, 401, 413, 415, 503},
    ("post", "/v1/logout"): {204, 401, 503},
    ("post", "/v1/friend-requests"): {200, 400, 401, 404, 409, 413, 415, 429, 503},
    ("get", "/v1/friend-requests"): {200, 400, 401, 503},
    ("post", "/v1/friend-requests/{user_id}/accept"): {200, 400, 401, 404, 409, 503},
    ("post", "/v1/friend-requests/{user_id}/decline"): {204, 400, 401, 404, 503},
    ("get", "/v1/relations"): {200, 400, 401, 503},
    ("get", "/v1/relations/{user_id}/keys"): {200, 400, 401, 404, 503},
    ("post", "/v1/relations/{user_id}/rotate-key"): {200, 400, 401, 404, 409, 429, 503},
    ("get", "/v1/relations/{user_id}/devices"): {200, 400, 401, 404, 503},
    ("put", "/v1/relations/{user_id}/sealed"): {200, 400, 401, 404, 409, 429, 503},
    ("delete", "/v1/relations/{user_id}/sealed"): {204, 400, 401, 404, 503},
    ("post", "/v1/relations/{user_id}/sealed-keys"): {204, 400, 401, 404, 409, 413, 415, 429, 503},
    ("put", "/v1/relations/{user_id}/sealed-keys/{version}"): {200, 400, 401, 404, 409, 413, 415, 503},
    ("put", "/v1/device-key"): {200, 400, 401, 409, 413, 415, 429, 503},
    ("delete", "/v1/friends/{user_id}"): {204, 400, 401, 404, 503},
    ("put", "/v1/blocks/{user_id}"): {204, 400, 401, 404, 503},
    ("delete", "/v1/blocks/{user_id}"): {204, 400, 401, 404, 503},
    ("get", "/v1/messages"): {200, 400, 401, 503},
    ("get", "/v1/account"): {200, 401, 503},
    ("put", "/v1/account/password"): {204, 400, 401, 413, 415, 503},
    ("post", "/v1/account/logout"): {204, 401, 503},
    ("post", "/v1/account/deletion"): {204, 400, 401, 413, 415, 503},
    ("get", "/v1/devices"): {200, 400, 401, 503},
    ("patch", "/v1/devices/{device_id}"): {204, 400, 401, 404, 413, 415, 503},
    ("delete", "/v1/devices/{device_id}"): {204, 400, 401, 404, 503},
    ("post", "/v1/tokens"): {201, 400, 401, 409, 413, 415, 422, 503},
    ("get", "/v1/tokens"): {200, 400, 401, 503},
    ("delete", "/v1/tokens/{token_id}"): {204, 400, 401, 404, 503},
    ("get", "/v1/files"): {200, 400, 401, 404, 429, 503},
    ("post", "/v1/files"): {201, 400, 401, 404, 408, 409, 413, 415, 422, 429, 503, 507},
    ("get", "/v1/files/{file_id}"): {200, 206, 304, 400, 401, 404, 416, 429, 503},
    ("head", "/v1/files/{file_id}"): {200, 206, 304, 400, 401, 404, 416, 429, 503},
    ("post", "/v1/files/{file_id}/grants"): {204, 400, 401, 404, 409, 413, 415, 429, 503},
    ("delete", "/v1/files/{file_id}"): {204, 400, 401, 404, 429, 503},
    ("get", "/v1/admin/users"): {200, 400, 401, 403, 503},
    ("get", "/v1/admin/users/{user_id}"): {200, 400, 401, 403, 404, 503},
    ("post", "/v1/admin/users/{user_id}/disable"): {204, 400, 401, 403, 404, 503},
    ("post", "/v1/admin/users/{user_id}/enable"): {204, 400, 401, 403, 404, 503},
    ("post", "/v1/admin/users/{user_id}/kick"): {204, 400, 401, 403, 404, 503},
    ("get", "/v1/admin/figures"): {200, 401, 403, 503},
    ("post", "/v1/admin/broadcasts"): {202, 400, 401, 403, 409, 413, 415, 422, 503},
    ("get", "/v1/admin/broadcasts"): {200, 400, 401, 403, 503},
    ("get", "/v1/admin/broadcasts/{broadcast_id}"): {200, 400, 401, 403, 404, 503},
    ("get", "/healthz"): {200},
    ("get", "/readyz"): {200, 503},
}


OPEN = ("/v1/users", "/v1/login", "/v1/token/refresh", "/healthz", "/readyz")


def for_all(call: tuple[str, str], statuses: set[int]) -> set[int]:
    """Who has a token calls only so often; a body must arrive in time, unless it is a file."""
    return ({429} if call[1] not in OPEN else set()) | ({408} if 413 in statuses and "/files" not in call[1] else set())


async def openapi(world: World) -> dict[str, Any]:
    answer = await world.client.get("/schema/openapi.json")
    assert answer.status_code == 200
    return answer.json()


async def test_every_call_is_described_with_its_problems(world: World) -> None:
    document = await openapi(world)
    described = {
        (method, path): {int(status) for status in call["responses"]}
        for path, item in document["paths"].items()
        for method, call in item.items()
    }
    assert described == {call: statuses | for_all(call, statuses) for call, statuses in PROMISED.items()}
    for item in document["paths"].values():
        for call in item.values():
            assert call["summary"] and call["tags"]
            for status, response in call["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}
    assert document["components"]["schemas"]["Problem"]["required"] == ["detail", "status", "title", "type"]


def test_the_manual_names_every_call_and_every_problem() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    named = {(method.lower(), path) for method, path in re.findall(r"^\| `([A-Z]+) (/\S*)` \|", manual, re.MULTILINE)}
    assert named == set(PROMISED)
    slugs = {slug for _, slug, _ in TYPES.values()} | {slug for slug, _ in STATUSES.values()}
    # Bases of the tree that nothing raises by themselves.
    unused = {"conflict", "unauthorised"}
    assert {slug for slug in slugs if f"`{slug}`" not in manual} == unused


async def test_guarded_calls_say_so(world: World) -> None:
    document = await openapi(world)
    assert document["components"]["securitySchemes"]["accessToken"]["scheme"] == "bearer"
    for path, item in document["paths"].items():
        for call in item.values():
            is_open = path in OPEN
            assert call.get("security") == (None if is_open else [{"accessToken": []}]), path


async def test_the_docs_page_asks_no_other_host(world: World) -> None:
    page = await world.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text and 'src="//' not in page.text and 'href="//' not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and "://" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(needed) == 5
    for path in needed:
        answer = await world.client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    css = (await world.client.get("/docs/static/swagger-ui.css")).text
    assert not re.search(r"url\([\"']?(https?:)?//", css) and "@import" not in css
    start = (await world.client.get("/docs/static/docs.js")).text
    assert '"/schema/openapi.json"' in start and "validatorUrl: null" in start


async def test_no_other_page_of_litestar_is_there(world: World) -> None:
    for path in ["/schema/swagger", "/schema/redoc", "/schema/elements", "/schema/rapidoc", "/schema/scalar"]:
        answer = await world.client.get(path)
        assert answer.status_code == 404
        assert "script" not in answer.text


async def test_the_pages_files_come_with_licence_and_origin(world: World) -> None:
    listed = (STATIC / "README.md").read_text()
    for file in STATIC.iterdir():
        assert file.name == "README.md" or file.name in listed, file.name
    assert "Apache License" in (STATIC / "LICENSE.swagger-ui.txt").read_text()
    for outside in ["/docs/static/%2e%2e/app.py", "/docs/static/..%2fapp.py", "/docs/static//etc/passwd"]:
        assert (await world.client.get(outside)).status_code == 404


async def test_strict_headers_on_every_answer(world: World) -> None:
    for path in ["/healthz", "/docs", "/nothing", "/v1/relations", "/v1/login", "/schema/openapi.json"]:
        headers = (await world.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


async def test_unknown_paths_and_methods_are_problems(world: World) -> None:
    assert_problem(await world.client.get("/v1/nothing"), 404, "not-found")
    assert_problem(await world.client.get("/v1/login"), 405, "method-not-allowed")
    assert_problem(await world.client.patch("/v1/relations"), 405, "method-not-allowed")


async def test_healthy_and_ready(world: World) -> None:
    for path in ["/healthz", "/readyz"]:
        answer = await world.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_other_pages_on_the_same_server_bring_their_own_policy(world: World) -> None:
    @get("/", include_in_schema=False, media_type="text/html")
    async def web_client() -> Response[str]:
        return Response("<p>hello", headers={"Content-Security-Policy": "default-src 'self'"})

    transport = httpx.ASGITransport(create_app(world.services, extra=[web_client]))
    async with httpx.AsyncClient(transport=transport, base_url="http://aldis") as client:
        answer = await client.get("/")
    assert answer.text == "<p>hello"
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


class BrokenStore(MemoryStore):
    async def head(self, user: str) -> int:
        raise StoreUnavailable("down")


async def test_not_ready_without_the_store(tmp_path: Path) -> None:
    world = World(tmp_path, AccountsSettings(), store=BrokenStore())
    await world.start()
    try:
        answer = await world.client.get("/readyz")
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "2"
        assert (await world.client.get("/healthz")).status_code == 200
    finally:
        await world.stop()


async def test_not_ready_without_the_tables(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE im_user RENAME TO elsewhere")
    assert_problem(await world.client.get("/readyz"), 503, "unavailable")


async def test_options_and_405_name_every_method_of_a_path(world: World) -> None:
    [alice] = await world.enter("alice")
    for path, methods in (
        ("/v1/friend-requests", "GET, HEAD, OPTIONS, POST"),
        ("/v1/devices/x", "DELETE, OPTIONS, PATCH"),
        ("/v1/login", "OPTIONS, POST"),
    ):
        allowed = {name for name in methods.split(", ") if name != "HEAD"}
        asked = await world.client.options(path, headers=alice.headers)
        assert set(asked.headers["allow"].split(", ")) - {"HEAD"} == allowed
        refused = await world.client.request("TRACE", path)
        assert_problem(refused, 405, "method-not-allowed")
        assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == allowed


async def test_the_document_says_that_unknown_fields_are_refused(world: World) -> None:
    schemas = (await openapi(world))["components"]["schemas"]
    for name in ("Registration", "Login", "NewToken", "NewBroadcast", "Deletion"):
        assert schemas[name]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["DeviceEntry"]
