"""Friend requests, relations with their keys, blocks, over a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from sqlalchemy import select

from aldis.bridge.accounts.master_keys import MasterKeyMissing, MasterKeys, id_of
from aldis.bridge.accounts.relation_keys import KeyDamaged, KeyWrap
from aldis.bridge.schema import im_relation, im_relation_key
from aldis.broker.ports import RelationChanged
from aldis.config.settings import Accounts as AccountsSettings
from tests.accounts.world import MASTER_KEY, Caller, World, assert_problem


async def ask(caller: Caller, to: str) -> Any:
    return await caller.post("/v1/friend-requests", {"to": to})


async def requests(caller: Caller) -> tuple[list[str], list[str]]:
    """(from whom, to whom)"""
    document = (await caller.get("/v1/friend-requests")).json()
    return [entry["from"] for entry in document["incoming"]], [entry["to"] for entry in document["outgoing"]]


async def relations(caller: Caller) -> list[dict[str, Any]]:
    answer = await caller.get("/v1/relations")
    assert answer.status_code == 200
    return answer.json()


async def friends(caller: Caller) -> list[str]:
    return [entry["user_id"] for entry in await relations(caller) if entry["state"] == "friends"]


async def test_nobody_becomes_a_friend_alone(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    answer = await ask(alice, "bob")
    assert answer.status_code == 200
    assert answer.json() == {"user_id": "bob", "state": "requested"}
    assert await requests(alice) == ([], ["bob"])
    assert await requests(bob) == (["alice"], [])
    assert await relations(alice) == await relations(bob) == []
    assert_problem(await alice.post("/v1/friend-requests/bob/accept"), 404, "no-such-request")
    assert_problem(await alice.post("/v1/friend-requests/alice/accept"), 404, "no-such-request")
    assert await world.accounts.directory.correspondents("alice") == frozenset()
    assert world.postbox.posted == [("bob", {"type": "friend_request", "from": "alice"})]

    answer = await bob.post("/v1/friend-requests/alice/accept")
    assert answer.status_code == 200
    assert answer.json() == {"user_id": "alice", "state": "friends"}
    assert await requests(alice) == await requests(bob) == ([], [])
    assert await friends(alice) == ["bob"]
    assert await friends(bob) == ["alice"]
    assert world.postbox.posted[1:] == [("alice", {"type": "friend_accepted", "user_id": "bob"})]
    assert world.bus.announced[-1] == RelationChanged("alice", "bob")
    assert await world.accounts.directory.correspondents("alice") == {"bob"}


async def test_repeating_changes_nothing_and_tells_nobody(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    for _ in range(3):
        assert (await ask(alice, "bob")).json()["state"] == "requested"
    keys = []
    for _ in range(3):
        assert (await bob.post("/v1/friend-requests/alice/accept")).json()["state"] == "friends"
        keys.append((await relations(bob))[0]["key"])
    assert (await ask(alice, "bob")).json()["state"] == "friends"
    assert (await ask(bob, "alice")).json()["state"] == "friends"
    assert keys[0] == keys[1] == keys[2] == (await relations(alice))[0]["key"]
    assert len(world.postbox.posted) == 2
    assert world.bus.announced == [RelationChanged("alice", "bob")]


async def test_the_key_is_the_same_for_both_and_for_nobody_else(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    await world.befriend(carol, alice)
    [with_bob, with_carol] = await relations(alice)
    [with_alice] = await relations(bob)
    assert with_bob["key"] == with_alice["key"]
    assert with_bob["key"].keys() == {"version", "alg", "key"}
    assert with_bob["key"]["alg"] == "A256GCM"
    assert with_bob["key"]["version"] == 1
    assert len(base64.b64decode(with_bob["key"]["key"], validate=True)) == 32
    assert with_carol["key"]["key"] != with_bob["key"]["key"]
    assert with_bob["key"]["key"] not in (await carol.get("/v1/relations")).text


async def test_the_key_is_stored_wrapped_and_bound_to_its_row(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    await world.befriend(alice, carol)
    key = base64.b64decode((await relations(bob))[0]["key"]["key"])
    async with world.engine.connect() as connection:
        row = (await connection.execute(select(im_relation_key).where(im_relation_key.c.user_id2 == "bob"))).one()
    wrap, master = KeyWrap(MasterKeys([MASTER_KEY])), row.master_id
    assert key not in row.encrypt_key and master == id_of(MASTER_KEY)
    assert wrap.open(master, row.encrypt_key, "alice", "bob", 1) == key
    for attempt in [("alice", "carol", 1), ("alice", "bob", 2), ("bob", "alice", 1)]:
        with pytest.raises(KeyDamaged):
            wrap.open(master, row.encrypt_key, *attempt)
    with pytest.raises(MasterKeyMissing, match=master):
        KeyWrap(MasterKeys([b"x" * 32])).open(master, row.encrypt_key, "alice", "bob", 1)
    for damaged in [b"", b"\x01", row.encrypt_key[:-1], b"\x02" + row.encrypt_key[1:]]:
        with pytest.raises(KeyDamaged):
            wrap.open(master, damaged, "alice", "bob", 1)


async def test_a_key_moved_to_another_row_is_not_given_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    await world.befriend(alice, carol)
    async with world.engine.begin() as connection:
        key = im_relation_key.c
        stolen = await connection.scalar(select(key.encrypt_key).where(key.user_id2 == "bob"))
        await connection.execute(im_relation_key.update().where(key.user_id2 == "carol").values(encrypt_key=stolen))
    assert_problem(await carol.get("/v1/relations"), 500, "internal")
    assert "does not open under its master key" in caplog.text


async def test_crossing_requests_make_friends(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    assert (await ask(alice, "bob")).json()["state"] == "requested"
    assert (await ask(bob, "alice")).json()["state"] == "friends"
    assert await friends(alice) == ["bob"]
    assert world.postbox.posted[-1] == ("alice", {"type": "friend_accepted", "user_id": "bob"})


async def test_requests_that_cross_at_the_same_moment_make_friends_once(world: World) -> None:
    names = [f"user{i}" for i in range(6)]
    callers = await world.enter(*names)
    pairs = [(one, other) for one in callers for other in callers if one is not other]
    answers = await asyncio.gather(*(ask(one, other.user) for one, other in pairs))
    states = [answer.json()["state"] for answer in answers]
    assert states.count("friends") == states.count("requested") == len(pairs) / 2
    for caller in callers:
        assert await friends(caller) == [name for name in names if name != caller.user]
        assert await requests(caller) == ([], [])
    keys = {entry["key"]["key"] for caller in callers for entry in await relations(caller)}
    assert len(keys) == len(pairs) / 2
    notices = [notice["type"] for _, notice in world.postbox.posted]
    assert notices.count("friend_accepted") == notices.count("friend_request") == len(pairs) / 2


async def test_whom_one_cannot_ask(world: World) -> None:
    [alice] = await world.enter("alice")
    assert_problem(await ask(alice, "alice"), 400, "not-with-oneself")
    assert_problem(await ask(alice, "nobody"), 404, "unknown-user")
    assert_problem(await ask(alice, "not a name"), 400, "invalid-request")
    assert_problem(await alice.post("/v1/friend-requests", {"to": "bob", "from": "carol"}), 400, "invalid-request")
    async with world.engine.connect() as connection:
        assert (await connection.execute(select(im_relation))).all() == []


async def test_declining(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await ask(alice, "bob")
    assert_problem(await alice.post("/v1/friend-requests/bob/decline"), 404, "no-such-request")
    answer = await bob.post("/v1/friend-requests/alice/decline")
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(await bob.post("/v1/friend-requests/alice/decline"), 404, "no-such-request")
    assert_problem(await bob.post("/v1/friend-requests/alice/accept"), 404, "no-such-request")
    assert await requests(alice) == ([], [])
    assert [notice for user, notice in world.postbox.posted if user == "alice"] == []
    assert (await ask(alice, "bob")).json()["state"] == "requested"


async def test_a_third_person_can_do_nothing(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await ask(alice, "bob")
    for path in ["/v1/friend-requests/alice/accept", "/v1/friend-requests/bob/accept"]:
        assert_problem(await carol.post(path), 404, "no-such-request")
        assert_problem(await carol.post(path.replace("accept", "decline")), 404, "no-such-request")
    assert await requests(carol) == ([], [])
    assert (await bob.post("/v1/friend-requests/alice/accept")).status_code == 200
    for peer in ["alice", "bob"]:
        assert_problem(await carol.delete(f"/v1/friends/{peer}"), 404, "not-friends")
    assert await relations(carol) == []
    assert await friends(alice) == ["bob"]


async def test_ending_a_friendship_destroys_the_key(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    old = (await relations(alice))[0]["key"]
    assert (await bob.delete("/v1/friends/alice")).status_code == 204
    assert_problem(await bob.delete("/v1/friends/alice"), 404, "not-friends")
    assert await relations(alice) == await relations(bob) == []
    assert world.postbox.posted[-1] == ("alice", {"type": "friend_removed", "user_id": "bob"})
    assert world.bus.announced[-1] == RelationChanged("alice", "bob")
    assert await world.accounts.directory.correspondents("bob") == frozenset()
    async with world.engine.connect() as connection:
        assert (await connection.execute(select(im_relation_key))).all() == []
    await world.befriend(bob, alice)
    new = (await relations(alice))[0]["key"]
    assert new["version"] == old["version"] + 1
    assert new["key"] != old["key"]


async def test_to_be_blocked_looks_like_nothing(world: World) -> None:
    alice, bob, _carol = await world.enter("alice", "bob", "carol")
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    assert (await bob.put("/v1/blocks/alice")).status_code == 204, "idempotent"
    blocked, free = await ask(alice, "bob"), await ask(alice, "carol")
    assert blocked.status_code == free.status_code
    assert blocked.json() == free.json() | {"user_id": "bob"}
    document = (await alice.get("/v1/friend-requests")).json()
    assert [entry["to"] for entry in document["outgoing"]] == ["bob", "carol"]
    assert await relations(alice) == []
    # … and has no effect.
    assert await requests(bob) == ([], [])
    assert_problem(await bob.post("/v1/friend-requests/alice/accept"), 404, "no-such-request")
    assert_problem(await bob.post("/v1/friend-requests/alice/decline"), 404, "no-such-request")
    assert [user for user, _ in world.postbox.posted] == ["carol"]
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert await requests(bob) == ([], [])
    assert await requests(alice) == ([], ["carol"])


async def test_a_request_keeps_its_time_when_its_sender_is_blocked(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await ask(alice, "bob")
    before = (await alice.get("/v1/friend-requests")).json()
    world.shift += 5_000
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    assert (await alice.get("/v1/friend-requests")).json() == before
    assert await requests(bob) == ([], [])


async def test_one_must_unblock_before_asking(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await ask(alice, "bob")
    assert (await alice.put("/v1/blocks/bob")).status_code == 204
    assert await requests(bob) == ([], []), "blocking takes one's own request back"
    assert_problem(await ask(alice, "bob"), 409, "blocked-by-you")
    assert (await alice.delete("/v1/blocks/bob")).status_code == 204
    assert_problem(await alice.delete("/v1/blocks/bob"), 404, "not-blocked")
    assert (await ask(alice, "bob")).status_code == 200


async def test_a_blocked_friendship_sleeps(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    key = (await relations(alice))[0]["key"]
    told = len(world.postbox.posted)
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    assert world.bus.announced[-1] == RelationChanged("alice", "bob")
    for user in ["alice", "bob"]:
        assert await world.accounts.directory.correspondents(user) == frozenset()
    assert (await relations(bob))[0]["state"] == "blocked"
    assert (await relations(bob))[0]["key"] == key
    assert (await relations(alice))[0]["state"] == "friends", "the blocked one is not told"
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert (await relations(bob))[0] == {
        "user_id": "alice",
        "name": "",
        "state": "friends",
        "key": key,
        "key_version": 1,
        "deleted": False,
    }
    assert await world.accounts.directory.correspondents("alice") == {"bob"}
    assert len(world.postbox.posted) == told


async def test_blocks_of_both_sides_are_apart(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    await alice.put("/v1/blocks/bob")
    await bob.put("/v1/blocks/alice")
    assert (await alice.delete("/v1/blocks/bob")).status_code == 204
    assert await world.accounts.directory.correspondents("alice") == frozenset()
    assert (await relations(bob))[0]["state"] == "blocked"
    assert (await bob.delete("/v1/blocks/alice")).status_code == 204
    assert await world.accounts.directory.correspondents("alice") == {"bob"}


async def test_a_stranger_can_be_blocked(world: World) -> None:
    alice, _ = await world.enter("alice", "bob")
    assert_problem(await alice.put("/v1/blocks/alice"), 400, "not-with-oneself")
    assert_problem(await alice.put("/v1/blocks/nobody"), 404, "unknown-user")
    assert (await alice.put("/v1/blocks/bob")).status_code == 204
    stranger = {"user_id": "bob", "name": "", "state": "blocked", "key": None, "key_version": None, "deleted": False}
    assert await relations(alice) == [stranger]


async def test_bad_names_in_paths(world: World) -> None:
    [alice] = await world.enter("alice")
    for bad in ["%0a", "a%20b", "%24server", "x" * 65, "%ff"]:
        assert_problem(await alice.delete(f"/v1/friends/{bad}"), 400, "invalid-request")
        assert_problem(await alice.put(f"/v1/blocks/{bad}"), 400, "invalid-request")
        assert_problem(await alice.post(f"/v1/friend-requests/{bad}/accept"), 400, "invalid-request")


async def test_names_and_order_of_the_lists(world: World) -> None:
    for user, name in [("zoe", "Zoë"), ("bob", "Bob")]:
        body = {"user_id": user, "password": "long enough", "name": name}
        assert (await world.client.post("/v1/users", json=body)).status_code == 201
    [alice] = await world.enter("alice")
    for user in ["zoe", "bob"]:
        await ask(alice, user)
        world.shift += 10
    outgoing = (await alice.get("/v1/friend-requests")).json()["outgoing"]
    assert [(entry["to"], entry["name"]) for entry in outgoing] == [("bob", "Bob"), ("zoe", "Zoë")], "by user id"
    assert outgoing[0]["created"] > outgoing[1]["created"]


async def test_a_notice_that_cannot_be_posted_does_not_undo_the_change(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await world.enter("alice", "bob")
    world.postbox.broken = True
    assert (await ask(alice, "bob")).status_code == 200
    assert await requests(bob) == (["alice"], [])
    assert "a notice could not be posted" in caplog.text


class TestLimits:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(max_friends=1, max_friend_requests=2, request_burst=6, request_per_minute=1)

    async def test_friends_are_bounded_on_both_sides(self, world: World) -> None:
        alice, bob, carol = await world.enter("alice", "bob", "carol")
        await world.befriend(alice, bob)
        await ask(carol, "alice")
        assert_problem(await alice.post("/v1/friend-requests/carol/accept"), 409, "limit-reached")
        assert_problem(await ask(alice, "carol"), 409, "limit-reached")
        assert await requests(alice) == (["carol"], [])

    async def test_unanswered_requests_are_bounded_in_both_directions(self, world: World) -> None:
        alice, bob, carol, _ = await world.enter("alice", "bob", "carol", "dave")
        for user in ["bob", "carol"]:
            assert (await ask(alice, user)).status_code == 200
        assert_problem(await ask(alice, "dave"), 409, "limit-reached")
        assert (await ask(bob, "dave")).status_code == 200
        assert (await ask(carol, "dave")).status_code == 200
        assert (await bob.post("/v1/friend-requests/alice/decline")).status_code == 204
        assert_problem(await ask(alice, "dave"), 409, "limit-reached")

    async def test_asking_in_a_circle_is_slowed_down(self, world: World) -> None:
        alice, _ = await world.enter("alice", "bob")
        for _ in range(6):
            assert (await ask(alice, "bob")).status_code == 200
            await alice.put("/v1/blocks/bob")
            await alice.delete("/v1/blocks/bob")
        assert_problem(await ask(alice, "bob"), 429, "too-many-attempts")
        assert len(world.postbox.posted) == 6
