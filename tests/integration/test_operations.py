"""The operator's view, as the operator has it: metrics, $SYS, logs and health of a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_durability import locked
from tests.operating import AUTHORISATION, METRICS, SYS_TOPICS, figures, get, soon, write
from tests.people import people
from tests.servers import ALDIS, PASSWORD, Aldis, environment, running
from tests.wire import Will, connect, puback, pubcomp, publish, pubrec, pubrel, refused, suback, subscribe


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "mine.yaml"
    return write(path, plugins={SYS_TOPICS: {"interval": 0.5}, AUTHORISATION: {"admins": ["root"]}})


@pytest.fixture(scope="module")
def server(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server"), profile, {"logging.format": "json"}) as server:
        yield server


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    folder = tmp_path_factory.mktemp("lab")
    with running(folder, write(folder / "lab.yaml", "lab", plugins={SYS_TOPICS: {"interval": 0.5}})) as server:
        yield server


# Metrics


def test_metrics_count_what_happens(server: Aldis) -> None:
    ada, bob = people(server, "ada", "bob")
    before = figures(server)
    with ada.online() as sender, bob.online() as receiver:
        for number in range(20):
            sender.say(bob, {"id": number, "body": "x"})
        receiver.until(lambda: len(receiver.documents("chat")) == 20)
        assert sender.say(bob, {"n": 1, "body": "x"})["reason"] == "reserved_field"
        sender.published(f"devices/{ada.user}/x", b"on", qos=2)
        with server.tcp() as stranger:
            stranger.send(connect("phone", user=bob.user, password="wrong"))
            stranger.expect(refused(5))
        during = figures(server)
    soon(lambda: figures(server)[("aldis_connections_ended_total", "connection lost")] >= 2)

    def more(*key: str) -> float:
        return during.get(key, 0) - before.get(key, 0)

    assert more("aldis_messages_received_total", "chat", "1") == 21
    assert more("aldis_messages_received_total", "plain", "2") == 1
    assert more("aldis_messages_sent_total", "chat", "1") == 20
    assert more("aldis_messages_sent_total", "receipt", "0") >= 21
    assert all(value >= 0 for (name, *_), value in during.items() if name == "aldis_messages_sent_total")
    assert more("aldis_publishes_refused_total", "reserved_field") == 1
    assert more("aldis_connects_total", "accepted") == 2
    assert more("aldis_connects_total", "not_authorised") == 1
    assert more("aldis_connections_ended_total", "CONNECT refused") == 1
    assert more("aldis_connections", "default") == 2
    assert more("aldis_sessions", "connected") == 2
    assert more("aldis_inbox_devices") == 2
    assert more("aldis_commit_messages_sum") == 20
    assert more("aldis_commit_seconds_count") > 0
    assert more("aldis_commit_seconds_sum") > 0
    assert during[("aldis_store_available",)] == during[("aldis_ready",)] == 1
    assert during[("aldis_inbox_backlog",)] == during[("aldis_held_back",)] == 0
    assert during[("process_open_fds",)] > 10 and during[("aldis_event_loop_tasks",)] > 1
    soon(lambda: figures(server)[("aldis_event_loop_lag_seconds_count",)] > 0)  # one tick of 0.25 s from the start


def test_metrics_show_what_waits(server: Aldis) -> None:
    """A publish held back for its `seq`, and items that a device does not acknowledge."""
    ada, bob = people(server, "ada", "bob")
    with ada.online() as sender, bob.online() as receiver:
        for one in (sender, receiver):
            one.until(lambda one=one: bool(one.documents("system")))  # asked and accepted: the backlog of a new friend
        soon(lambda: figures(server)[("aldis_inflight",)] == 0)
        sender.send(sender.chat_packet(bob, {"id": 1, "seq": 2, "body": "early"}))
        soon(lambda: figures(server)[("aldis_held_back",)] == 1)
        sender.send(sender.chat_packet(bob, {"id": 2, "seq": 1, "body": "first"}))
        soon(lambda: figures(server)[("aldis_inflight",)] == 2)
        receiver.until(lambda: len(receiver.documents("chat")) == 2)
        soon(lambda: figures(server)[("aldis_inflight",)] == 0)
        assert figures(server)[("aldis_held_back",)] == 0


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_metrics_are_not_for_who_comes_through_a_proxy(server: Aldis, header: str) -> None:
    status, page = get(server, "/metrics", **{header: "127.0.0.1"})
    assert status == 403 and "aldis_" not in page


def test_metrics_for_the_networks_allowed_only_and_without_accounts(tmp_path: Path) -> None:
    """The lab profile with the plugin gets an HTTP address of its own; these tests come from 127.0.0.1."""
    path = write(tmp_path / "lab.yaml", "lab", plugins={METRICS: {"allow": ["192.0.2.0/24"]}})
    server = Aldis(tmp_path / "lab", path)
    server.has_accounts = True  # for its --http
    server.start()
    try:
        assert get(server, "/metrics")[0] == 403
        assert get(server, "/readyz")[0] == get(server, "/healthz")[0] == 200
        assert get(server, "/v1/users")[0] == 404
        write(path, "lab", plugins={METRICS: {"allow": ["127.0.0.1"]}})
        server.process.send_signal(signal.SIGHUP)
        server.logged("settings reloaded")
        assert figures(server)[("aldis_connections_opened_total",)] == 0
    finally:
        assert server.stop() == 0


# $SYS


def test_sys_topics_for_everyone_on_lab(lab: Aldis) -> None:
    with lab.tcp() as client, lab.tcp() as other:
        other.connected("other")
        client.connected("client").subscribed(("$SYS/broker/#", 0))
        found: dict[str, str] = {}
        wanted = {
            *("version", "uptime", "clients/connected", "clients/total", "messages/received", "subscriptions/count"),
            *("publish/messages/received", "retained messages/count", "load/messages/received/1min"),
        }
        while (
            not wanted <= found.keys() or found["clients/connected"] != "2" or found["retained messages/count"] == "0"
        ):
            message = client.publication()
            found[message.topic.removeprefix("$SYS/broker/")] = message.payload.decode()
        assert found["version"].startswith("aldis version ")
        assert int(found["retained messages/count"]) >= len(wanted)


def test_sys_topics_are_not_matched_by_wildcards(lab: Aldis) -> None:
    with lab.tcp() as client:
        client.connected("client").subscribed(("#", 0), ("+/broker/version", 0))
        time.sleep(0.7)
        client.nothing()


def test_sys_topics_for_admins_only(server: Aldis) -> None:
    (ada,) = people(server, "ada")
    server.register("root")
    with ada.dial() as client:
        client.send(subscribe(1, ("$SYS/#", 0)))
        client.expect(suback(1, 0x80))
    with server.tcp() as admin:
        admin.connected("desk", user="root", password=server.login("root", "desk"))
        admin.subscribed(("$SYS/broker/version", 0))
        assert admin.publication().retain


@pytest.mark.parametrize("topic", ["$SYS/broker/version", "$share/x", "$", "$SYS"])
def test_no_client_publishes_to_what_is_the_servers_own(lab: Aldis, topic: str) -> None:
    """At any QoS: acknowledged to the end of its flow, delivered to nobody, retained nowhere."""
    with lab.tcp() as watcher, lab.tcp() as client, lab.tcp() as later:
        watcher.connected("watcher").subscribed((topic, 2), ("bell", 0))
        first = watcher.settled()
        client.connected("client")
        client.send(publish(topic, b"forged", retain=True))
        client.send(publish(topic, b"forged", qos=1, id=1, retain=True))
        client.expect(puback(1))
        for dup in (False, True):
            client.send(publish(topic, b"forged", qos=2, id=2, retain=True, dup=dup))
            client.expect(pubrec(2))
        client.send(pubrel(2))
        client.expect(pubcomp(2))
        client.published("bell", b"", qos=0)
        found = [watcher.publication()]
        while found[-1].topic != "bell":
            found.append(watcher.publication())
        later.connected("later").subscribed((topic, 0))
        assert not any(b"forged" in wire for wire in [*first, *later.settled()])
        assert not any(one.payload == b"forged" for one in found)


def test_no_will_goes_to_what_is_the_servers_own(lab: Aldis) -> None:
    with lab.tcp() as client:
        client.connected("client", refused(5), will=Will("$SYS/broker/version", b"forged"))


# Health


def test_ready_only_while_the_store_takes_commits(tmp_path: Path) -> None:
    with running(tmp_path, settings={"store.busy_timeout": 0.2, "timeouts.commit_retry": 0.1}) as server:
        ada, bob = people(server, "ada", "bob")
        with ada.online() as sender:
            assert get(server, "/readyz")[0] == 200
            with locked(server):
                sender.send(sender.chat_packet(bob, {"id": 1, "body": "x"}, id=7))
                server.logged("the store is unavailable")
                status, page = get(server, "/readyz")
                assert status == 503 and "the store does not take commits" in json.loads(page)["detail"]
                assert get(server, "/healthz")[0] == 200
                assert figures(server)[("aldis_store_available",)] == figures(server)[("aldis_ready",)] == 0
            sender.until(lambda: 7 in sender.acknowledged)
            assert get(server, "/readyz")[0] == 200


# Logs


def test_json_logs_one_line_for_the_end_of_a_connection(server: Aldis) -> None:
    (ada,) = people(server, "ada")
    with ada.dial("laptop") as client:
        client.disconnect()
    with ada.dial("laptop") as client:
        client.send(b"\xf0\x00")
        client.closed()
    server.logged(f'"event": ?"connection ended.*{ada.user}', 2)
    lines = [json.loads(line) for line in server.log.splitlines() if ada.user in line and "connection ended" in line]
    assert [line["event"] for line in lines] == [
        "connection ended: client disconnected",
        "connection ended: malformed packet",
    ]
    for line in lines:
        assert {"ts", "level", "logger", "event", "address", "user", "device", "seconds"} <= line.keys()
        assert line["device"] == "laptop" and line["ts"].endswith("+00:00")
    assert all(json.loads(line)["logger"] for line in server.log.splitlines())


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_any_log(tmp_path: Path, form: str) -> None:
    """A whole demonstration and hostile logins at DEBUG: no password, no token, no payload."""
    settings = {"logging.level": "DEBUG", "logging.format": form}
    with running(tmp_path, settings=settings) as server:
        url = f"http://{server.http[0]}:{server.http[1]}"
        command = [str(ALDIS), "demo", "--mqtt", "{}:{}".format(*server.mqtt), "--http", url]
        played = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=50, check=False)
        assert played.returncode == 0, played.stdout + played.stderr
        ada, bob = people(server, "ada", "bob")
        secrets = [PASSWORD, ada.token("phone"), bob.token("phone"), "a wrong secret", "payload text"]
        with ada.online() as sender:
            sender.say(bob, {"id": 1, "body": "payload text"})
            assert sender.say(bob, {"n": 1, "body": "payload text"})["type"] == "failed"
            sender.send(publish("$SYS/x", b"payload text", qos=1, id=60_000))
            sender.until(lambda: 60_000 in sender.acknowledged)
        for password in ("a wrong secret", ada.token("phone")[:-4] + "AAAA", ada.token("phone")):
            with server.tcp() as client:
                client.connected("phone", refused(5), user=bob.user, password=password)
        for path, body in (
            ("/v1/login", {"user_id": ada.user, "password": "a wrong secret", "device_id": "x"}),
            ("/v1/token/refresh", {"refresh_token": "a wrong secret"}),
            ("/v1/users", {"user_id": "x" * 100, "password": "a wrong secret"}),
        ):
            request = urllib.request.Request(
                url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=10)
        with server.tcp() as client:
            client.send(connect("phone", user=bob.user, password="a wrong secret")[:-3] + b"\xff\xff\xff")
            client.closed()
        said = server.log
        assert "publish refused" in said and "DEBUG" in said
        secrets += [part for token in secrets[1:3] for part in token.split(".")[1:]]
        kept = json.loads((server.data / "secrets.json").read_text())
        secrets += [value for value in kept.values() if isinstance(value, str)]
        assert len(secrets) > 8
        assert not [secret for secret in secrets if secret in said]
