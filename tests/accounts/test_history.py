"""GET /v1/messages, and the index behind it that is filled behind the group commit (ADR-0014)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from aldis.bridge.accounts import history as history_module
from aldis.bridge.accounts.history_filling import HistoryFilling
from tests.accounts.talking import Talk
from tests.accounts.world import Caller, World, assert_problem


async def page(caller: Caller, **query: Any) -> dict[str, Any]:
    answer = await caller.world.client.get("/v1/messages", params=query, headers=caller.headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def texts(document: dict[str, Any]) -> list[str]:
    return [entry["message"]["body"] for entry in document["messages"]]


async def walk(caller: Caller, path: str) -> list[str]:
    """Everything from there on, page by page."""
    found: list[str] = []
    following: str | None = path
    while following is not None:
        answer = await caller.get(following)
        assert answer.status_code == 200, answer.text
        found += texts(answer.json())
        following = answer.json()["next"]
    return found


async def test_both_directions_by_mid(world: World, talk: Talk) -> None:
    alice, bob = await world.enter("alice", "bob")
    [first] = await talk.say("alice", "bob", "one")
    await talk.say("bob", "alice", "two")
    await talk.say("alice", "bob", "three", "four")
    for caller, peer in ((alice, "bob"), (bob, "alice")):
        assert texts(await page(caller, peer=peer)) == ["four", "three", "two", "one"]
        assert texts(await page(caller, peer=peer, after=0)) == ["one", "two", "three", "four"]
        assert texts(await page(caller, peer=peer, before=first.mid)) == []
        assert texts(await page(caller, peer=peer, after=first.mid)) == ["two", "three", "four"]
    entry = (await page(bob, peer="alice", after=0))["messages"][0]
    assert entry == {
        "mid": first.mid,
        "ts": first.created,
        "from": "alice",
        "to": "bob",
        "message": {"body": "one"},
    }


async def test_the_senders_object_is_untouched(world: World, talk: Talk) -> None:
    from aldis.broker.ports import Batch, NewMessage

    [alice] = await world.enter("alice")
    content = b'{"body": 1.0,  "big":12345678901234567890123, "from":"x","next":null, "u":"\\u00e9"}'
    await talk.store.commit(Batch([NewMessage("alice", "phone", "bob", content, 5)]))
    answer = await alice.get("/v1/messages?peer=bob")
    assert content in answer.content


async def test_only_the_two(world: World, talk: Talk) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await talk.say("alice", "bob", "secret")
    await talk.say("bob", "carol", "other")
    assert texts(await page(carol, peer="alice")) == []
    assert texts(await page(carol, peer="bob")) == ["other"]
    assert texts(await page(alice, peer="carol")) == []
    assert texts(await page(bob, peer="alice")) == ["secret"]
    assert texts(await page(alice, peer="nobody")) == []


async def test_a_note_to_oneself_and_copies_count_once(world: World, talk: Talk) -> None:
    [alice] = await world.enter("alice")
    await talk.say("alice", "alice", "note")
    await talk.say("alice", "bob", "hello", sync=True)
    assert texts(await page(alice, peer="alice")) == ["note"]
    assert texts(await page(alice, peer="bob")) == ["hello"]
    assert len(await talk.indexed()) == 2


async def test_before_a_block_and_after_the_end_of_a_friendship(world: World, talk: Talk) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    await talk.say("alice", "bob", "before")
    assert (await bob.put("/v1/blocks/alice")).status_code == 204
    for caller, peer in ((alice, "bob"), (bob, "alice")):
        assert texts(await page(caller, peer=peer)) == ["before"]
    assert (await bob.delete("/v1/friends/alice")).status_code == 204
    assert texts(await page(alice, peer="bob")) == ["before"]


async def test_system_messages_are_no_talk(world: World, talk: Talk) -> None:
    from aldis.broker.ports import Batch, Kind, NewMessage

    [alice] = await world.enter("alice")
    notice = NewMessage("$server", "", "alice", b'{"type":"x"}', 5, Kind.SYSTEM)
    await talk.store.commit(Batch([notice]))
    await talk.say("bob", "alice", "hi")
    assert texts(await page(alice, peer="bob")) == ["hi"]
    assert len(await talk.indexed()) == 1
    answer = await world.client.get("/v1/messages", params={"peer": "$server"}, headers=alice.headers)
    assert_problem(answer, 400, "invalid-request")


async def test_pages_follow_each_other_while_more_is_said(world: World, talk: Talk) -> None:
    [alice] = await world.enter("alice")
    said = [f"m{number}" for number in range(25)]
    for number, text in enumerate(said):
        await talk.say(*(("alice", "bob") if number % 3 else ("bob", "alice")), text)
    assert await walk(alice, "/v1/messages?peer=bob&limit=7") == said[::-1]
    assert await walk(alice, "/v1/messages?peer=bob&after=0&limit=7") == said
    first = await page(alice, peer="bob", limit=10)
    await talk.say("bob", "alice", "in between")
    assert texts(first) + await walk(alice, first["next"]) == said[::-1], "what comes later moves no page"
    exact = await page(alice, peer="bob", limit=26)
    assert len(exact["messages"]) == 26 and exact["next"] is None


async def test_a_page_is_bounded_in_bytes_too(world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    [alice] = await world.enter("alice")
    monkeypatch.setattr(history_module, "PAGE_BYTES", 100)
    await talk.say("alice", "bob", "a" * 60, "b" * 60, "c" * 300, "d")
    first = await page(alice, peer="bob", after=0)
    assert texts(first) == ["a" * 60]
    assert await walk(alice, "/v1/messages?peer=bob&after=0") == ["a" * 60, "b" * 60, "c" * 300, "d"]


async def test_bad_questions(world: World) -> None:
    [alice] = await world.enter("alice")
    for query in (
        "",
        "peer=",
        "peer=a%0a",
        "peer=bob&limit=0",
        "peer=bob&limit=101",
        "peer=bob&before=-1",
        "peer=bob&before=x",
        "peer=bob&after=1&before=2",
        "peer=bob&after=9007199254740992",
        "peer=bob%27%20OR%201=1",
    ):
        assert_problem(await alice.get(f"/v1/messages?{query}"), 400, "invalid-request")


async def test_what_nobody_has_filled_yet_is_found(world: World, talk: Talk) -> None:
    """Nothing was indexed before the question, everything that was needed is after it."""
    alice, *_ = await world.enter("alice")
    await talk.say("alice", "bob", "one")
    await talk.say("carol", "dave", "theirs")
    assert await talk.indexed() == []
    assert texts(await page(alice, peer="bob")) == ["one"]
    assert [row[:2] for row in await talk.indexed()] == [("alice", "bob")]
    await talk.say("bob", "alice", "two")
    assert texts(await page(alice, peer="bob")) == ["two", "one"]


async def test_a_long_way_back_is_gone_in_steps(world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    [alice] = await world.enter("alice")
    monkeypatch.setattr(history_module, "FILL_AT_ONCE", 4)
    monkeypatch.setattr(history_module, "FILL_BEFORE_READING", 2)
    said = [str(number) for number in range(20)]
    await talk.say("bob", "alice", *said)
    refused = 0
    while (answer := await alice.get("/v1/messages?peer=bob&after=0&limit=100")).status_code == 503:
        assert_problem(answer, 503, "history-behind")
        assert answer.headers["retry-after"] == "1"
        refused += 1
    assert texts(answer.json()) == said, "never a part that looks like all of it"
    assert refused == 2


async def test_filling_is_idempotent_and_many_at_once_do_no_harm(world: World, talk: Talk) -> None:
    users = ["alice", "bob", "carol"]
    chance = random.Random(7)
    expected = set()
    for number in range(40):
        sender, to = chance.sample(users, 2)
        [stored] = await talk.say(sender, to, str(number), sync=number % 4 == 0)
        expected.add((*sorted((sender, to)), stored.mid))
    filling = world.accounts.filling

    async def fill() -> None:
        while inboxes := [one for one in await filling.those_of(users) if one.behind > 0]:
            await filling.fill(inboxes, limit=7)

    await asyncio.gather(*(fill() for _ in range(4)))
    assert set(await talk.indexed()) == expected
    assert await filling.fill(await filling.those_of(users), limit=100) == 0


async def test_a_filler_that_is_late_takes_nothing_back(world: World, talk: Talk) -> None:
    filling = world.accounts.filling
    await talk.say("alice", "bob", *(str(number) for number in range(6)))
    old = await filling.those_of(["bob"])
    assert await filling.fill(old, limit=100) == 6
    assert await filling.fill(old, limit=2) == 2, "it does again what was done"
    [inbox] = await filling.those_of(["bob"])
    assert (inbox.place, inbox.behind) == (6, 0)
    assert len(await talk.indexed()) == 6


async def test_one_round_fills_every_inbox(world: World, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.accounts_api.housekeeping.INBOXES_AT_ONCE", 3)
    for number in range(8):
        await talk.say(f"user{number}", f"user{(number + 1) % 8}", "a", "b")
    step = Unhurried()
    await world.services.housekeeping.fill(step)  # type: ignore[arg-type]
    assert len(await talk.indexed()) == 16
    transactions = 0
    write = HistoryFilling._store

    async def counted(*args: Any) -> None:
        nonlocal transactions
        transactions += 1
        await write(*args)

    monkeypatch.setattr(HistoryFilling, "_store", counted)
    await world.services.housekeeping.fill(step)  # type: ignore[arg-type]
    assert transactions == 0, "a round with nothing new writes nothing"
    await talk.say("user1", "user2", *(str(number) for number in range(50)))
    await world.services.housekeeping.fill(step)  # type: ignore[arg-type]
    assert transactions == 1, "many messages, one transaction"


class Unhurried:
    """A step that nobody else wants, without pauses."""

    place = ""

    async def next(self, _place: str) -> bool:
        return True


async def test_one_process_at_a_time(world: World) -> None:
    chores = world.accounts.chores
    assert await chores.take("tea", "one", now=1_000, until=2_000) == ""
    assert await chores.take("tea", "two", now=1_500, until=2_500) is None
    assert await chores.take("tea", "one", now=1_500, until=2_500) == "", "the holder may go on"
    await chores.leave("tea", "one", place="bob", until=2_500)
    assert await chores.take("tea", "two", now=2_501, until=9_000) == "bob", "where the other has left it"
    await chores.leave("tea", "one", place="zoe")
    assert await chores.take("tea", "one", now=3_000, until=9_000) is None, "who lost it says nothing about it"
    taken = await asyncio.gather(*(chores.take("x", str(n), now=10, until=20) for n in range(6)))
    assert sorted(one is None for one in taken) == [False] + [True] * 5
