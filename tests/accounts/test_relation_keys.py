"""Versions of relation keys: made anew, kept, given to the two members and to nobody else."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import pytest
from sqlalchemy import select

from aldis.bridge.schema import im_relation_key
from aldis.config.relation_keys import RelationKeys
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import MASTER_KEY, Caller, World, assert_problem


async def keys(caller: Caller, peer: str, query: str = "") -> dict[str, Any]:
    answer = await caller.get(f"/v1/relations/{peer}/keys{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def rotate(caller: Caller, peer: str, query: str = "") -> dict[str, Any]:
    answer = await caller.post(f"/v1/relations/{peer}/rotate-key{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_rotation_makes_a_version_and_keeps_the_old_ones(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    first = (await keys(alice, "bob"))["keys"]
    told = len(world.postbox.posted)
    made = await rotate(alice, "bob")
    assert [one["version"] for one in made["keys"]] == [2] and made["newest"] == 2 and made["mode"] == "server"
    after = await keys(bob, "alice")
    assert after["keys"] == first + made["keys"]
    assert len({one["key"] for one in after["keys"]}) == 2
    assert all(len(base64.b64decode(one["key"])) == 32 for one in after["keys"])
    assert (await keys(alice, "bob"))["keys"] == after["keys"]
    listed = (await bob.get("/v1/relations")).json()[0]
    assert listed["key"] == {"version": 2, "alg": "A256GCM", "key": made["keys"][0]["key"]}
    assert listed["key_version"] == 2
    notice = {"type": "key_rotated", "version": 2, "kind": "server"}
    assert world.postbox.posted[told:] == [
        ("alice", {**notice, "user_id": "bob"}),
        ("bob", {**notice, "user_id": "alice"}),
    ]


async def test_the_versions_asked_for(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    for _ in range(3):
        await rotate(bob, "alice")
    found = await keys(alice, "bob", "?version=3&version=1")
    assert [one["version"] for one in found["keys"]] == [1, 3] and found["newest"] == 4
    assert_problem(await alice.get("/v1/relations/bob/keys?version=5"), 404, "unknown-version")
    for bad in ["0x1", "", "1.5", "x"]:
        assert_problem(await alice.get(f"/v1/relations/bob/keys?version={bad}"), 400, "invalid-request")
    many = "&".join(f"version={number}" for number in range(201))
    assert_problem(await alice.get(f"/v1/relations/bob/keys?{many}"), 400, "invalid-request")


async def test_a_rotation_may_be_repeated_and_crossed(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    made = await rotate(alice, "bob", "?after=1")
    assert await rotate(alice, "bob", "?after=1") == made
    assert (await rotate(bob, "alice", "?after=1"))["keys"] == made["keys"]
    crossing = await asyncio.gather(
        *(rotate(one, peer, "?after=2") for one, peer in [(alice, "bob"), (bob, "alice")] * 3)
    )
    assert {answer["newest"] for answer in crossing} == {3}
    assert len({answer["keys"][0]["key"] for answer in crossing}) == 1
    freely = await asyncio.gather(*(rotate(one, peer) for one, peer in [(alice, "bob"), (bob, "alice")] * 3))
    assert max(answer["newest"] for answer in freely) == 9
    assert [one["version"] for one in (await keys(bob, "alice"))["keys"]] == list(range(1, 10))


async def test_strangers_and_former_friends_get_no_key(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    await rotate(alice, "bob")
    old = (await keys(alice, "bob"))["keys"]
    await carol.post("/v1/friend-requests", {"to": "alice"})
    for peer in ["alice", "bob", "carol", "nobody"]:
        assert_problem(await carol.get(f"/v1/relations/{peer}/keys"), 404, "not-friends")
        assert_problem(await carol.post(f"/v1/relations/{peer}/rotate-key"), 404, "not-friends")
    assert (await bob.delete("/v1/friends/alice")).status_code == 204
    for one, peer in [(alice, "bob"), (bob, "alice")]:
        assert_problem(await one.get(f"/v1/relations/{peer}/keys"), 404, "not-friends")
        assert_problem(await one.get(f"/v1/relations/{peer}/keys?version=1"), 404, "not-friends")
        assert_problem(await one.post(f"/v1/relations/{peer}/rotate-key"), 404, "not-friends")
    async with world.engine.connect() as connection:
        assert (await connection.execute(select(im_relation_key))).all() == [], "destroyed, not hidden"
    await world.befriend(alice, bob)
    (new,) = (await keys(bob, "alice"))["keys"]
    assert new["version"] == 3 and new["key"] not in {one["key"] for one in old}


async def test_who_is_blocked_gets_none_of_the_new_versions(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    before, told = await keys(alice, "bob"), len(world.postbox.posted)
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    # alice is answered as a message of hers would be; bob has to decide
    assert_problem(await alice.post("/v1/relations/bob/rotate-key"), 404, "not-friends")
    assert_problem(await bob.post("/v1/relations/alice/rotate-key"), 409, "blocked-by-you")
    assert await keys(alice, "bob") == before, "what alice had, to read old messages; and no version more"
    assert len(world.postbox.posted) == told
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert (await rotate(bob, "alice"))["newest"] == 2


async def test_a_version_moved_in_the_database_is_not_given_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The version is bound in: an old key cannot be passed off as the newest one."""
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    await rotate(alice, "bob")
    key = im_relation_key.c
    async with world.engine.begin() as connection:
        old = await connection.scalar(select(key.encrypt_key).where(key.version == 1))
        await connection.execute(im_relation_key.update().where(key.version == 2).values(encrypt_key=old))
    assert_problem(await alice.get("/v1/relations"), 500, "internal")
    assert_problem(await alice.get("/v1/relations/bob/keys"), 500, "internal")
    assert "version 2 of the key of alice and bob does not open" in caplog.text
    assert base64.b64encode(old or b"").decode() not in caplog.text


async def test_a_key_under_a_master_key_that_we_lack_is_not_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    async with world.engine.begin() as connection:
        await connection.execute(im_relation_key.update().values(master_id="0123456789abcdef"))
    answer = await alice.get("/v1/relations")
    assert_problem(answer, 503, "unavailable")
    assert "0123456789abcdef" not in answer.text
    assert "master key 0123456789abcdef" in caplog.text


async def test_no_key_reaches_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for logger in ["", "aldis", "sqlalchemy", "litestar", "uvicorn"]:
        caplog.set_level(logging.DEBUG, logger=logger)
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    await rotate(alice, "bob")
    found = await keys(bob, "alice")
    world.postbox.broken = True
    await rotate(bob, "alice")
    assert "a notice could not be posted" in caplog.text
    async with world.engine.begin() as connection:
        await connection.execute(im_relation_key.update().values(encrypt_key=b"\x01damaged" * 5))
    assert_problem(await alice.get("/v1/relations/bob/keys"), 500, "internal")
    async with world.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE im_relation_key RENAME TO elsewhere")
    assert (await alice.post("/v1/relations/bob/rotate-key")).status_code in (500, 503)
    text = "".join(f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records)
    for one in found["keys"]:
        raw = base64.b64decode(one["key"])
        for form in (one["key"], raw.hex(), repr(raw)[2:-1]):
            assert form not in text
    assert MASTER_KEY.decode() not in text
    assert "damaged" not in text


class TestLimits:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(keys=RelationKeys(max_versions=3, burst=4, per_minute=1, max_devices=2))

    async def test_versions_and_their_rate_are_bounded(self, world: World) -> None:
        alice, bob, carol = await world.enter("alice", "bob", "carol")
        await world.befriend(alice, bob)
        await world.befriend(alice, carol)
        await rotate(alice, "bob")
        await rotate(alice, "bob")
        assert_problem(await alice.post("/v1/relations/bob/rotate-key"), 409, "limit-reached")
        assert_problem(await alice.post("/v1/relations/bob/rotate-key"), 409, "limit-reached")
        slowed = await alice.post("/v1/relations/bob/rotate-key")
        assert_problem(slowed, 429, "too-many-attempts")
        assert 0 < int(slowed.headers["retry-after"]) <= 60
        await rotate(alice, "carol")
        assert_problem(await bob.post("/v1/relations/alice/rotate-key"), 409, "limit-reached")
        assert [one["version"] for one in (await keys(bob, "alice"))["keys"]] == [1, 2, 3]
