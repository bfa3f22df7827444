"""What the cluster beside ours is made of: exact versions, from nowhere in particular."""

from __future__ import annotations

import json
import re

from benchmarks import machine
from benchmarks.clusters import PEERS


def test_the_lock_names_no_registry_and_every_package_by_its_hash() -> None:
    text = (PEERS / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in text
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert len(packages) > 20
    assert all(re.fullmatch(r"sha(1|512)-[A-Za-z0-9+/=]+", one["integrity"]) for one in packages.values())


def test_the_peers_are_those_that_the_report_names() -> None:
    packages = json.loads((PEERS / "package-lock.json").read_text("utf-8"))["packages"]
    assert machine._peers() == {
        name: packages[f"node_modules/{name}"]["version"]
        for name in ("aedes", "aedes-persistence-redis", "mqemitter-redis")
    }
