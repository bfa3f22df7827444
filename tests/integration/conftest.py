"""One server as `aldis up` starts it, shared by all files that do not end it or need another configuration."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.people import Bystanders, Device, Person, people
from tests.servers import Aldis, running


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    # what fails on purpose, a thousand times and from one address, is not what these tests are about
    heard = {"limits.failed_connects_per_minute_per_address": 0, "limits.failed_connects_per_minute_per_user": 0}
    with running(tmp_path_factory.mktemp("embedded"), settings=heard) as server:
        yield server


@pytest.fixture(scope="module")
def bystanders(embedded: Aldis) -> Iterator[Bystanders]:
    both = Bystanders(embedded)
    yield both
    both.end()


@pytest.fixture
def others(bystanders: Bystanders) -> Iterator[None]:
    """After each test the bystanders' conversation must have gone on without a fault."""
    yield
    bystanders.check()


@pytest.fixture(scope="module")
def crowd(embedded: Aldis) -> list[Person]:
    """Ada and Bob are friends; nobody knows Mallory."""
    return [*people(embedded, "ada", "bob"), *people(embedded, "mallory")]


@pytest.fixture
def ada(crowd: list[Person]) -> Iterator[Device]:
    with crowd[0].online() as device:
        yield device


@pytest.fixture
def bob(crowd: list[Person]) -> Iterator[Device]:
    with crowd[1].online() as device:
        device.caught_up()
        yield device
