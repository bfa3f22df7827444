from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from aldis.broker.ports import Store
from tests.contract.journals import JOURNALS, Journals
from tests.contract.statuses import STATUSES, Statuses
from tests.contract.stores import BACK_ENDS, Reopen
from tests.contract.transfers import NETS, Nodes


@pytest.fixture(params=list(BACK_ENDS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    return BACK_ENDS[request.param](tmp_path)


@pytest.fixture
async def store(reopen: Reopen) -> AsyncIterator[Store]:
    store = reopen()
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=list(NETS))
async def linked(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(NETS[request.param](), stack)


@pytest.fixture(params=list(STATUSES))
async def statuses(request: pytest.FixtureRequest) -> AsyncIterator[Statuses]:
    statuses = STATUSES[request.param]()
    yield statuses
    await statuses.end()


@pytest.fixture(params=list(JOURNALS))
async def journals(request: pytest.FixtureRequest) -> AsyncIterator[Journals]:
    journals = JOURNALS[request.param]()
    yield journals
    await journals.end()
