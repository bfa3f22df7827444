"""What is let go of, and what never is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from aldis.accounts_api.housekeeping import Housekeeping
from aldis.bridge.schema import im_device, im_offline
from aldis.broker.ports import Batch, Read
from aldis.config.history import History as HistorySettings
from tests.accounts.talking import DAY, Talk
from tests.accounts.test_history import Unhurried
from tests.accounts.world import World


async def tidy(world: World, **settings: Any) -> None:
    """One round of filling and one of letting go, with these settings."""
    chosen = HistorySettings(**({"keep_days": 10, "keep_ids_days": 5, "idle_device_days": 0, "batch": 3} | settings))
    house = Housekeeping(world.accounts, world.services.broadcasting, chosen, world.now)
    await house.fill(Unhurried())  # type: ignore[arg-type]
    await house.let_go(Unhurried())  # type: ignore[arg-type]


async def items(world: World, user: str) -> list[int]:
    async with world.engine.connect() as connection:
        statement = select(im_offline.c.n).where(im_offline.c.to_user_id == user).order_by(im_offline.c.n)
        return list((await connection.scalars(statement)).all())


async def devices(world: World, user: str) -> list[str]:
    async with world.engine.connect() as connection:
        statement = select(im_device.c.device_id).where(im_device.c.user_id == user)
        return sorted((await connection.scalars(statement)).all())


async def test_old_messages_go_when_every_device_has_passed_them(world: World, talk: Talk) -> None:
    await talk.say("alice", "bob", *(f"old {number}" for number in range(8)), ago=11 * DAY)
    await talk.say("alice", "bob", "young", "newest")
    await talk.take("bob", "tablet", up_to=5)
    await talk.take("bob", "phone")
    await tidy(world)
    assert await items(world, "bob") == [6, 7, 8, 9, 10], "the tablet has not passed them"
    assert len(await talk.stored()) == len(await talk.indexed()) == 5
    await talk.take("bob", "tablet")
    await tidy(world)
    assert await items(world, "bob") == [9, 10], "the others are not old enough"
    assert [content[-8:] for content in (await talk.stored()).values()] == [b'"young"}', b'newest"}']
    assert len(await talk.indexed()) == 2


async def test_for_ever_is_the_default(world: World, talk: Talk) -> None:
    assert HistorySettings().keep_days == 0
    await talk.say("alice", "bob", "old", "older", ago=5_000 * DAY)
    await talk.take("bob")
    await tidy(world, keep_days=0)
    assert len(await talk.stored()) == 2


async def test_nothing_goes_that_nobody_has_taken(world: World, talk: Talk) -> None:
    await talk.say("alice", "bob", *"abc", ago=50 * DAY)
    await tidy(world)
    assert await items(world, "bob") == [1, 2, 3], "there is no device yet: all of it waits for the first one"
    assert len(await talk.stored()) == 3


async def test_the_newest_item_stays(world: World, talk: Talk) -> None:
    """Read receipts are lowered to it."""
    await talk.say("alice", "bob", *"abc", ago=50 * DAY)
    await talk.take("bob")
    await tidy(world)
    assert await items(world, "bob") == [3]


async def test_a_message_stays_while_one_of_its_two_items_does(world: World, talk: Talk) -> None:
    await talk.say("alice", "bob", *"abc", sync=True, ago=50 * DAY)
    await talk.say("alice", "bob", "newest", sync=True)
    await talk.take("bob")
    await talk.take("alice", "laptop", up_to=1)
    await tidy(world)
    assert (await items(world, "bob"), await items(world, "alice")) == ([4], [2, 3, 4])
    assert len(await talk.stored()) == 3, "the laptop has yet to get two"
    got = await talk.store.items("alice", after=1, limit=9)
    assert [item.content for item in got][:2] == [b'{"body": "b"}', b'{"body": "c"}']
    await talk.take("alice", "laptop")
    await tidy(world)
    assert (await items(world, "alice"), len(await talk.stored())) == ([4], 1)


async def test_what_the_history_has_not_got_does_not_go(world: World, talk: Talk) -> None:
    await talk.say("alice", "bob", *"abcd", ago=50 * DAY)
    await talk.take("bob")
    passed, last = await world.accounts.retention.inboxes(after="", limit=10)
    assert (passed, last) == ([], "bob")
    await world.accounts.filling.fill(await world.accounts.filling.those_of(["bob"]), limit=2)
    [inbox], _ = await world.accounts.retention.inboxes(after="", limit=10)
    assert inbox.floor == 2


async def test_an_id_is_remembered_for_longer_than_the_message(world: World, talk: Talk) -> None:
    first = await talk.say("alice", "bob", *"abc", ids=True, ago=11 * DAY)
    await talk.say("alice", "bob", "newest")
    await talk.take("bob")
    await tidy(world)
    assert list((await talk.stored()).values())[:3] == [b"", b"", b""], "what was said is gone"
    assert len(await talk.indexed()) == 1
    again = await talk.say("alice", "bob", "b", ids=True)
    assert (again[0].mid, again[0].repeated) == (first[1].mid, True)
    world.shift += 3 * DAY
    await tidy(world)
    assert len(await talk.stored()) == 4
    world.shift += 2 * DAY
    await tidy(world)
    assert len(await talk.stored()) == 1
    anew = await talk.say("alice", "bob", "b", ids=True)
    assert anew[0].mid > first[2].mid and not anew[0].repeated


async def test_the_inbox_goes_on_after_what_was_removed(world: World, talk: Talk) -> None:
    await talk.say("alice", "bob", *"abcde", ago=50 * DAY)
    await talk.take("bob")
    await tidy(world)
    [stored] = await talk.say("alice", "bob", "next")
    assert stored.n == 6
    claim = await talk.store.claim("bob", "phone", now=world.now(), limit=9)
    assert (claim.cursor, claim.head) == (5, 6)
    claim = await talk.store.claim("bob", "new", now=world.now(), limit=9)
    assert claim.cursor == 5
    assert [item.n for item in await talk.store.items("bob", after=0, limit=9)] == [5, 6]


async def test_what_waits_for_a_deleted_user_goes(world: World, talk: Talk) -> None:
    from aldis.bridge.schema import im_user

    await world.register("bob")
    await talk.say("alice", "bob", *"abc", ago=50 * DAY)
    async with world.engine.begin() as connection:
        await connection.execute(im_user.update().where(im_user.c.user_id == "bob").values(state=2))
    await tidy(world)
    assert await items(world, "bob") == [3]


async def test_idle_devices_go_but_for_the_furthest(world: World, talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    await talk.say("alice", "bob", *"abcd")
    long_ago = world.now() - 200 * DAY
    await talk.take("bob", "old phone", up_to=1, at=long_ago)
    await talk.take("bob", "phone", up_to=3)
    await talk.take("bob", "older phone", up_to=4, at=long_ago - DAY)
    await talk.take("carol", "only", at=long_ago)
    await tidy(world, idle_device_days=180)
    assert await devices(world, "bob") == ["older phone", "phone"], "the furthest says what bob has taken"
    assert await devices(world, "carol") == ["only"]
    assert "not seen for long" in caplog.text
    claim = await talk.store.claim("bob", "old phone", now=world.now(), limit=9)
    assert (claim.created, claim.cursor) == (True, 4)


async def test_devices_say_when_they_go_and_go_then(world: World, talk: Talk) -> None:
    [bob] = await world.enter("bob")
    object.__setattr__(world.services, "store", talk.store)  # the one that housekeeping looks at
    await talk.say("alice", "bob", *"ab")
    seen = world.now() - 100 * DAY
    await talk.take("bob", "tablet", up_to=1, at=seen)
    await talk.take("bob", "furthest", up_to=2, at=seen)
    said = {one["device_id"]: one["expires"] for one in (await bob.get("/v1/devices")).json()}
    assert said == {"phone": None, "furthest": None, "tablet": seen + 180 * DAY}
    world.shift += said["tablet"] - world.now()
    world.shift -= 60_000
    await tidy(world, idle_device_days=180)
    assert await devices(world, "bob") == ["furthest", "tablet"]
    world.shift += 120_000
    await tidy(world, idle_device_days=180)
    assert await devices(world, "bob") == ["furthest"]


async def test_who_connects_while_it_is_being_forgotten_stays(
    world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aldis.bridge.accounts import retention

    await talk.say("alice", "bob", *"ab")
    await talk.take("bob", "tablet", up_to=1, at=world.now() - 200 * DAY)
    await talk.take("bob", "phone")
    expire = retention._expire

    async def back_meanwhile(connection: Any, idle: Any) -> int:
        # a claim raises the epoch: what was read of the tablet before is no longer so
        before = [SimpleNamespace(**{**row._mapping, "epoch": row.epoch - 1}) for row in idle]
        assert [row.device_id for row in before] == ["tablet"]
        return await expire(connection, before)

    monkeypatch.setattr(retention, "_expire", back_meanwhile)
    await tidy(world, idle_device_days=180)
    assert await devices(world, "bob") == ["phone", "tablet"]


async def test_many_users_page_by_page(world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.accounts_api.housekeeping.INBOXES_AT_ONCE", 2)
    long_ago = world.now() - 200 * DAY
    users = [f"user{number}" for number in range(7)]
    for user in users:
        await talk.say("alice", user, *"abcdef", ago=50 * DAY)
        await talk.take(user, "a")
        await talk.take(user, "b", up_to=6, at=long_ago)
        await talk.take(user, "c", up_to=6, at=long_ago)
    await tidy(world, idle_device_days=180, batch=4)
    for user in users:
        assert await items(world, user) == [6]
        assert await devices(world, user) == ["a"]


async def test_read_receipts_work_after_it(world: World, talk: Talk) -> None:
    stored = await talk.say("alice", "bob", *"abc", ago=50 * DAY)
    await talk.take("bob")
    await tidy(world)
    committed = await talk.store.commit(Batch(reads=[Read("bob", "alice", 2**50)]))
    assert [state.read for state in committed.receipts] == [stored[-1].mid]
