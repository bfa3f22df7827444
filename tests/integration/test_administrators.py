"""What administrators and owners of accounts end is ended on every protocol, within a second; and `aldis admin`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.test_readme import ALDIS
from tests.people import Person, people
from tests.servers import Aldis, RestError, running
from tests.wire import connect, refused

pytestmark = pytest.mark.alone

WITHIN = 1.0
PASSWORD = "correct horse battery"


def admin(server: Aldis, act: str, *user: str) -> subprocess.CompletedProcess[str]:
    command = [str(ALDIS), "admin", act, *user, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def within_a_second() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < WITHIN


def opens_nothing(server: Aldis, user: str, device: str, token: str) -> None:
    """Neither MQTT over TCP nor over WebSocket, nor the REST API."""
    for dial in (server.tcp, server.websocket):
        with dial() as client:
            client.send(connect(device, user=user, password=token))
            assert client.closed() == [refused(5)]
    if not token.startswith("aldis_dt_"):
        with pytest.raises(RestError) as answer:
            server.rest("GET", "/v1/account", token=token)
        assert answer.value.status == 401


def test_the_role_is_given_beside_the_running_server(embedded: Aldis) -> None:
    (dora,) = people(embedded, "dora")
    with pytest.raises(RestError) as answer:
        dora.rest("GET", "/v1/admin/figures")
    assert answer.value.status == 403
    done = admin(embedded, "grant", dora.user)
    assert (done.returncode, done.stdout) == (0, f"{dora.user} is an administrator\n")
    assert dora.user in admin(embedded, "list").stdout.split()
    assert dora.rest("GET", "/v1/admin/figures")["admins"] >= 1
    assert admin(embedded, "revoke", dora.user).returncode == 0
    with pytest.raises(RestError):
        dora.rest("GET", "/v1/admin/figures")
    for act in ("grant", "revoke"):
        done = admin(embedded, act, "nobody-at-all")
        assert done.returncode == 1 and "nobody-at-all" in done.stderr and "Traceback" not in done.stderr


def lead(server: Aldis, *names: str) -> list[Person]:
    """The first of them is an administrator."""
    crowd = people(server, *names)
    assert admin(server, "grant", crowd[0].user).returncode == 0
    return crowd


def test_a_disabled_user_is_out_everywhere_within_a_second(embedded: Aldis) -> None:
    dora, bert = lead(embedded, "dora", "bert")
    made = bert.rest("POST", "/v1/tokens", {"device_id": "sensor", "name": "in the garden"})
    token = bert.token("phone")
    with bert.online("phone") as phone, embedded.tcp() as sensor, embedded.websocket() as browser:
        sensor.connected("sensor", user=bert.user, password=made["token"])
        browser.connected("tablet", user=bert.user, password=bert.token("tablet"))
        with within_a_second():
            dora.rest("POST", f"/v1/admin/users/{bert.user}/disable")
            phone.closed()
            sensor.closed()
            browser.closed()
    opens_nothing(embedded, bert.user, "phone", token)
    opens_nothing(embedded, bert.user, "sensor", made["token"])
    dora.rest("POST", f"/v1/admin/users/{bert.user}/enable")
    with embedded.tcp() as sensor:
        sensor.connected("sensor", user=bert.user, password=made["token"])
    opens_nothing(embedded, bert.user, "phone", token)


def test_a_kick_and_a_new_password_end_connections(embedded: Aldis) -> None:
    dora, bert = lead(embedded, "dora", "bert")
    with bert.online("phone") as phone:
        token = bert.token("phone")
        with within_a_second():
            dora.rest("POST", f"/v1/admin/users/{bert.user}/kick")
            phone.closed()
    opens_nothing(embedded, bert.user, "phone", token)
    (emil,) = people(embedded, "emil")
    old = emil.token("tablet")
    with emil.online("phone") as phone, emil.online("tablet") as tablet:
        body = {"old_password": PASSWORD, "password": "another correct horse"}
        with within_a_second():
            emil.rest("PUT", "/v1/account/password", body, device="phone")
            tablet.closed()
        phone.caught_up()
    opens_nothing(embedded, emil.user, "tablet", old)


def test_nobody_writes_to_a_deleted_account(embedded: Aldis) -> None:
    emil, fred = people(embedded, "emil", "fred")
    with emil.online("phone") as phone, fred.online("phone") as friend:
        phone.say(fred, {"id": "a1", "body": "remember me"})
        friend.chats(1)
        token = emil.token("phone")
        with within_a_second():
            emil.rest("POST", "/v1/account/deletion", {"password": PASSWORD})
            phone.closed()
        # the relation has changed while connected: the very next publish is refused
        friend.published(f"inbox/{emil.user}/chat/{fred.user}", b'{"id":"b1","body":"are you there?"}')
        friend.until(lambda: [one for one in friend.receipts("failed") if one["id"] == "b1"])
    opens_nothing(embedded, emil.user, "phone", token)
    page = fred.rest("GET", f"/v1/messages?peer={emil.user}")
    assert [entry["message"]["body"] for entry in page["messages"]] == ["remember me"]


def test_a_broadcast_reaches_an_open_connection(embedded: Aldis) -> None:
    dora, bert = lead(embedded, "dora", "bert")
    with bert.online("phone") as phone:
        begun = dora.rest("POST", "/v1/admin/broadcasts", {"text": "maintenance at ten"})
        phone.until(lambda: [one for one in phone.documents("system") if one["type"] == "broadcast"])
        [notice] = [one for one in phone.documents("system") if one["type"] == "broadcast"]
        assert (notice["broadcast_id"], notice["text"]) == (begun["broadcast_id"], "maintenance at ten")


def test_nobody_on_this_machine_can_say_that_he_comes_from_elsewhere(tmp_path: Path) -> None:
    """uvicorn by itself believes X-Forwarded-For of every program on the same host."""
    settings = {"accounts.address_burst": 3, "accounts.address_per_minute": 1}
    with running(tmp_path, settings=settings) as server:
        said = []
        for number in range(5):
            body = {"user_id": f"nobody{number}", "password": "a guess", "device_id": "x"}
            headers = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            address = f"http://{server.http[0]}:{server.http[1]}/v1/login"
            said.append(httpx.post(address, json=body, headers=headers).status_code)
        assert said == [401, 401, 401, 429, 429]
