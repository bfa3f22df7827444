"""The container files, as far as they can be checked without an engine: valid, and of one mind with the server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aldis.config.addresses import split_address
from aldis.config.settings import Timeouts, load

ROOT = Path(__file__).parents[3]
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def service() -> dict[str, object]:
    """The one of the embedded server; see `test_compose` for the cluster."""
    compose = yaml.safe_load((ROOT / "docker-compose.embedded.yml").read_text())
    assert list(compose["services"]) == ["aldis"]
    service: dict[str, object] = compose["services"]["aldis"]
    return service


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "--failure-threshold", "info", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.embedded.yml"),
    ],
    ids=lambda command: command[-1],
)
def test_the_file_is_valid(command: tuple[str, ...]) -> None:
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_ports_are_those_of_the_embedded_profile(service: dict[str, object], dockerfile: str) -> None:
    settings = load("embedded")
    binds = [*(listener.bind for listener in settings.listeners.values()), settings.http.bind]
    ports = [str(split_address(bind)[1]) for bind in binds]
    assert service["ports"] == [f"{port}:{port}" for port in ports]
    exposed = re.search(r"^EXPOSE (.+)$", dockerfile, re.M)
    assert exposed and exposed[1].split() == ports
    assert f'CMD ["python", "-m", "aldis.broker.health", "127.0.0.1:{ports[-1]}"]' in dockerfile


def test_the_last_stage_runs_as_nobody_special_and_keeps_its_data(service: dict[str, object], dockerfile: str) -> None:
    last = dockerfile[dockerfile.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.M)
    assert user and int(user[1]) > 0 and int(user[2]) > 0
    assert "VOLUME /data" in last
    assert "ALDIS_DATA=/data" in last
    assert service["volumes"] == ["data:/data"]


def test_every_room_is_copied_into_the_image(dockerfile: str) -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.M))
    let_in = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.M)) - {"LICENSE"}
    links = re.search(r"^ROOMS := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert links
    assert copied == let_in == set(links[1].split())


def test_docker_waits_longer_than_the_server_takes_to_stop(service: dict[str, object]) -> None:
    assert int(str(service["stop_grace_period"]).removesuffix("s")) > Timeouts().shutdown
