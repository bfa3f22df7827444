"""docs/operations.md names every setting of a cluster with its default, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from aldis.config.cluster import Cluster, RedisTls
from aldis.config.journal import Journal

TEXT = Path(__file__).parents[3].joinpath("docs/operations.md").read_text()
SECTION = TEXT.split("### Settings of a cluster\n")[1].split("\n### ")[0]


JOURNAL = TEXT.split("### Journal\n")[1].split("\n### ")[0].split("| when |")[0]


def rows(section: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            keys, defaults = line.split("|")[1:3]
            values = re.split(r",\s+", defaults.strip())
            for key, default in zip(re.findall(r"`([^`]+)`", keys), values, strict=True):
                told[key] = default.strip("` ").replace(",", "")
    return told


def test_every_setting_of_the_journal_is_there_with_its_default() -> None:
    told = rows(JOURNAL)
    assert told.keys() == Journal.model_fields.keys()
    for key, default in Journal().model_dump().items():
        assert told[key] == str(default).lower() if isinstance(default, bool) else float(told[key]) == default, key


def test_every_setting_is_there_with_its_default() -> None:
    told = rows(SECTION)
    assert told.keys() == Cluster.model_fields.keys()
    found = Cluster(redis_url="redis://redis").model_dump()  # type: ignore[arg-type]
    for key in told.keys() - {"node", "redis_url", "journal"}:
        if isinstance(found[key], float | int):
            assert float(told[key]) == found[key], key
        else:
            assert told[key] == (found[key] or ""), key


def test_so_are_those_of_tls_to_redis() -> None:
    (row,) = [line for line in SECTION.splitlines() if line.startswith("| `redis_tls`")]
    assert set(re.findall(r"`([^`]+)`", row)) == {"redis_tls", *RedisTls.model_fields}
