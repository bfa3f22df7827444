"""One server as `aldis up` starts it, shared by all files that do not end it or need another configuration."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Aldis, running


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("embedded")) as server:
        yield server
