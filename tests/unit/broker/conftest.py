"""Here the clock jumps over what would only be waited for."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

from tests.unit.impatient import ImpatientLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return {"impatient": ImpatientLoop}
