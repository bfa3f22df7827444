from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mariadb import MariaDb, new_server


@pytest.fixture(scope="module")
def own_server() -> Iterator[MariaDb]:
    """A server that the tests of this file may stop, kill and set wrongly, and put right again."""
    server = new_server().start()
    yield server
    server.stop()
