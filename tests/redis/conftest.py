from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisProcess, new_redis, shared_redis


@pytest.fixture(scope="session")
def redis_server() -> RedisProcess:
    """The one that everybody shares: not to be stopped, paused or emptied."""
    return shared_redis()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A server that the test may stop, kill, pause and empty. It starts in a few hundredths of a second."""
    server = new_redis().start()
    yield server
    server.stop()
