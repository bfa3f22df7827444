"""The in-process bus."""

from __future__ import annotations

import asyncio

import pytest

from aldis.bridge.bus import LocalBus
from aldis.broker.ports import AccessRevoked, Announcement, RelationChanged


async def test_everybody_hears_everything_in_order() -> None:
    bus = LocalBus()
    heard: list[tuple[str, Announcement]] = []
    bus.subscribe(lambda announcement: heard.append(("first", announcement)))
    bus.subscribe(lambda announcement: heard.append(("second", announcement)))
    one, two = RelationChanged("alice", "bob"), AccessRevoked("alice")
    bus.announce(one)
    bus.announce(two)
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [("first", one), ("second", one), ("first", two), ("second", two)]


async def test_who_comes_later_hears_only_what_follows() -> None:
    bus = LocalBus()
    heard: list[Announcement] = []
    bus.announce(AccessRevoked("alice"))
    bus.subscribe(lambda _: None)
    bus.announce(AccessRevoked("bob"))
    bus.subscribe(heard.append)
    bus.announce(AccessRevoked("carol"))
    await asyncio.sleep(0)
    assert heard == [AccessRevoked("carol")]


async def test_a_failing_handler_is_logged_and_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    bus = LocalBus()
    heard: list[Announcement] = []

    def fail(_: Announcement) -> None:
        raise RuntimeError("a bug")

    bus.subscribe(fail)
    bus.subscribe(heard.append)
    bus.announce(AccessRevoked("alice"))
    await asyncio.sleep(0)
    assert heard == [AccessRevoked("alice")]
    assert "AccessRevoked" in caplog.text


async def test_it_has_settled_when_everybody_has_heard_what_was_announced() -> None:
    bus = LocalBus()
    heard: list[Announcement] = []
    bus.subscribe(heard.append)
    assert await bus.settled()
    for user in ("alice", "bob"):
        bus.announce(AccessRevoked(user), 7)
        assert heard[-1:] != [AccessRevoked(user)]
        assert await bus.settled()
        assert heard[-1:] == [AccessRevoked(user)]
