"""Several statements in one way to the server and back: their order, their answers, their errors, their length."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiomysql import ProgrammingError

from aldis.bridge.mysql_literals import blob, row
from aldis.bridge.mysql_server import BoundedConnection, MySqlServer
from aldis.bridge.mysql_trips import Rows, Trips
from tests.databases import new_name
from tests.mariadb import shared_server


class Counting:
    """A connection that counts the trips, and notes their lengths."""

    def __init__(self, driver: BoundedConnection) -> None:
        self._driver = driver
        self.lengths: list[int] = []

    async def run_all(self, statements: list[bytes]) -> list[Rows]:
        self.lengths.append(len(b";".join(statements)))
        return await self._driver.run_all(statements)

    def insert_id(self) -> int:
        return int(self._driver.insert_id())


@pytest.fixture
async def driver() -> AsyncIterator[BoundedConnection]:
    """In a database of its own, with a table that numbers its rows."""
    name = new_name("aldis_trips")
    shared_server().ask(f"CREATE DATABASE {name}")
    shared_server().ask("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, value VARBINARY(100) UNIQUE)", name)
    engine = MySqlServer(shared_server().url(name)).engine(literals=True, reset=False)
    async with engine.connect() as connection:
        found = (await connection.get_raw_connection()).driver_connection
        assert isinstance(found, BoundedConnection)
        await found.autocommit(False)
        yield found
        await found.rollback()
    await engine.dispose()
    shared_server().ask(f"DROP DATABASE {name}")


def trips(driver: BoundedConnection, packet: int = 1_000_000) -> tuple[Trips, Counting]:
    counting = Counting(driver)
    return Trips(counting, packet), counting  # type: ignore[arg-type]


def values(*given: bytes) -> list[bytes]:
    return [row(b"NULL", blob(value)) for value in given]


async def test_what_waits_goes_together_and_in_order(driver: BoundedConnection) -> None:
    together, counting = trips(driver)
    answers: list[Rows] = []
    together.insert(b"INSERT INTO t VALUES ", values(b"a", b"b"))
    together.add(b"SELECT value FROM t ORDER BY id", answers.append)
    together.add(b"UPDATE t SET value = 'c' WHERE value = 'a'")
    together.add(b"SELECT value FROM t ORDER BY id", answers.append)
    assert not counting.lengths and not answers
    await together.go()
    assert len(counting.lengths) == 1
    assert answers == [((b"a",), (b"b",)), ((b"c",), (b"b",))]
    await together.go()
    assert len(counting.lengths) == 1, "nothing waits, nothing goes"


async def test_no_trip_is_longer_than_a_packet_unless_one_statement_is(driver: BoundedConnection) -> None:
    together, counting = trips(driver, packet=200)
    answers: list[Rows] = []
    asked = [b"SELECT '%b'" % (bytes([65 + number]) * length) for number, length in enumerate([80, 80, 80, 500, 10])]
    for statement in asked:
        together.add(statement, answers.append)
    await together.go()
    assert answers == [((statement[8:-1],),) for statement in asked]
    assert counting.lengths == [len(b";".join(asked[:2])), len(asked[2]), len(asked[3]), len(asked[4])]


async def test_after_a_failure_nothing_is_run(driver: BoundedConnection) -> None:
    together, _ = trips(driver)
    answers: list[Rows] = []
    together.insert(b"INSERT INTO t VALUES ", values(b"before"))
    together.add(b"SELECT no_such_column FROM t", answers.append)
    together.insert(b"INSERT INTO t VALUES ", values(b"after"))
    with pytest.raises(Exception, match="no_such_column"):
        await together.go()
    assert not answers
    assert await driver.run(b"SELECT value FROM t") == ((b"before",),), "the connection is still good"


async def test_a_statement_that_cannot_be_read_is_an_error_of_its_own(driver: BoundedConnection) -> None:
    together, _ = trips(driver)
    together.insert(b"INSERT INTO t VALUES ", values(b"before"))
    together.add(b"SELEKT 1")
    with pytest.raises(ProgrammingError):
        await together.go()
    assert await driver.run(b"SELECT value FROM t") == ((b"before",),)


@pytest.mark.parametrize("packet", [140, 1_000_000], ids=["in portions", "at once"])
async def test_rows_learn_the_numbers_they_were_given(driver: BoundedConnection, packet: int) -> None:
    together, counting = trips(driver, packet)
    given = [b"value %d" % number for number in range(20)]
    ids = await together.insert_numbered(b"INSERT INTO t VALUES ", values(*given), 1)
    found = dict(await driver.run(b"SELECT id, value FROM t"))
    assert [found[id] for id in ids] == given
    assert (len(counting.lengths) > 1) == (packet == 140)
    assert all(length <= packet for length in counting.lengths)


async def test_literals_are_bytes_whatever_they_hold(driver: BoundedConnection) -> None:
    assert await driver.run(b"SELECT charset('x'), HEX('\xff\xc3\xe9'), '\xc3\xa9'") == (
        ("binary", b"FFC3E9", b"\xc3\xa9"),
    )
