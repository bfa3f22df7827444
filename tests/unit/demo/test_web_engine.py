"""The engine of the web chat without a browser: its pure parts and its encryption, in Node (`tests/clients/web`)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "clients" / "web"
ENGINE = ROOT / "mobile_client_demo" / "web" / "engine"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.test.mjs")))
def test_in_node(name: str) -> None:
    node = shutil.which("node")
    assert node, "the web chat's engine is tested with Node: apt install nodejs"
    command = [node, "--import", (FOLDER / "loader.mjs").as_uri(), "--test", str(FOLDER / name)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stdout[-8_000:] + found.stderr[-2_000:]
    count = re.search(r"^# pass (\d+)$", found.stdout, re.MULTILINE)
    assert count is not None and int(count[1]) > 4, found.stdout[-2_000:]


def test_the_engine_knows_no_page() -> None:
    """What it needs of a browser is storage, network and time; it puts nothing into a page."""
    for path in ENGINE.glob("*.js"):
        source = path.read_text("utf-8")
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)
        found = re.findall(r"\b(?:window\.|document\.\w*[Ee]lement|innerHTML|querySelector|eval\(|new Function)", code)
        assert found == [], f"{path.name}: {found}"
        assert len(source.splitlines()) <= 280, f"{path.name} is too long"
