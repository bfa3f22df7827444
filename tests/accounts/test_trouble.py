"""What happens when the database is slow, locked or raced, and what the log tells of it all."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.accounts_api.problems import problem_of
from aldis.bridge.accounts import Database, errors, open_engine
from aldis.bridge.schema import im_user, metadata
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.ports import StoreUnavailable
from tests.accounts.world import MASTER_KEY, PASSWORD, SIGNING_KEY, World, assert_problem


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/aldis.db", busy_timeout=0.3)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        row = {"user_id": "counter", "name": "", "password_hash": "", "state": 0, "created": 0}
        await connection.execute(im_user.insert(), row)
    database = Database(engine, WriteTurn())
    yield database
    await database.close()


async def add_one(connection: AsyncConnection) -> None:
    value = await connection.scalar(select(im_user.c.created).where(im_user.c.user_id == "counter"))
    await asyncio.sleep(0)
    await connection.execute(update(im_user).where(im_user.c.user_id == "counter").values(created=value + 1))


async def test_reading_and_then_writing_loses_nothing(database: Database) -> None:
    await asyncio.gather(*(database.write(add_one) for _ in range(50)))
    async with database.read() as connection:
        assert await connection.scalar(select(im_user.c.created)) == 50


async def test_nor_between_processes_that_share_no_turn(database: Database, tmp_path: Path) -> None:
    """Each database has its own turn, as two processes have; what keeps them apart is SQLite's lock alone."""
    engines = [open_engine(f"sqlite+aiosqlite:///{tmp_path}/aldis.db", busy_timeout=20) for _ in range(4)]
    others = [Database(engine, WriteTurn()) for engine in engines]
    await asyncio.gather(*(other.write(add_one) for other in others for _ in range(10)))
    for other in others:
        await other.close()
    async with database.read() as connection:
        assert await connection.scalar(select(im_user.c.created)) == 40


async def test_a_failed_transaction_leaves_nothing_and_frees_the_turn(database: Database) -> None:
    async def work(connection: AsyncConnection) -> None:
        await add_one(connection)
        raise errors.UserTaken("no")

    for _ in range(3):
        with pytest.raises(errors.UserTaken):
            await database.write(work)
    async with database.read() as connection:
        assert await connection.scalar(select(im_user.c.created)) == 0
    await database.write(add_one)


async def test_a_cancelled_transaction_leaves_nothing_and_frees_the_turn(database: Database) -> None:
    inside = asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await add_one(connection)
        inside.set()
        await asyncio.sleep(60)

    for _ in range(3):
        inside.clear()
        task = asyncio.create_task(database.write(work))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await database.write(add_one)
    async with database.read() as connection:
        assert await connection.scalar(select(im_user.c.created)) == 1


async def test_a_deadlock_is_tried_again(database: Database) -> None:
    attempts = 0

    async def work(connection: AsyncConnection) -> str:
        nonlocal attempts
        attempts += 1
        await add_one(connection)
        if attempts < 3:
            raise OperationalError("UPDATE", {}, Exception(1213, "Deadlock found"))
        return "done"

    assert await database.write(work) == "done"
    async with database.read() as connection:
        assert await connection.scalar(select(im_user.c.created)) == 1, "the attempts that failed were rolled back"


async def test_deadlocks_without_end_are_an_unavailable_store(database: Database) -> None:
    async def work(_connection: AsyncConnection) -> None:
        raise OperationalError("UPDATE", {}, Exception(1205, "Lock wait timeout exceeded"))

    with pytest.raises(StoreUnavailable):
        await database.write(work)


async def test_a_locked_database_is_an_unavailable_store(database: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "aldis.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await database.write(add_one)
    await database.ready()
    other.execute("ROLLBACK")
    other.close()
    await database.write(add_one)


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        caplog.clear()
        other = sqlite3.connect(tmp_path / "aldis.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await database.write(add_one)
            await database.ready()  # it can be read all the while
        other.execute("ROLLBACK")
        other.close()
        for _ in range(3):
            await database.write(add_one)
        said = [record.getMessage() for record in caplog.records if record.name == "aldis.bridge.accounts.database"]
        assert len(said) == 2
        assert said[0] == "the accounts' database does not answer writes: database is locked"
        assert float(said[1].removeprefix("the accounts' database answers writes again, after ").split()[0]) >= 0.5


async def test_calls_answer_503_while_the_store_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    [alice] = await world.enter("alice")

    def refuse() -> None:
        raise OperationalError("SELECT", {}, Exception("im_session is on fire"))

    monkeypatch.setattr(world.database, "_engine", SimpleNamespace(connect=refuse, dialect=world.engine.dialect))
    answers = [
        await alice.get("/v1/relations"),
        await alice.post("/v1/logout"),
        await world.client.post("/v1/users", json={"user_id": "bob", "password": PASSWORD}),
        await world.client.post("/v1/token/refresh", json={"refresh_token": alice.tokens["refresh_token"]}),
        await world.client.get("/readyz"),
    ]
    body = {"user_id": "alice", "password": PASSWORD, "device_id": "phone"}
    # An outage must not use up anybody's attempts.
    answers += [await world.client.post("/v1/login", json=body) for _ in range(world.settings.login_burst + 1)]
    for answer in answers:
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "fire" not in answer.text
    monkeypatch.undo()
    assert (await world.client.post("/v1/login", json=body)).status_code == 200


async def test_a_fault_of_ours_tells_nothing_and_is_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [alice] = await world.enter("alice")

    async def broken(_user: str, **_page: object) -> None:
        raise RuntimeError("the inner life of the server")

    monkeypatch.setattr(world.accounts.lists, "relations", broken)
    answer = await alice.get("/v1/relations")
    assert_problem(answer, 500, "internal")
    assert "inner life" not in answer.text
    assert "GET /v1/relations failed" in caplog.text and "inner life" in caplog.text


async def test_no_secret_reaches_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for logger in ["aldis", "sqlalchemy", "litestar", "uvicorn"]:
        caplog.set_level(logging.DEBUG, logger=logger)
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    device_token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    key = (await alice.get("/v1/relations")).json()[0]["key"]["key"]
    refresh = {"refresh_token": alice.tokens["refresh_token"]}
    fresh = (await world.client.post("/v1/token/refresh", json=refresh)).json()
    secrets = [PASSWORD, device_token, key, *alice.tokens.values(), *bob.tokens.values(), *fresh.values()]
    # Errors are where secrets leak: each of these carries one.
    await world.client.post("/v1/token/refresh", json=refresh)
    await world.client.post("/v1/token/refresh", json={"refresh_token": fresh["refresh_token"] + "x"})
    await world.client.get("/v1/relations", headers={"Authorization": f"Bearer {device_token}"})
    await world.client.post("/v1/login", json={"user_id": "alice", "password": PASSWORD, "device_id": "\n"})
    await world.client.post("/v1/login", json={"user_id": "alice", "password": "a wrong guess", "device_id": "x"})
    await world.client.post(
        "/v1/users", content=b'{"password":"a cut body', headers={"Content-Type": "application/json"}
    )
    await world.client.post("/v1/users", json={"user_id": "alice", "password": PASSWORD})
    async with world.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE im_session RENAME TO elsewhere")
    await world.client.post("/v1/login", json={"user_id": "bob", "password": PASSWORD, "device_id": "tablet"})
    text = (
        "\n".join(f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records)
        + caplog.text
    )
    # a table that is missing: SQLite calls it an operational error, MySQL a fault of the program
    assert "does not answer" in text or "POST /v1/login failed" in text, "the log is being read"
    for secret in [*secrets, "a wrong guess", "a cut body", "$argon2id$", SIGNING_KEY.decode(), MASTER_KEY.decode()]:
        if secret not in ("Bearer", 86_400):
            assert str(secret) not in text


def test_every_error_of_the_tree_has_its_answer() -> None:
    def leaves(kind: type[Exception]) -> list[type[Exception]]:
        below = [leaf for sub in kind.__subclasses__() for leaf in leaves(sub)]
        return below or [kind]

    slugs = []
    for kind in leaves(errors.AccountError):
        error = kind.__new__(kind)
        error.args = ("in words",)
        error.retry_after = 1  # type: ignore[attr-defined]
        problem, headers = problem_of(error)
        assert 400 <= problem.status < 600 and problem.status != 500
        assert ("Retry-After" in headers) == (problem.status in (429, 503))
        slugs.append(problem.type)
    assert len(set(slugs)) == len(slugs) > 15
    assert problem_of(ValueError("secret"))[0].status == 500
    assert "secret" not in problem_of(ValueError("secret"))[0].detail
