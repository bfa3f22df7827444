"""The whole API as somebody plays it who knows only its OpenAPI document, against a real server: examples, every
boundary of every parameter, made-up requests, and chains of calls that feed one answer into the next.

Every answer must be one that is declared, in the shape that is declared; nothing may end in a 500. A short run within
`make test`. A longer one: SCHEMATHESIS_SECONDS=600 pytest tests/integration/test_schemathesis.py
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.test_readme import ALDIS, free_address, wait_until_ready

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "20"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
LIMITS = ("CALL_BURST", "LOGIN_BURST", "ADDRESS_BURST", "REGISTER_BURST", "REQUEST_BURST", "HASHING_QUEUE")
"""Tested elsewhere; here they would hide everything else."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    flags = {name: free_address() for name in ("mqtt", "ws", "http")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}
    environment |= {f"ALDIS_ACCOUNTS__{name}": "1000000" for name in LIMITS}
    command = [str(ALDIS), "up", "--data", "data", *(word for name in flags for word in (f"--{name}", flags[name]))]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=(tmp_path / "log").open("wb")) as server:
        try:
            wait_until_ready(server, flags["http"])
            yield flags["http"]
        finally:
            server.terminate()
            assert server.wait(20) == 0


@pytest.mark.timeout(SECONDS + 90)
def test_every_answer_is_one_that_is_declared(address: str, tmp_path: Path) -> None:
    me = {"user_id": "alice", "password": "correct horse"}
    api = f"http://{address}"
    assert httpx.post(f"{api}/v1/users", json=me).status_code == 201
    token = httpx.post(f"{api}/v1/login", json=me | {"device_id": "phone"}).json()["access_token"]
    subprocess.run([ALDIS, "admin", "grant", "alice", "--data", "data"], cwd=tmp_path, check=True, capture_output=True)
    report = tmp_path / "report.json"
    command = [
        *(str(ALDIS.with_name("st")), "--config-file", str(CONFIG), "run", f"{api}/schema/openapi.json"),
        *("-H", f"Authorization: Bearer {token}", "--max-examples", "3" if SECONDS < 60 else "100"),
        *("--max-time", str(SECONDS), "--no-color", "--no-shrink", "--generation-database", ":memory:"),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert json.loads(report.read_text()), "it really ran"
    assert httpx.get(f"{api}/v1/account", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    log = (tmp_path / "log").read_text()
    assert " failed" not in log and "Traceback" not in log, log[-4_000:]
