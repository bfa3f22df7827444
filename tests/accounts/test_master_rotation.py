"""The master key is exchanged while members go on reading and making keys: nothing lost, nothing skipped."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import select, update

from aldis.bridge.accounts.key_versions import KeyVersions
from aldis.bridge.accounts.master_keys import MasterKeyMissing, MasterKeys, id_of
from aldis.bridge.accounts.master_rotation import MasterRotation
from aldis.bridge.accounts.relation_keys import KeyWrap
from aldis.bridge.schema import im_master_key, im_relation_key
from aldis.broker.ports import StoreUnavailable
from tests.accounts.world import MASTER_KEY, Caller, World, assert_problem

NEW_KEY = b"n" * 32
OLD, NEW = id_of(MASTER_KEY), id_of(NEW_KEY)


async def all_keys(caller: Caller) -> dict[tuple[str, int], str]:
    """By friend and version."""
    found = {}
    for relation in (await caller.get("/v1/relations")).json():
        answer = await caller.get(f"/v1/relations/{relation['user_id']}/keys")
        assert answer.status_code == 200, answer.text
        found |= {(relation["user_id"], one["version"]): one["key"] for one in answer.json()["keys"]}
    return found


async def under(world: World) -> dict[str, int]:
    """How many keys there are under each master key."""
    async with world.engine.connect() as connection:
        ids = (await connection.scalars(select(im_relation_key.c.master_id))).all()
    return {one: list(ids).count(one) for one in set(ids)}


def rotation(world: World, *keys: bytes) -> MasterRotation:
    return MasterRotation(world.database, MasterKeys(keys or [MASTER_KEY, NEW_KEY]))


def give(world: World, key: bytes) -> None:
    """The running server finds this one, too, when it next looks."""
    masters = world.accounts.relations._keys.wrap.masters
    masters._again = lambda: [MASTER_KEY, key]


@pytest.fixture
async def alice(world: World) -> Caller:
    """With two friends and five versions in all."""
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    for one in (bob, carol):
        await world.befriend(alice, one)
    for peer in ("bob", "bob", "carol"):
        assert (await alice.post(f"/v1/relations/{peer}/rotate-key")).status_code == 200
    return alice


async def test_in_bounded_batches_with_the_server_running(world: World, alice: Caller) -> None:
    before = await all_keys(alice)
    assert len(before) == 5 and await under(world) == {OLD: 5}
    give(world, NEW_KEY)
    work = rotation(world)
    await work.begin(NEW, now=1)
    # from here on nothing is wrapped under the old one any more, although the server has not looked at its file yet
    assert (await alice.post("/v1/relations/bob/rotate-key")).status_code == 200
    assert await under(world) == {OLD: 5, NEW: 1}
    done, damaged, place = await work.rewrap(NEW, limit=2)
    assert (done, damaged) == (2, []) and place is not None
    assert await under(world) == {OLD: 3, NEW: 3}
    assert before.items() <= (await all_keys(alice)).items(), "both open, meanwhile"
    # interrupted here, and begun again from nothing
    again = rotation(world)
    await again.begin(NEW, now=2)
    done, damaged, place = await again.rewrap(NEW, limit=100)
    assert (done, damaged, place) == (3, [], None)
    assert await under(world) == {NEW: 6}
    assert before.items() <= (await all_keys(alice)).items()
    assert await again.rewrap(NEW, limit=100) == (0, [], None)


async def test_what_is_made_meanwhile_is_never_under_the_old_one(world: World, alice: Caller) -> None:
    """Versions are made in a circle while the master key changes hands; after `begin` has returned none is old."""
    give(world, NEW_KEY)
    work, stop = rotation(world), asyncio.Event()

    async def make(peer: str) -> None:
        while not stop.is_set():
            assert (await alice.post(f"/v1/relations/{peer}/rotate-key")).status_code in (200, 429)

    making = [asyncio.create_task(make(peer)) for peer in ("bob", "carol")]
    await asyncio.sleep(0.05)
    await work.begin(NEW, now=1)
    old = (await under(world)).get(OLD, 0)
    for _ in range(20):
        await alice.post("/v1/relations/bob/rotate-key")
    stop.set()
    await asyncio.gather(*making)
    assert (await under(world)).get(OLD, 0) == old
    await work.rewrap(NEW, limit=1_000)
    assert set(await under(world)) == {NEW}


async def test_an_old_one_is_forgotten_only_when_it_wraps_nothing(world: World, alice: Caller) -> None:
    work = rotation(world)
    assert not await work.forget(OLD)
    await work.begin(NEW, now=1)
    await work.rewrap(NEW, limit=4)
    assert not await work.forget(OLD)
    assert not await work.forget(NEW), "it wraps"
    await work.rewrap(NEW, limit=4)
    assert await work.forget(OLD)
    assert [(one.master_id, one.wraps, one.wrapped) for one in await rotation(world, NEW_KEY).entries()] == [
        (NEW, True, 5)
    ]


async def test_what_does_not_open_is_left_as_it_is(world: World, alice: Caller) -> None:
    key = im_relation_key.c
    async with world.engine.begin() as connection:
        bad = (key.user_id2 == "bob") & (key.version == 2)
        await connection.execute(update(im_relation_key).where(bad).values(encrypt_key=b"\x01" + bytes(60)))
    work = rotation(world)
    await work.begin(NEW, now=1)
    done, damaged, _ = await work.rewrap(NEW, limit=100)
    assert (done, damaged) == (4, [("alice", "bob", 2)])
    async with world.engine.connect() as connection:
        row = (await connection.execute(select(im_relation_key).where(bad))).one()
    assert (row.encrypt_key, row.master_id) == (b"\x01" + bytes(60), OLD)


async def test_a_wrong_master_key_changes_nothing(world: World, alice: Caller) -> None:
    before = await all_keys(alice)
    wrong = rotation(world, b"w" * 32, NEW_KEY)
    with pytest.raises(MasterKeyMissing, match=OLD) as refused:
        await wrong.begin(NEW, now=1)
    assert "w" * 8 not in str(refused.value)
    with pytest.raises(MasterKeyMissing):
        await rotation(world, MASTER_KEY).begin(NEW, now=1)
    async with world.engine.connect() as connection:
        rows = (await connection.execute(select(im_master_key.c.master_id, im_master_key.c.state))).all()
    assert [tuple(row) for row in rows] == [(OLD, 1)]
    assert await all_keys(alice) == before and await under(world) == {OLD: 5}


async def test_keys_from_before_ids(world: World, alice: Caller) -> None:
    """As the migration leaves them: the id is empty, and nobody has registered a master key."""
    before = await all_keys(alice)
    async with world.engine.begin() as connection:
        await connection.execute(update(im_relation_key).values(master_id=""))
        await connection.execute(im_master_key.delete())
    await world.accounts.check_master_keys()
    assert await all_keys(alice) == before
    strange = KeyVersions(world.database, KeyWrap(MasterKeys([NEW_KEY])))
    with pytest.raises(StoreUnavailable, match=NEW):
        await strange.check_masters()
    work = rotation(world)
    assert not await work.forget(OLD)
    await work.begin(NEW, now=1)
    assert (await work.rewrap(NEW, limit=100))[0] == 5
    give(world, NEW_KEY)
    assert await all_keys(alice) == before


async def test_the_check_at_start_wants_every_key_that_is_in_use(world: World, alice: Caller) -> None:
    await world.accounts.check_master_keys()
    work = rotation(world)
    await work.begin(NEW, now=1)
    with pytest.raises(MasterKeyMissing, match=NEW):
        await world.accounts.check_master_keys()
    with pytest.raises(MasterKeyMissing, match=OLD):
        await KeyVersions(world.database, KeyWrap(MasterKeys([NEW_KEY]))).check_masters()
    await KeyVersions(world.database, KeyWrap(MasterKeys([NEW_KEY, MASTER_KEY]))).check_masters()
    assert_problem(await alice.post("/v1/relations/bob/rotate-key"), 503, "unavailable")


async def test_a_missing_key_is_looked_for_at_most_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Any] = []
    masters = MasterKeys([MASTER_KEY], lambda: asked.append(1) or [])
    for _ in range(50):
        with pytest.raises(MasterKeyMissing):
            masters.cipher(NEW)
    assert len(asked) == 1
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
    assert "MasterKeys(" + OLD + ")" == repr(masters)
    assert len(OLD) == 16 and OLD.encode() not in MASTER_KEY.hex().encode()
