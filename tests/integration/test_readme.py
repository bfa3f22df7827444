"""The example of the README, taken from the README and run as it stands there, against a real server."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALDIS = Path(sys.executable).with_name("aldis")


def example() -> str:
    blocks: list[str] = re.findall(r"^```sh\n(.+?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    (block,) = [block for block in blocks if "mosquitto_sub" in block]
    return block


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_until_ready(server: subprocess.Popen[bytes], http: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            with urllib.request.urlopen(f"http://{http}/readyz", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    pytest.fail("the server was not ready within 20 s")


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server as `aldis up` starts it, on free ports; it must stop cleanly on SIGTERM."""
    flags = {name: free_address() for name in ("mqtt", "ws", "http")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}
    command = [str(ALDIS), "up", "--data", "data", *(word for name in flags for word in (f"--{name}", flags[name]))]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=(tmp_path / "log").open("wb")) as server:
        try:
            wait_until_ready(server, flags["http"])
            yield flags
        finally:
            server.terminate()
            try:
                code = server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    assert code == 0, (tmp_path / "log").read_text()


def test_the_example_works_as_it_stands(addresses: dict[str, str], tmp_path: Path) -> None:
    script = example()
    for written, name in (("127.0.0.1:8000", "http"), ("127.0.0.1 -p 1883", "mqtt")):
        assert script.count(written) == 1
        script = script.replace(written, addresses[name].replace(":", " -p ") if " -p " in written else addresses[name])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    received = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert list(received) == ["n", "mid", "ts", "body"]
    assert received["body"] == "hi Bob"
    assert abs(received["ts"] / 1000 - time.time()) < 60
