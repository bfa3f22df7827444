"""What the accounts side counts of itself, with labels that have few values, and who may see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aldis.accounts_api.figures import CallFigures, Measured
from aldis.accounts_api.metrics_page import MetricsPage
from aldis.accounts_api.operations import NotForYou
from aldis.broker import compose_accounts
from aldis.broker.compose_accounts import AccountsServer
from aldis.broker.compose_metrics import MetricsDoor
from aldis.broker.compose_store import StartFailed
from aldis.config.addresses import LOOPBACK, may_ask
from aldis.config.settings import METRICS, Logging, Settings
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.filing import fetch, send, stored
from tests.accounts.world import PASSWORD, World


@pytest.fixture
def cheap_passwords() -> None:
    """Here they cost what they cost."""


Figures = dict[tuple[str, ...], float]


def read(page: bytes) -> Figures:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@asynccontextmanager
async def measured(world: World) -> AsyncIterator[MetricsPage]:
    """The same application, with its calls counted, in the place of `world.client`."""
    calls = CallFigures()
    page = MetricsPage(calls, world.services, alone=True, around=lambda: {"ready": 1}, counted=lambda: {"sweeps": 2})
    transport = httpx.ASGITransport(Measured(world.app, calls))  # type: ignore[arg-type]
    before = world.client
    async with httpx.AsyncClient(transport=transport, base_url="http://aldis", timeout=20) as client:
        world.client = client
        yield page
    world.client = before


async def test_calls_by_route_and_status(small: World) -> None:
    async with measured(small) as page:
        [alice] = await small.enter("alice")
        for device in ("tablet", "phone of my own"):
            await small.tokens("alice", device)
            await alice.delete(f"/v1/devices/{device}")
        await alice.delete("/v1/devices/nothing")
        await alice.get("/v1/relations?after=x")
        await small.client.get("/v1/relations")
        await small.client.request("BREW", "/v1/relations")
        for number in range(20):
            await small.client.get(f"/made/up/{number}")
            await small.client.get(f"/v1/admin/users/user{number}", headers=alice.headers)
        found = read(page.page())

    def calls(method: str, route: str, status: int) -> float:
        return found.get(("aldis_rest_calls_total", method, route, str(status)), 0)

    assert calls("POST", "/v1/users", 201) == 1
    assert calls("POST", "/v1/login", 200) == 3
    assert calls("DELETE", "/v1/devices/{device_id}", 204) == 2
    assert calls("DELETE", "/v1/devices/{device_id}", 404) == 1
    assert calls("GET", "/v1/relations", 200) == calls("GET", "/v1/relations", 401) == 1
    assert calls("GET", "other", 404) == 20 and calls("GET", "/v1/admin/users/{user_id}", 403) == 20
    assert calls("other", "other", 405) == 1
    routes = {name[2] for name in found if name[0] == "aldis_rest_calls_total"}
    declared = {route.path_format for route in small.app.routes} | {"other"}
    assert routes <= declared, "no path as it was sent is a label"
    assert found["aldis_rest_call_seconds_count", "/v1/login"] == 3
    assert found["aldis_rest_call_seconds_bucket", "0.001", "/v1/login"] == 0, "a password takes longer"
    assert found["aldis_rest_call_seconds_bucket", "+Inf", "/v1/login"] == 3
    assert found["aldis_rest_calls_running",] == 0
    assert (found["aldis_ready",], found["aldis_sweeps_total",]) == (1, 2)
    assert found["process_open_fds",] > 3


async def test_a_fault_and_a_client_that_left_are_counted_too(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with measured(small) as page:
        [alice] = await small.enter("alice")

        async def broken(_user: str, **_page: object) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr(small.accounts.lists, "relations", broken)
        assert (await alice.get("/v1/relations")).status_code == 500
        assert read(page.page())["aldis_rest_calls_total", "GET", "/v1/relations", "500"] == 1
    calls = CallFigures()

    async def gives_up(_scope: object, _receive: object, _send: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Measured(gives_up, calls)({"type": "http", "method": "GET"}, None, None)  # type: ignore[arg-type]
    found = read(MetricsPage(calls, small.services, alone=False).page())
    assert found["aldis_rest_calls_total", "GET", "other", "none"] == 1
    assert found["aldis_rest_calls_running",] == 0
    assert ("process_open_fds",) not in found, "where a node's page tells of the process, this one does not"


async def test_files_are_counted(small: World) -> None:
    async with measured(small) as page:
        [alice] = await small.enter("alice")
        file_id = await stored(alice, b"x" * 1_000)
        assert (await fetch(alice, file_id)).status_code == 200
        assert (await fetch(alice, file_id, Range="bytes=0-99")).status_code == 206
        assert (await send(alice, b"y" * 10, sha256="0" * 64)).status_code == 422
        found = read(page.page())
    assert found["aldis_files_received_bytes_total",] == 1_010
    assert found["aldis_files_sent_bytes_total",] == 1_100
    assert found["aldis_files_uploads_total", "stored"] == found["aldis_files_uploads_total", "failed"] == 1
    assert found["aldis_files_transfers", "upload"] == found["aldis_files_transfers", "download"] == 0


class TestQueue:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(hashing_concurrency=1, hashing_queue=2)

    async def test_the_queue_of_passwords(self, small: World) -> None:
        async with measured(small) as page:
            await small.register("alice")
            bodies = [{"user_id": "alice", "password": PASSWORD, "device_id": f"d{number}"} for number in range(8)]
            logins = [asyncio.create_task(small.client.post("/v1/login", json=body)) for body in bodies]
            most: Figures = {}
            while not all(login.done() for login in logins):
                now = read(page.page())
                most = max(most, now, key=lambda one: one.get(("aldis_passwords_waiting",), -1))
                await asyncio.sleep(0.005)
            refused = sum(login.result().status_code == 503 for login in logins)
            after = read(page.page())

        assert most["aldis_passwords_running",] == 1 and most["aldis_passwords_waiting",] == 2
        assert most["aldis_rest_calls_running",] >= 3
        assert after["aldis_passwords_refused_total",] == refused >= 1
        assert after["aldis_passwords_running",] == after["aldis_passwords_waiting",] == 0


async def test_the_database_and_what_was_not_confirmed(world: World) -> None:
    page = MetricsPage(CallFigures(), world.services, alone=False)
    [alice] = await world.enter("alice")
    found = read(page.page())
    for what in ("reads", "writes"):
        assert found["aldis_accounts_database_available", what] == 1
        assert found["aldis_accounts_database_failures_total", what] == 0
    assert found["aldis_accounts_database_connections_allowed",] >= 1
    world.bus.settles = False
    assert (await alice.post("/v1/account/logout")).status_code == 204
    assert read(page.page())["aldis_announcements_unconfirmed_total",] == 1


async def test_an_outage_of_the_database_shows(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    page = MetricsPage(CallFigures(), small.services, alone=False)
    [alice] = await small.enter("alice")
    connect = small.database._engine.connect

    def away() -> None:
        from sqlalchemy.exc import TimeoutError as PoolTimeout

        raise PoolTimeout

    monkeypatch.setattr(type(small.database._engine), "connect", lambda _self: away())
    assert (await alice.get("/v1/relations")).status_code == 503
    found = read(page.page())
    assert found["aldis_accounts_database_available", "reads"] == 0
    assert found["aldis_accounts_database_failures_total", "reads"] >= 1
    monkeypatch.setattr(type(small.database._engine), "connect", lambda _self: connect())
    assert (await alice.get("/v1/relations")).status_code == 200
    assert read(page.page())["aldis_accounts_database_available", "reads"] == 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "networks", "may"),
    [
        ("127.0.0.1", False, LOOPBACK, True),
        ("127.9.9.9", False, LOOPBACK, True),
        ("::1", False, LOOPBACK, True),
        ("::ffff:127.0.0.1", False, LOOPBACK, True),
        ("127.0.0.1", True, LOOPBACK, False),
        ("10.0.0.1", False, LOOPBACK, False),
        ("10.0.0.1", False, (*LOOPBACK, "10.0.0.0/24"), True),
        ("unix", False, LOOPBACK, False),
        ("", False, ("0.0.0.0/0", "::/0"), False),
    ],
)
def test_who_may_ask(peer: str, forwarded: bool, networks: tuple[str, ...], may: bool) -> None:
    assert may_ask(peer, forwarded, [ip_network(network) for network in networks]) is may


async def test_the_door_of_a_process_without_a_node() -> None:
    door = MetricsDoor()
    assert await door.page(lambda: b"x", "127.0.0.1", False) is None
    door.configure({})
    assert await door.page(lambda: b"x", "127.0.0.1", False) is None, "the plugin is not in the profile"
    door.configure({METRICS: {}})
    assert await door.page(lambda: b"x", "127.0.0.1", False) == b"x"
    for peer, forwarded in (("127.0.0.1", True), ("10.0.0.1", False)):
        with pytest.raises(NotForYou):
            await door.page(lambda: b"x", peer, forwarded)
    door.configure({METRICS: {"allow": ["10.0.0.0/24"]}})
    assert await door.page(lambda: b"x", "10.0.0.1", False) == b"x"
    for wrong in ({"allow": ["here"]}, {"allow": "10.0.0.0/24"}, {"alow": []}, {"allow": 5}):
        with pytest.raises(StartFailed, match=METRICS):
            door.configure({METRICS: wrong})
    assert await door.page(lambda: b"x", "10.0.0.1", False) == b"x", "the old ones stay"


def test_new_settings_that_are_wrong_anywhere_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(compose_accounts, "set_up_logging", lambda level, format: said.append(level))
    server = AccountsServer(Settings())
    wrong = Settings(logging=Logging(level="DEBUG"), plugins={METRICS: {"allow": ["here"]}})
    assert not server.reload(lambda: wrong)
    assert (said, server.settings.logging.level) == ([], "INFO")
    right = Settings(logging=Logging(level="DEBUG"), plugins={METRICS: {"allow": ["10.0.0.0/24"]}})
    assert server.reload(lambda: right)
    assert (said, server.settings.logging.level) == (["DEBUG"], "DEBUG")
