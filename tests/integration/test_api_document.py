"""The examples of docs/api.md, taken from there and run in their order in one shell, against a real server."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.test_readme import ALDIS, ROOT, addresses

__all__ = ["addresses"]  # the fixture: a server as `aldis up` starts it

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
FIRST = "API=http://127.0.0.1:8000\n"
BEGIN = "=== "


def examples() -> list[tuple[str, str]]:
    """(heading, commands) of every block of shell commands."""
    found = []
    for section in re.split(r"^## ", DOCUMENT, flags=re.M):
        heading = section.partition("\n")[0]
        found += [(heading, block) for block in re.findall(r"^```sh\n(.+?)^```$", section, re.M | re.S)]
    return found


def run(addresses: dict[str, str], folder: Path) -> dict[str, str]:
    """What the examples under each heading print. Any answer but a good one ends the script."""
    blocks = examples()
    assert blocks[0][1].startswith(FIRST)
    script = [
        "set -eu -o pipefail",
        'curl() { command curl --fail-with-body "$@"; echo; }',
        f'aldis() {{ {ALDIS} "$@" --data data; }}',
        "head -c 100000 /dev/urandom > photo.jpg",
    ]
    for heading, block in blocks:
        commands = block.replace(FIRST, f"API=http://{addresses['http']}\n")
        script += [f"echo '{BEGIN}{heading}'", commands]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    printed: dict[str, str] = {}
    for part in done.stdout.split(BEGIN)[1:]:
        heading, _, output = part.partition("\n")
        printed[heading] = printed.get(heading, "") + output
    return printed


@pytest.mark.timeout(90)
def test_the_examples_work_as_they_stand(addresses: dict[str, str], tmp_path: Path) -> None:
    printed = run(addresses, tmp_path)
    assert printed["Register, log in, stay logged in"].count('"user_id"') == 3
    assert '"state":"friends"' in printed["Friends and keys"]
    assert '"kind":"sealed"' in printed["Relation keys"] and '"version":3' in printed["Relation keys"]
    assert json.loads(printed["History"].splitlines()[0]) == {"messages": [], "next": None}
    assert '"device_id":"phone"' in printed["The own account"]
    assert '"token":"aldis_dt_' in printed["Devices and their tokens"]
    assert "alice is an administrator" in printed["Administration"]
    assert '"text":"Maintenance at ten tonight"' in printed["Administration"]
    assert printed["Health"].split() == ['{"status":"ok"}']


def test_every_section_with_calls_has_an_example() -> None:
    shown = {heading for heading, _ in examples()}
    for section in re.split(r"^## ", DOCUMENT, flags=re.M)[1:]:
        if re.search(r"^\| `[A-Z]+ /", section, re.M):
            assert section.partition("\n")[0] in shown
