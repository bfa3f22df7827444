"""The connector's view of the accounts, and how often it asks the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event, select, update

from aldis.bridge.accounts import AccountsDirectory, Database
from aldis.bridge.credentials import AccessTokens, hashed
from aldis.bridge.schema import im_token, im_user
from aldis.broker.ports import StoreUnavailable
from tests.accounts.world import SIGNING_KEY, World


class Statements:
    """What reaches the database while it is entered."""

    def __init__(self, world: World) -> None:
        self._engine = world.engine.sync_engine
        self.seen: list[str] = []

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.seen.append(statement)

    def __enter__(self) -> Statements:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)


async def disable(world: World, user: str) -> None:
    async with world.engine.begin() as connection:
        await connection.execute(update(im_user).where(im_user.c.user_id == user).values(state=0))


async def test_each_question_is_one_query(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    session = AccessTokens(SIGNING_KEY).verify(alice.tokens["access_token"], world.now()).session or ""
    directory = world.accounts.directory
    await directory.token(hashed(token), now=world.now())
    await directory.settle()
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: directory.correspondents("alice"),
        lambda: directory.token(hashed(token), now=world.now()),
        lambda: directory.session_active(session),
    ]
    for question in questions:
        with Statements(world) as statements:
            assert await question()
        assert len(statements.seen) == 1, statements.seen


async def test_correspondents_are_on_both_sides_of_the_name(world: World) -> None:
    alice, bob, carol, dave = await world.enter("alice", "bob", "carol", "dave")
    await world.befriend(bob, alice)
    await world.befriend(bob, carol)
    assert (await dave.post("/v1/friend-requests", {"to": "bob"})).status_code == 200
    directory = world.accounts.directory
    assert await directory.correspondents("bob") == {"alice", "carol"}
    assert await directory.correspondents("carol") == {"bob"}
    assert await directory.correspondents("dave") == frozenset()
    assert await directory.correspondents("nobody") == frozenset()
    assert alice.user not in await directory.correspondents("alice")


async def test_a_disabled_user_is_nobody(world: World) -> None:
    [alice] = await world.enter("alice")
    token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]
    session = AccessTokens(SIGNING_KEY).verify(alice.tokens["access_token"], world.now()).session or ""
    assert await world.accounts.directory.session_active(session)
    await disable(world, "alice")
    assert not await world.accounts.directory.session_active(session)
    assert await world.accounts.directory.token(hashed(token), now=world.now()) is None


async def test_unknown_credentials(world: World) -> None:
    directory = world.accounts.directory
    assert await directory.token(hashed("aldis_dt_unknown"), now=world.now()) is None
    assert not await directory.session_active("unknown")
    assert not await directory.session_active("")


async def last_used(world: World) -> int | None:
    await world.accounts.directory.settle()
    async with world.engine.connect() as connection:
        return await connection.scalar(select(im_token.c.last_used))


async def test_the_use_of_a_token_is_noted_at_most_once_a_minute(world: World) -> None:
    [alice] = await world.enter("alice")
    token = hashed((await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"])
    directory, now = world.accounts.directory, world.now()
    await directory.token(token, now=now)
    assert await last_used(world) == now
    await directory.token(token, now=now + 59_999)
    assert await last_used(world) == now
    await directory.token(token, now=now + 60_000)
    assert await last_used(world) == now + 60_000
    assert (await alice.get("/v1/tokens")).json()[0]["last_used"] == now + 60_000


async def test_a_rush_of_tokens_is_noted_in_few_transactions(world: World) -> None:
    """What comes while one note is being written is written together."""
    [alice] = await world.enter("alice")
    made = [(await alice.post("/v1/tokens", {"device_id": f"d{i}", "name": "x"})).json()["token"] for i in range(20)]
    now, read = world.now(), asyncio.Event()

    class Slow(Database):
        async def write(self, work: Any) -> Any:
            await read.wait()
            return await super().write(work)

    directory = AccountsDirectory(Slow(world.engine, world.turn))
    with Statements(world) as statements:
        grants = await asyncio.gather(*(directory.token(hashed(token), now=now) for token in made))
        read.set()
        await directory.settle()
    assert all(grants)
    assert sum(statement.startswith("UPDATE") for statement in statements.seen) == 2
    assert {entry["last_used"] for entry in (await alice.get("/v1/tokens")).json()} == {now}


async def test_a_token_is_good_although_its_use_cannot_be_noted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    [alice] = await world.enter("alice")
    token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "x"})).json()["token"]

    class ReadOnly(Database):
        async def write(self, work: Any) -> Any:
            raise StoreUnavailable("disk full")

    directory = AccountsDirectory(ReadOnly(world.engine, world.turn))
    assert await directory.token(hashed(token), now=world.now()) is not None
    await directory.settle()
    assert "could not be noted" in caplog.text
