"""MQTT 3.1.1 as the standard has it, against a real server (lab profile). Tests are named by normative statement."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import pytest

from tests.servers import Aldis, profile, running
from tests.wire import Client

Dial = Callable[[], Client]

SHORT = {"timeouts.session_expiry": 1, "limits.max_queued": 5, "limits.max_inflight": 3, "limits.max_retained": 3}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("lab"), "lab") as server:
        yield server


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """A lab server whose limits are reached soon (`SHORT`), without figures under `$SYS`: they are retained too."""
    folder = tmp_path_factory.mktemp("short")
    anonymous = profile(folder / "short.yaml", "lab", {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}})
    with running(folder, anonymous, SHORT) as server:
        yield server


def dialler(open_one: Dial) -> Iterator[Dial]:
    opened: list[Client] = []

    def dial() -> Client:
        opened.append(open_one())
        return opened[-1]

    yield dial
    for client in opened:
        client.close()


@pytest.fixture
def dial(lab: Aldis) -> Iterator[Dial]:
    """Opens a TCP connection to the lab server; all are closed after the test."""
    yield from dialler(lab.tcp)


@pytest.fixture(params=["tcp", "websocket"])
def dial_any(request: pytest.FixtureRequest, lab: Aldis) -> Iterator[Dial]:
    """The same once over TCP and once over WebSocket."""
    yield from dialler(getattr(lab, request.param))


@pytest.fixture
def dial_short(short: Aldis) -> Iterator[Dial]:
    yield from dialler(short.tcp)


_numbers = itertools.count()


def name_of(request: pytest.FixtureRequest) -> str:
    """What no other test uses."""
    return f"{re.sub(r'[^A-Za-z0-9]', '-', request.node.name)[:40]}-{next(_numbers)}"


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A topic level, or a client identifier, that no other test uses."""
    return name_of(request)
