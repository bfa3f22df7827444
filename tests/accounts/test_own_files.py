"""The list of one's own files: all of them once, the newest first, with what they take and may take."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from aldis.bridge.schema import im_file
from aldis.config.files import Files as FilesSettings
from tests.accounts.filing import fetch, send, stored
from tests.accounts.test_pages import by_an_index, following, listening, many, pages, plan_of
from tests.accounts.world import Caller, World, assert_problem


async def listed(caller: Caller, query: str = "") -> dict[str, Any]:
    answer = await caller.get(f"/v1/files{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_what_one_has_sent(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    empty = await listed(alice)
    assert empty == {
        "files": [],
        "next": None,
        "used": {"bytes": 0, "files": 0},
        "allowed": {"bytes": 1_073_741_824, "files": 10_000},
    }
    made = []
    for number in range(3):
        world.shift += 10
        answer = await send(alice, b"x" * (number + 1), to=["bob"], name=f"photo {number}.jpg", mime="image/jpeg")
        made.append(answer.json())
    await stored(bob, b"mine", to="alice")
    found = await listed(alice)
    assert found["files"] == made[::-1], "the newest first, and nothing that was only received"
    assert found["used"] == {"bytes": 6, "files": 3}
    assert (await alice.delete(f"/v1/files/{made[1]['file_id']}")).status_code == 204
    found = await listed(alice)
    assert [one["file_id"] for one in found["files"]] == [made[2]["file_id"], made[0]["file_id"]]
    assert found["used"] == {"bytes": 4, "files": 2}, "its room is free again"


async def test_in_pages_whatever_comes_and_goes(world: World) -> None:
    [alice] = await world.enter("alice")
    ids = []
    for number in range(7):
        ids.append(await stored(alice, b"%d" % number))
    async with world.engine.begin() as connection:
        # several in the same millisecond, over the ends of pages
        await connection.execute(update(im_file).where(im_file.c.file_id.in_(ids[:5])).values(created=5_000))
    seen: list[str] = []
    sizes = []
    async for answer in pages(alice, "/v1/files?limit=2"):
        document = answer.json()
        assert document["next"] == following(answer)
        assert document["used"]["files"] == (7 if not seen else 6), "of all, not of the page"
        if not seen:
            # the last one of this page goes, and one comes, before all others
            last = document["files"][-1]["file_id"]
            assert (await alice.delete(f"/v1/files/{last}")).status_code == 204
        seen += [one["file_id"] for one in document["files"]]
        sizes.append(len(document["files"]))
    assert sorted(seen) == sorted(ids) and sizes == [2, 2, 2, 1]
    newest = await stored(alice, b"new")
    world.shift += 5
    assert newest in [one["file_id"] for one in (await listed(alice))["files"]]


async def test_nobody_sees_another_ones(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    file_id = await stored(alice, b"a secret", to="bob")
    found = await listed(bob)
    assert found["files"] == [] and found["used"] == {"bytes": 0, "files": 0}
    row = (await listed(alice))["files"][0]
    # the place of somebody else's file is only a place
    assert (await listed(bob, f"?before={row['created'] + 1}.{file_id}"))["files"] == []


@pytest.mark.parametrize(
    "query", ["before=1", "before=x", "before=1.2", "before=-1." + "0" * 32, "limit=0", "limit=1001", "before="]
)
async def test_nonsense(world: World, query: str) -> None:
    [alice] = await world.enter("alice")
    assert_problem(await alice.get(f"/v1/files?{query}"), 400, "invalid-request")


class TestExpiry:
    @pytest.fixture
    def files(self) -> FilesSettings:
        return FilesSettings(keep_days=1, max_total_per_user=200, max_size=100, max_files_per_user=5)

    async def test_what_has_expired_is_not_listed(self, small: World) -> None:
        [alice] = await small.enter("alice")
        file_id = await stored(alice, b"for a day")
        found = await listed(alice)
        assert found["allowed"] == {"bytes": 200, "files": 5}
        assert found["files"][0]["expires"] == found["files"][0]["created"] + 86_400_000
        small.shift += 86_390_000
        alice = Caller(small, "alice", await small.tokens("alice"))
        assert len((await listed(alice))["files"]) == 1
        small.shift += 20_000
        assert (await listed(alice))["files"] == []
        assert (await fetch(alice, file_id)).status_code == 404


@pytest.mark.timeout(60)
async def test_read_by_an_index(world: World) -> None:
    await world.enter("m")
    await many(world)
    with listening(world) as sent:
        found = await world.accounts.files.mine("m", before=(2_000, "5" * 32), limit=10, now=1)
        await world.accounts.files.used("m")
    assert [one.created for one in found] == sorted((one.created for one in found), reverse=True) and len(found) == 10
    selects = [one for one in sent if one[0].startswith("SELECT")]
    assert len(selects) == 2
    for statement, parameters in selects:
        plan = await plan_of(world, statement, parameters)
        assert by_an_index(world, plan), (statement, plan)
