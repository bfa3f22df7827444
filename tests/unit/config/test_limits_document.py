"""docs/operations.md names every limit with its default, and no limit that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from aldis.config.settings import Limits

SECTION = Path(__file__).parents[3].joinpath("docs/operations.md").read_text().split("## Limits\n")[1].split("\n## ")[0]
SIZES = {"128 MiB": 134_217_728, "16 MiB": 16_777_216, "4 MiB": 4_194_304, "0 (off)": 0}


def rows() -> Iterator[tuple[str, str]]:
    """Key and default, as the tables have them side by side."""
    for line in SECTION.split("**Tables.**")[0].splitlines():
        if line.startswith("| `"):
            keys, defaults = line.split("|")[1:3]
            for key, default in zip(re.findall(r"`([^`]+)`", keys), re.split(r",\s+", defaults.strip()), strict=True):
                if key.startswith(("timeouts.", "listeners.")):
                    continue
                yield key, default.strip("` ")


def test_every_limit_is_there_with_its_default() -> None:
    told = {key: SIZES.get(default, default.replace(",", "")) for key, default in rows()}
    assert told.keys() == Limits.model_fields.keys()
    for key, default in Limits().model_dump().items():
        wanted = default if isinstance(default, str) else float(default)
        assert (told[key] if isinstance(default, str) else float(told[key])) == wanted, key
