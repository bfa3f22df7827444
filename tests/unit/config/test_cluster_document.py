"""docs/operations.md names every setting of a cluster with its default, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from aldis.config.cluster import Cluster, RedisTls

TEXT = Path(__file__).parents[3].joinpath("docs/operations.md").read_text()
SECTION = TEXT.split("### Settings of a cluster\n")[1].split("\n### ")[0]


def test_every_setting_is_there_with_its_default() -> None:
    told: dict[str, str] = {}
    for line in SECTION.splitlines():
        if line.startswith("| `"):
            keys, defaults = line.split("|")[1:3]
            values = re.split(r",\s+", defaults.strip())
            for key, default in zip(re.findall(r"`([^`]+)`", keys), values, strict=True):
                told[key] = default.strip("` ").replace(",", "")
    assert told.keys() == Cluster.model_fields.keys()
    found = Cluster(redis_url="redis://redis").model_dump()  # type: ignore[arg-type]
    for key in told.keys() - {"node", "redis_url"}:
        if isinstance(found[key], float | int):
            assert float(told[key]) == found[key], key
        else:
            assert told[key] == (found[key] or ""), key


def test_so_are_those_of_tls_to_redis() -> None:
    (row,) = [line for line in SECTION.splitlines() if line.startswith("| `redis_tls`")]
    assert set(re.findall(r"`([^`]+)`", row)) == {"redis_tls", *RedisTls.model_fields}
