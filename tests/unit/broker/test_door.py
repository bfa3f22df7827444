"""Who gets in: connections per address and their rate, failed CONNECTs, memory. One line in the log for a flood."""

from __future__ import annotations

import asyncio
import logging
import mmap

import pytest

from aldis.broker.core.reasons import CloseReason
from aldis.broker.door import Door
from aldis.broker.listener import Listener
from aldis.broker.memory import SHORT_OF_MEMORY, MemoryWatch, resident
from aldis.config.settings import Limits
from tests import wire
from tests.unit.broker.lab import Client, Lab, running, until

UNAVAILABLE = wire.refused(3)
FREE = {"connections_per_second_per_address": 0, "connections_per_second": 0}


class Caller:
    """What the door looks at of a connection."""

    def __init__(self, host: str, listener: Listener | None = None) -> None:
        self.address = f"{host}:1234"
        self.network: str | None = None
        self.listener = listener


def calls(door: Door, host: str, now: float = 0.0, listener: Listener | None = None) -> tuple[Caller, object]:
    caller = Caller(host, listener)
    return caller, door.enter(caller, now)  # type: ignore[arg-type]


# Connections per address


def test_connections_of_one_address_are_bounded() -> None:
    door = Door(Limits(max_connections_per_address=2, **FREE))
    first, refusal = calls(door, "192.0.2.1")
    assert refusal is None
    assert calls(door, "192.0.2.1")[1] is None
    assert calls(door, "192.0.2.1")[1] is CloseReason.TOO_MANY_CONNECTIONS
    assert calls(door, "192.0.2.2")[1] is None
    door.leave(first)  # type: ignore[arg-type]
    door.leave(first)  # type: ignore[arg-type]  # once is enough, twice is harmless
    assert calls(door, "192.0.2.1")[1] is None
    assert calls(door, "192.0.2.1")[1] is CloseReason.TOO_MANY_CONNECTIONS


def test_an_ipv6_network_is_one_address() -> None:
    door = Door(Limits(max_connections_per_address=2, **FREE))
    assert [calls(door, f"2001:db8::{number}")[1] is None for number in range(1, 4)] == [True, True, False]
    assert calls(door, "2001:db8:0:1::1")[1] is None
    assert [calls(door, host)[1] is None for host in ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1")] == [
        True,
        True,
        False,
    ]


def test_who_has_left_is_not_remembered() -> None:
    door = Door(Limits(**FREE))
    for number in range(100):
        caller, _ = calls(door, f"192.0.2.{number}")
        door.leave(caller)  # type: ignore[arg-type]
    assert not door._open


# Their rate


def test_an_address_that_is_too_fast_takes_nothing_of_the_others() -> None:
    limits = Limits(connection_burst_per_address=3, connections_per_second_per_address=1, connection_burst=5)
    door, listener = Door(limits), Listener("default", 1_000)
    flood = [calls(door, "192.0.2.1", 0.0, listener)[1] for _ in range(100)]
    assert flood == [None] * 3 + [CloseReason.CONNECTING_TOO_FAST] * 97
    assert listener.count == 3
    assert calls(door, "192.0.2.2", 0.0, listener)[1] is None
    assert calls(door, "192.0.2.1", 1.0, listener)[1] is None


def test_a_listener_has_a_rate_of_its_own() -> None:
    door = Door(Limits(connection_burst=4, connections_per_second=2))
    one, other = Listener("default", 1_000), Listener("websocket", 1_000)
    refusals = [calls(door, f"192.0.2.{number}", 0.0, one)[1] for number in range(6)]
    assert refusals == [None] * 4 + [CloseReason.CONNECTING_TOO_FAST] * 2
    assert calls(door, "192.0.2.9", 0.0, other)[1] is None
    assert [calls(door, f"198.51.100.{number}", 1.0, one)[1] is None for number in range(3)] == [True, True, False]
    assert one.count == 6


def test_the_table_of_addresses_is_bounded() -> None:
    door = Door(Limits(max_addresses=10))
    for number in range(1_000):
        caller, _ = calls(door, f"10.0.{number // 250}.{number % 250}")
        door.failed(caller, f"user{number}", 0.0)  # type: ignore[arg-type]
        door.leave(caller)  # type: ignore[arg-type]
    assert len(door._rates) == len(door._failures) == len(door._failures_of) == 10


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "aldis")
    return caplog


async def test_too_fast_is_closed_at_once_with_one_line(said: pytest.LogCaptureFixture) -> None:
    limits = Limits(connection_burst_per_address=5, connections_per_second_per_address=0.001)
    async with running(limits=limits) as lab:
        for number in range(5):
            await lab.client(f"c{number}")
        for _ in range(20):
            late = await lab.dial()
            late.send(wire.connect("late"))
            assert await late.closed() == []
        assert lab.node.figures.ended[CloseReason.CONNECTING_TOO_FAST] == 20
        for client in lab.clients[:5]:
            await client.nothing()
    lines = [record for record in said.records if CloseReason.CONNECTING_TOO_FAST in record.getMessage()]
    assert len(lines) == 1


# Failed CONNECTs


GUESSES = Limits(
    failed_connect_burst_per_address=6,
    failed_connects_per_minute_per_address=0.6,
    failed_connect_burst_per_user=3,
    failed_connects_per_minute_per_user=0.6,
)


def test_too_many_failures_bar_the_address_and_time_opens_it_again() -> None:
    door = Door(GUESSES)
    guesser, other = Caller("192.0.2.1"), Caller("192.0.2.2")
    for caller in (guesser, other):
        door.enter(caller, 0.0)  # type: ignore[arg-type]
    for number in range(6):
        assert not door.barred(guesser, f"user{number}", 0.0)  # type: ignore[arg-type]
        door.failed(guesser, f"user{number}", 0.0)  # type: ignore[arg-type]
    assert door.barred(guesser, "anyone", 0.0)  # type: ignore[arg-type]
    assert not door.barred(other, "user1", 0.0)  # type: ignore[arg-type]
    assert door.barred(guesser, "anyone", 99.0)  # type: ignore[arg-type]
    assert not door.barred(guesser, "anyone", 100.0)  # type: ignore[arg-type]


def test_nobody_locks_a_user_out_from_elsewhere() -> None:
    """A name that has failed too often is heard from addresses that have not failed, and from no others."""
    door = Door(GUESSES)
    many = [Caller(f"192.0.2.{number}") for number in range(8)]
    home = Caller("198.51.100.1")
    for caller in (*many, home):
        door.enter(caller, 0.0)  # type: ignore[arg-type]
    for caller in many:
        assert not door.barred(caller, "ada", 0.0)  # type: ignore[arg-type]
        door.failed(caller, "ada", 0.0)  # type: ignore[arg-type]
    assert all(door.barred(caller, "ada", 0.0) for caller in many)  # type: ignore[arg-type]
    assert not any(door.barred(caller, "bob", 0.0) for caller in many)  # type: ignore[arg-type]
    assert not door.barred(home, "ada", 0.0)  # type: ignore[arg-type]


async def refused(lab: Lab, name: str) -> list[bytes]:
    client = await lab.dial()
    client.send(wire.connect("c", user=name, password="wrong"))
    said = await client.closed()
    client.close()
    return said


async def test_a_flood_of_failures_is_not_even_judged(said: pytest.LogCaptureFixture) -> None:
    """The plugins are asked for the first ones only; after that one answer, 3, and one line in the log."""
    asked = 0
    async with running(
        {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}, GUESSES
    ) as lab:
        judge = lab.node.decisions.admit

        async def admit(*arguments: object) -> object:
            nonlocal asked
            asked += 1
            return await judge(*arguments)  # type: ignore[arg-type]

        lab.node.decisions.admit = admit  # type: ignore[method-assign,assignment]
        answers = [await refused(lab, "") for _ in range(40)]
        assert answers == [[wire.refused(5)]] * 3 + [[UNAVAILABLE]] * 37
    assert asked == 3
    lines = [record for record in said.records if CloseReason.TOO_MANY_FAILURES in record.getMessage()]
    assert len(lines) == 1


# Memory


def test_the_watch_has_hysteresis_and_looks_once_a_second() -> None:
    used, looks, told = 100, 0, list[bool]()

    def read() -> int:
        nonlocal looks
        looks += 1
        return used

    watch = MemoryWatch(1_000, told.append, read)
    for used, high in (
        (1_000, False),
        (1_001, True),
        (950, True),
        (901, True),
        (900, False),
        (950, False),
        (2_000, True),
    ):
        now = looks * 1.0
        watch.look(now)
        watch.look(now + 0.5)
        assert watch.high == high, used
    assert looks == 7
    assert told == [True, False, True]


def test_no_mark_no_look() -> None:
    MemoryWatch(0, pytest.fail, pytest.fail).look(0.0)


def test_a_system_that_does_not_tell(said: pytest.LogCaptureFixture) -> None:
    def read() -> int:
        raise FileNotFoundError("no such file")

    watch = MemoryWatch(1, pytest.fail, read)
    for now in range(5):
        watch.look(now)
    assert len(said.records) == 1


def test_what_is_read_is_memory() -> None:
    """In pages of its own: an allocator may have 50 MB left over from earlier tests."""
    with mmap.mmap(-1, 50_000_000) as block:
        before = resident()
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        assert 40_000_000 < resident() - before < 100_000_000
    assert before > 10_000_000


async def test_above_the_mark_nobody_new_is_let_in() -> None:
    """Who is there is served on, who has a session may use it; below the mark everything is as before."""
    async with running(limits=Limits(memory_high_water=10**12)) as lab:
        used = 0
        lab.node.memory._read = lambda: used
        there = await lab.client("there", clean=False)
        early, known = await lab.dial(), await lab.dial()
        used = 10**12 + 1
        await until(lambda: lab.node.door.shut)
        assert SHORT_OF_MEMORY in lab.node.not_ready_reasons
        late = await lab.dial()
        assert await late.closed() == []
        assert lab.node.figures.ended[CloseReason.SHORT_OF_MEMORY] == 1
        early.send(wire.connect("early"))
        assert await early.closed() == [UNAVAILABLE]
        await there.nothing()
        known.send(wire.connect("there", clean=False))
        await known.expect(wire.RESUMED)
        used = 9 * 10**11
        await until(lambda: not lab.node.door.shut)
        assert SHORT_OF_MEMORY not in lab.node.not_ready_reasons
        await lab.client("welcome")


async def test_connections_of_one_address_at_the_connector() -> None:
    async with running(limits=Limits(max_connections_per_address=3)) as lab:
        there = [await lab.client(f"c{number}") for number in range(3)]
        late = await lab.dial()
        assert await late.closed() == []
        there[0].close()
        await until(lambda: len(lab.node.connections) == 2)
        again: Client = await lab.client("again")
        await again.nothing()
        await asyncio.gather(*(client.nothing() for client in there[1:]))
