"""What an operator has: the profile, the HTTP address, the figures of a server."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from aldis.config.settings import PROFILES
from tests.servers import Aldis
from tests.wire import PATIENCE

AUTHORISATION = "aldis.plugins.authorisation.TopicAuthorisation"
METRICS = "aldis.plugins.metrics.Metrics"
SYS_TOPICS = "aldis.plugins.sys_topics.SysTopics"


def write(path: Path, base: str = "embedded", **changes: Any) -> Path:
    """A shipped profile with these groups merged in; plugins by path."""
    document = yaml.safe_load((PROFILES / f"{base}.yaml").read_text())
    for group, values in changes.items():
        document.setdefault(group, {}).update(values)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def get(server: Aldis, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.http[0]}:{server.http[1]}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def figures(server: Aldis) -> dict[tuple[str, ...], float]:
    """Every sample by name and label values."""
    status, page = get(server, "/metrics")
    assert status == 200, page
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
