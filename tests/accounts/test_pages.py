"""Lists in pages: everything once, whatever comes and goes meanwhile, read from an index and no further than asked."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert

from aldis.accounts_api.paging import DEFAULT, MOST
from aldis.bridge.accounts.records import RelationState
from aldis.bridge.schema import im_file, im_relation, im_token, im_user
from tests.accounts.world import Caller, World, assert_problem

FRIENDS, ASKED_BY_1, ASKED_BY_2 = RelationState.FRIENDS, RelationState.ASKED_BY_1, RelationState.ASKED_BY_2


async def crowd(world: World, count: int, *, state: int = FRIENDS, me: str = "m") -> list[str]:
    """So many users around `me`, about half with smaller ids, each in this state with `me`; in the order of ids."""
    users = sorted(f"{letter}{number}" for number in range(count) for letter in ("c" if number % 2 else "q",))
    names = [{"user_id": user, "name": user.upper(), "password_hash": "!", "state": 1, "created": 1} for user in users]
    rows = [
        {"user_id1": min(user, me), "user_id2": max(user, me), "state": state, "blocked": 0, "key_version": 0}
        | {"created": number, "updated": number}
        for number, user in enumerate(users)
    ]
    async with world.engine.begin() as connection:
        await connection.execute(insert(im_user), names)
        await connection.execute(insert(im_relation), rows)
    return users


def following(answer: Any) -> str | None:
    link = answer.headers.get("link")
    if link is None:
        return None
    assert link.startswith("<") and link.endswith('>; rel="next"')
    return link[1:].partition(">")[0]


async def pages(caller: Caller, path: str) -> AsyncIterator[Any]:
    """Each page, by following Link."""
    rest: str | None = path
    while rest is not None:
        answer = await caller.get(rest)
        assert answer.status_code == 200, answer.text
        yield answer
        rest = following(answer)


async def test_friends_in_pages(world: World) -> None:
    [me] = await world.enter("m")
    users = await crowd(world, 23)
    found: list[str] = []
    sizes = []
    async for answer in pages(me, "/v1/relations?limit=5"):
        found += [entry["user_id"] for entry in answer.json()]
        sizes.append(len(answer.json()))
    assert found == users and sizes == [5, 5, 5, 5, 3]
    whole = await me.get("/v1/relations")
    assert [entry["user_id"] for entry in whole.json()] == users and "link" not in whole.headers
    exact = await me.get("/v1/relations?limit=23")
    assert len(exact.json()) == 23 and "link" not in exact.headers, "no empty page at the end"


async def test_what_comes_and_goes_moves_no_other_entry(world: World) -> None:
    [me] = await world.enter("m")
    users = await crowd(world, 16)
    seen: list[str] = []
    steps = 0
    async for answer in pages(me, "/v1/relations?limit=4"):
        seen += [entry["user_id"] for entry in answer.json()]
        steps += 1
        if steps == 1:
            # the last one of this page goes, and so does one that was seen; one comes before and one behind
            assert (await me.delete(f"/v1/friends/{seen[-1]}")).status_code == 204
            assert (await me.delete(f"/v1/friends/{seen[0]}")).status_code == 204
            await world.register("a-new-one", "z-new-one")
            for new in ("a-new-one", "z-new-one"):
                await world.befriend(me, Caller(world, new, await world.tokens(new)))
    assert seen == [*users, "z-new-one"], "each one that stood all the time is there once"


async def test_only_what_is_mine_to_see_fills_a_page(world: World) -> None:
    """Neither the requests and ended friendships in between, nor the block of the other side, make a page shorter."""
    [me, other] = await world.enter("m", "p")
    await crowd(world, 12, state=RelationState.NONE)
    assert (await me.put("/v1/blocks/p")).status_code == 204
    assert (await other.put("/v1/blocks/m")).status_code == 204
    answer = await me.get("/v1/relations?limit=1")
    assert [(entry["user_id"], entry["state"]) for entry in answer.json()] == [("p", "blocked")]
    assert "link" not in answer.headers
    assert [entry["state"] for entry in (await other.get("/v1/relations")).json()] == ["blocked"]


async def test_requests_in_pages(world: World) -> None:
    [me] = await world.enter("m")
    users = await crowd(world, 9, state=ASKED_BY_1)
    # the smaller id has asked: me, where the other's is greater
    incoming = [user for user in users if user < "m"]
    outgoing = [user for user in users if user > "m"]
    assert incoming and outgoing
    assert (await me.put(f"/v1/blocks/{incoming[0]}")).status_code == 204
    found: tuple[list[str], list[str]] = ([], [])
    async for answer in pages(me, "/v1/friend-requests?limit=2"):
        document = answer.json()
        assert document["next"] == following(answer)
        assert len(document["incoming"]) + len(document["outgoing"]) <= 2
        found[0].extend(entry["from"] for entry in document["incoming"])
        found[1].extend(entry["to"] for entry in document["outgoing"])
    assert found == (incoming[1:], outgoing), "a request of somebody I have blocked is not shown"
    last = await me.get(f"/v1/friend-requests?limit={len(users) - 1}")
    assert last.json()["next"] is None


@pytest.mark.parametrize("path", ["/v1/relations", "/v1/friend-requests", "/v1/devices", "/v1/tokens"])
async def test_bounds_of_a_page(world: World, path: str) -> None:
    [me] = await world.enter("m")
    for wrong in ("limit=0", f"limit={MOST + 1}", "limit=x", "limit=-1", f"after={'x' * 129}"):
        assert_problem(await me.get(f"{path}?{wrong}"), 400, "invalid-request")
    assert (await me.get(f"{path}?limit={MOST}&after=")).status_code == 200


async def test_a_long_list_comes_in_pages_unasked(world: World) -> None:
    [me] = await world.enter("m")
    users = await crowd(world, DEFAULT + 1)
    sizes = [len(answer.json()) async for answer in pages(me, "/v1/relations")]
    assert sizes == [DEFAULT, 1] and len(users) == sum(sizes)


async def test_each_page_has_a_tag_of_its_own(world: World) -> None:
    [me] = await world.enter("m")
    users = await crowd(world, 4)
    first, second = [answer async for answer in pages(me, "/v1/relations?limit=2")]
    tags = [answer.headers["etag"] for answer in (first, second)]
    assert len(set(tags)) == 2
    page, rest = "/v1/relations?limit=2", following(first)
    assert rest is not None

    async def ask(path: str, known: str) -> Any:
        return await world.client.get(path, headers=me.headers | {"If-None-Match": known})

    assert [(await ask(page, tags[0])).status_code, (await ask(rest, tags[1])).status_code] == [304, 304]
    assert following(await ask(page, tags[0])) == rest, "whoever has the page still finds the next one"
    assert (await me.delete(f"/v1/friends/{users[-1]}")).status_code == 204
    assert (await ask(page, tags[0])).status_code == 304, "the first page is as it was"
    changed = await ask(rest, tags[1])
    assert changed.status_code == 200 and len(changed.json()) == 1
    # the same entries, but now there is a page behind them: that is another answer
    last = await me.get(f"/v1/relations?limit=1&after={users[1]}")
    assert following(last) is None
    await world.register("zz")
    await world.befriend(me, Caller(world, "zz", await world.tokens("zz")))
    again = await ask(f"/v1/relations?limit=1&after={users[1]}", last.headers["etag"])
    assert (again.status_code, again.json()) == (200, last.json()) and following(again) is not None


@contextmanager
def listening(world: World) -> Any:
    """The statements that are sent, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def before(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(world.engine.sync_engine, "before_cursor_execute", before)
    try:
        yield sent
    finally:
        event.remove(world.engine.sync_engine, "before_cursor_execute", before)


async def plan_of(world: World, statement: str, parameters: Any) -> list[Any]:
    explain = "EXPLAIN QUERY PLAN" if world.engine.dialect.name == "sqlite" else "EXPLAIN"
    async with world.engine.connect() as connection:
        return list((await connection.exec_driver_sql(f"{explain} {statement}", parameters)).mappings())


def by_an_index(world: World, plan: list[Any]) -> bool:
    """No table is read from its beginning, and nothing is sorted."""
    if world.engine.dialect.name == "sqlite":
        return not any(step["detail"].startswith("SCAN") or "TEMP B-TREE" in step["detail"] for step in plan)
    good = all(step["type"] in ("const", "eq_ref", "ref", "range") and step["key"] for step in plan)
    return good and not any(
        "filesort" in (step["Extra"] or "") or "temporary" in (step["Extra"] or "") for step in plan
    )


async def many(world: World) -> None:
    """Among many others: a planner reads small tables from their beginning."""
    await crowd(world, 200)
    shuffled = random.Random(7)
    relations, files, tokens = [], [], []
    for number in range(3_000):
        one, other = f"x{number}", f"y{shuffled.randrange(10_000)}"
        relations.append(
            {"user_id1": one, "user_id2": other, "state": 3, "blocked": 0, "key_version": 0, "created": 1, "updated": 1}
        )
        owner = "m" if number % 5 == 0 else f"q{number % 100 * 2}"
        files.append(
            {"file_id": f"{shuffled.getrandbits(128):032x}", "owner": owner, "name": "n", "mime": "a/b", "size": 1}
            | {"hash": b"h" * 32, "state": 1, "created": number, "expires": None}
        )
        tokens.append(
            {"token_id": f"t{number:05}", "hash": b"%032d" % number, "user_id": f"q{number % 100 * 2}"}
            | {"device_id": "d", "name": "n", "created": number}
        )
    async with world.engine.begin() as connection:
        await connection.execute(insert(im_relation), relations)
        await connection.execute(insert(im_file), files)
        await connection.execute(insert(im_token), tokens)
    if world.engine.dialect.name != "sqlite":
        async with world.engine.connect() as connection:
            for table in ("im_relation", "im_user", "im_file", "im_token", "im_relation_key"):
                await connection.exec_driver_sql(f"ANALYZE TABLE {table}")


READING: dict[str, Callable[[World], Awaitable[Any]]] = {
    "relations": lambda world: world.accounts.lists.relations("m", after="c7", limit=51),
    "requests": lambda world: world.accounts.lists.requests("m", after="c7", limit=51),
    "correspondents": lambda world: world.accounts.directory.correspondents("m"),
    "tokens": lambda world: world.accounts.tokens.of("q2", now=1),
    "names": lambda world: world.accounts.device_names.of("q2"),
    "sessions": lambda world: world.accounts.sessions.alive("q2", now=1),
}


@pytest.mark.timeout(60)
async def test_lists_are_read_by_an_index(world: World) -> None:
    [_me] = await world.enter("m")
    await many(world)
    for name, read in READING.items():
        with listening(world) as sent:
            await read(world)
        selects = [one for one in sent if one[0].lstrip().upper().startswith("SELECT")]
        assert selects, name
        for statement, parameters in selects:
            plan = await plan_of(world, statement, parameters)
            sorted_in_memory = name == "tokens"  # at most a hundred, by age
            if sorted_in_memory and world.engine.dialect.name == "sqlite":
                plan = [step for step in plan if "TEMP B-TREE" not in step["detail"]]
            elif sorted_in_memory:
                plan = [dict(step) | {"Extra": ""} for step in plan]
            assert by_an_index(world, plan), (name, statement, plan)
    # and the reader of plans sees it where there is no index
    bad = "SELECT peer.name FROM im_user AS peer WHERE peer.name = 'x' ORDER BY peer.created"
    assert not by_an_index(world, await plan_of(world, bad, ()))
