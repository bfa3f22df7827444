"""The compose file of the cluster, as far as it can be held without an engine: of one mind with the server, the image,
the balancer and the script that makes the secrets."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from aldis.accounts_api.secrets_file import load as load_secrets
from aldis.broker import cli
from aldis.config.roles import check_role
from aldis.config.settings import Settings, Timeouts
from scripts.processes import free_port, program

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HAPROXY = (ROOT / "config" / "haproxy.cfg").read_text()
OURS = ("migrate", "node-1", "node-2", "accounts")
NODES = ("node-1", "node-2")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What `scripts/compose-secrets` makes."""
    subprocess.run([ROOT / "scripts" / "compose-secrets", tmp_path], check=True, capture_output=True)
    return tmp_path / "secrets"


def settings(name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service's process sees, its secrets being where they are here."""
    service = SERVICES[name]
    for variable in [name for name in os.environ if name.startswith("ALDIS_")]:
        monkeypatch.delenv(variable)
    for variable, value in service["environment"].items():
        path = re.sub(r"^/run/secrets/(\w+)$", lambda found: str(secrets / secret_file(found[1])), value)
        monkeypatch.setenv(variable, path)
    options = cli._parser().parse_args(service["command"])
    return cli._load(options)


def secret_file(secret: str) -> str:
    return Path(COMPOSE["secrets"][secret]["file"]).name


# Secrets


def test_the_script_makes_every_secret(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir()} == {secret_file(name) for name in COMPOSE["secrets"]}
    assert all(Path(secret["file"]).parent == Path("secrets") for secret in COMPOSE["secrets"].values())
    for path in (secrets, *secrets.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    keys = load_secrets(secrets / "aldis.json")
    assert keys.signing_key != keys.master_key
    words = [path.read_text() for path in secrets.iterdir() if path.suffix == ""]
    assert len(set(words)) == 3 and all(re.fullmatch(r"[A-Za-z0-9_-]{43}\n", word) for word in words)


def test_the_script_changes_nothing_that_is_there(secrets: Path) -> None:
    """Also when it was interrupted before it had made all."""
    (secrets / "redis_password").unlink()
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    env = (secrets.parent / ".env").read_text()
    again = subprocess.run([ROOT / "scripts" / "compose-secrets", secrets.parent], check=True, capture_output=True)
    assert b"made   secrets/redis_password" in again.stdout and again.stdout.count(b"kept") == 3
    after = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert after.pop("redis_password") and after == before
    assert (secrets.parent / ".env").read_text() == env


def test_the_containers_run_as_whoever_owns_the_secrets_and_never_as_root(secrets: Path) -> None:
    owner = secrets.joinpath("aldis.json").stat()
    user = f"{owner.st_uid}:{owner.st_gid}"
    assert (secrets.parent / ".env").read_text() == f"ALDIS_USER={user}\n"
    assert owner.st_uid != 0
    for name in (*OURS, "redis"):
        assert SERVICES[name]["user"] == "${ALDIS_USER:-10001:10001}"


def test_secrets_stay_out_of_repository_and_image() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "/.env"} <= set(ignored)
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")


# Services


@pytest.mark.parametrize("name", NODES)
def test_a_node_would_start(name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(name, secrets, monkeypatch)
    check_role("node", found)
    assert found.cluster is not None and found.cluster.node == name
    assert not found.accounts.enabled
    assert {listener.bind for listener in found.listeners.values()} == {"0.0.0.0:1883", "0.0.0.0:8083"}
    assert found.http.bind == "0.0.0.0:8000" and found.http.proxy_protocol == "off"
    assert found.data / found.accounts.secret_file == secrets / "aldis.json"
    subnet = ip_network(COMPOSE["networks"]["front"]["ipam"]["config"][0]["subnet"])
    for listener in found.listeners.values():
        assert (listener.proxy_protocol, listener.proxy_trusted) == ("required", (subnet,))


def test_the_accounts_would_start(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings("accounts", secrets, monkeypatch)
    check_role("accounts", found)
    assert found.accounts.enabled and found.http.bind == "0.0.0.0:8000"
    assert found.http.proxy_protocol == "required"
    assert SERVICES["accounts"]["healthcheck"]["test"] == shlex.split(
        "CMD python -m aldis.broker.health 127.0.0.1:8000 --proxy"
    )


def test_the_migration_would_run_on_the_same_database(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {settings(name, secrets, monkeypatch).store.url.get_secret_value() for name in OURS}  # type: ignore[union-attr]
    assert urls == {"mysql://aldis@database:3306/aldis"}
    made = SERVICES["database"]["environment"]
    assert (made["MARIADB_USER"], made["MARIADB_DATABASE"]) == ("aldis", "aldis")
    for name in OURS:
        assert set(SERVICES[name]["secrets"]) == {"aldis", "database_password", "redis_password"}


def test_everybody_waits_for_what_it_needs() -> None:
    waits = {name: {on: how["condition"] for on, how in service.get("depends_on", {}).items()}
             for name, service in SERVICES.items()}  # fmt: skip
    ready = {"database": "service_healthy", "redis": "service_healthy", "migrate": "service_completed_successfully"}
    assert waits == {
        "database": {},
        "redis": {},
        "migrate": {"database": "service_healthy"},
        **dict.fromkeys((*NODES, "accounts"), ready),
        "balancer": dict.fromkeys((*NODES, "accounts"), "service_healthy"),
    }
    assert SERVICES["migrate"]["restart"] == "no"
    assert all(service["restart"] == "unless-stopped" for name, service in SERVICES.items() if name != "migrate")
    for name in ("database", "redis", "balancer"):
        assert "test" in SERVICES[name]["healthcheck"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("cap_add" in service) == (name == "database")
    assert not {"privileged", "pid", "network_mode"} & service.keys()


def test_only_the_balancer_is_reached_from_outside() -> None:
    networks = COMPOSE["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {"outside"}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"balancer"}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"balancer"}
    assert {name for name in SERVICES if SERVICES[name]["networks"] == ["back"]} == {"database", "redis", "migrate"}
    assert "back" not in SERVICES["balancer"]["networks"]
    for name, service in SERVICES.items():
        if "front" in service["networks"]:
            assert name in (*NODES, "accounts", "balancer"), "whoever is there may say who a client is"


def test_docker_waits_longer_than_a_server_takes_to_stop() -> None:
    for name in OURS:
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > Timeouts().shutdown
    hard_stop = re.search(r"hard-stop-after (\d+)s", HAPROXY)
    assert hard_stop and int(SERVICES["balancer"]["stop_grace_period"].removesuffix("s")) > int(hard_stop[1])


def test_the_database_is_durable() -> None:
    command = SERVICES["database"]["command"]
    assert {"--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--character-set-server=utf8mb4"} <= set(command)
    assert SERVICES["database"]["volumes"] == ["database:/var/lib/mysql"]


# Redis, as its container would start it


def test_redis_takes_its_password_from_the_secret_and_tells_nobody(secrets: Path, tmp_path: Path) -> None:
    service = SERVICES["redis"]
    (script,) = service["command"]
    script = script.replace("$$", "$").replace("/run/secrets/redis_password", str(secrets / "redis_password"))
    port = free_port()
    script = script.replace("dir /tmp", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
    running = subprocess.Popen(
        [*service["entrypoint"], script], env={"PATH": str(Path(program("redis-server")).parent) + ":/usr/bin:/bin"}
    )
    try:
        word = (secrets / "redis_password").read_text().strip()
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    answers = connection.makefile("rb")
                    connection.sendall(b"PING\r\n")
                    assert answers.readline().startswith(b"-NOAUTH")
                    connection.sendall(f"AUTH {word}\r\nCONFIG GET save\r\n".encode())
                    assert [answers.readline() for _ in range(6)][::5] == [b"+OK\r\n", b"\r\n"]
                    break
            except ConnectionRefusedError:
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        command = Path(f"/proc/{running.pid}/cmdline").read_bytes()
        assert b"redis-server" in command and word.encode() not in command
        assert running.poll() is None, "it is the container's own process, and gets its signals"
    finally:
        running.terminate()
        assert running.wait(10) == 0


# The balancer


def test_the_balancer_leads_to_what_there_is() -> None:
    servers = re.findall(r"^    server (\S+) (\S+):(\d+) send-proxy-v2 check (.*)$", HAPROXY, re.M)
    assert {(name, host, port) for name, host, port, _ in servers} == {
        *((node, node, port) for node in NODES for port in ("1883", "8083")),
        ("accounts", "accounts", "8000"),
    }
    assert all(how == ("check-send-proxy" if name == "accounts" else "port 8000") for name, _, _, how in servers)
    binds = re.findall(r"^    bind :(\d+)$", HAPROXY, re.M)
    assert SERVICES["balancer"]["ports"] == [f"{port}:{port}" for port in binds]
    connections = re.search(r"maxconn (\d+)", HAPROXY)
    assert connections and SERVICES["balancer"]["ulimits"]["nofile"] > 2 * int(connections[1])
    (mount,) = SERVICES["balancer"]["volumes"]
    assert (ROOT / mount.split(":")[0]).read_text() == HAPROXY and mount.endswith(":ro")


def test_haproxy_takes_its_configuration() -> None:
    """Names of containers are known only beside them; this one warning is expected."""
    done = subprocess.run(
        [program("haproxy"), "-c", "-f", "config/haproxy.cfg"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or "ALERT" in line]
    assert [line for line in warnings if "could not resolve address" not in line] == []


# The health check


def test_a_health_check_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "aldis.broker.health", "127.0.0.1:1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "127.0.0.1:1 does not answer" in done.stderr
    ours = set(re.findall(r"\| +(aldis\S*)", done.stderr))
    assert ours <= {"aldis", "aldis.broker", "aldis.broker.health"}, ours
    tree = ast.parse((ROOT / "broker" / "health.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("aldis")]  # type: ignore[union-attr]


def test_settings_in_the_file_are_valid_json_where_they_are_lists() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("TRUSTED"):
                assert all(ip_network(one) for one in json.loads(value))
