"""Promises of `Store` about retained messages of plain topics, on every back end."""

from __future__ import annotations

import asyncio

import pytest

from aldis.broker.ports import RetainedMessage, Store
from tests.contract.stores import Reopen


def kept(topic: str, payload: bytes = b"1", qos: int = 0) -> RetainedMessage:
    return RetainedMessage(f"devices/{topic}", payload, qos)


async def topics(store: Store, prefix: str = "devices/alice/") -> list[str]:
    return [message.topic.removeprefix("devices/") for message in await store.retained(prefix, limit=99)]


async def test_what_is_retained_comes_back_by_topic(store: Store) -> None:
    messages = [kept("alice/b", b"\x00\xff'\\", 2), kept("alice/a", b"{}", 1), kept("alice/", b" "), kept("bob/a")]
    await store.retain(messages)
    assert await store.retained("devices/alice/", limit=9) == [messages[2], messages[1], messages[0]]
    assert await store.retained("devices/bob/", limit=9) == [messages[3]]
    assert await store.retained("devices/carol/", limit=9) == []
    await store.retain([])


async def test_a_later_message_takes_the_place_of_the_first(store: Store) -> None:
    await store.retain([kept("alice/a", b"first", 2), kept("alice/b")])
    await store.retain([kept("alice/a", b"second", 1)])
    assert await store.retained("devices/alice/", limit=9) == [kept("alice/a", b"second", 1), kept("alice/b")]


async def test_an_empty_payload_removes(store: Store) -> None:
    await store.retain([kept("alice/a"), kept("alice/b"), kept("bob/a")])
    await store.retain([kept("alice/a", b""), kept("alice/unknown", b"")])
    assert (await topics(store), await topics(store, "devices/bob/")) == (["alice/b"], ["bob/a"])


async def test_of_several_of_one_topic_the_last_counts(store: Store) -> None:
    await store.retain([kept("alice/a", b"1"), kept("alice/b", b""), kept("alice/a", b""), kept("alice/b", b"2")])
    assert await store.retained("devices/alice/", limit=9) == [kept("alice/b", b"2")]


async def test_at_most_limit_the_first_ones(store: Store) -> None:
    await store.retain([kept(f"alice/{i}") for i in range(9, -1, -1)])
    assert [message.topic[-1] for message in await store.retained("devices/alice/", limit=3)] == ["0", "1", "2"]
    assert await store.retained("devices/alice/", limit=0) == []


async def test_a_prefix_is_taken_letter_by_letter(store: Store) -> None:
    """No wildcards, no other case, nobody whose name begins alike, and no half letter."""
    names = ["a_c/x", "abc/x", "A_c/x", "a_cd/x", "a_c/_/y", "a_c/%/y", "a_c/é/y", "a_c/e\u0301/y"]
    await store.retain([kept(name) for name in names])
    assert await topics(store, "devices/a_c/") == sorted(["a_c/x", "a_c/_/y", "a_c/%/y", "a_c/é/y", "a_c/e\u0301/y"])
    assert await topics(store, "devices/A_c/") == ["A_c/x"]
    assert await topics(store, "devices/a_c/_/") == ["a_c/_/y"]
    assert await topics(store, "devices/a_c/%/") == ["a_c/%/y"]
    assert await topics(store, "devices/a_c/é") == ["a_c/é/y"]
    assert await topics(store, "devices/a_c/x/") == []


async def test_topics_compare_byte_by_byte(store: Store) -> None:
    names = ["alice/A", "alice/a", "alice/a ", "alice/ä", "alice/a/", "alice/\U0001f56f"]
    await store.retain([kept(name, name.encode()) for name in names])
    found = await store.retained("devices/alice/", limit=9)
    assert [message.topic.removeprefix("devices/") for message in found] == sorted(names)
    assert all(message.payload.decode() in message.topic for message in found)
    await store.retain([kept("alice/a", b"")])
    assert await topics(store) == sorted({*names} - {"alice/a"})


async def test_the_longest_topics_and_payloads(store: Store) -> None:
    """MQTT allows 65,535 bytes, more than any index takes."""
    long = "alice/" + "é" * 32_763
    messages = [kept(long[:-1] + "a", b"'" * 70_000), kept(long[:-1] + "b", bytes(70_000), 1)]
    await store.retain(messages)
    assert await store.retained("devices/alice/", limit=9) == messages
    await store.retain([kept(long[:-1] + "a", b"")])
    assert await store.retained(messages[1].topic, limit=9) == messages[1:]


async def test_very_many_at_once(store: Store) -> None:
    messages = [kept(f"alice/{i:05}", b"x" * 5_000) for i in range(1_500)]
    await store.retain(messages)
    assert await store.retained("devices/alice/", limit=2_000) == messages
    await store.retain([kept(f"alice/{i:05}", b"") for i in range(1_499)])
    assert await store.retained("devices/alice/", limit=9) == messages[-1:]


@pytest.mark.parametrize("topic", ["", "devices", "devices/", "devices/alice", "devices//x", "inbox/alice/x", "/x/y/z"])
async def test_only_below_a_user(store: Store, topic: str) -> None:
    with pytest.raises(ValueError, match="retained messages are kept below"):
        await store.retain([kept("alice/a"), RetainedMessage(topic, b"x", 0)])
    with pytest.raises(ValueError, match="retained messages are kept below"):
        await store.retained(topic, limit=9)
    assert await topics(store) == []


async def test_many_write_at_the_same_time(store: Store) -> None:
    await asyncio.gather(
        *[store.retain([kept(f"alice/{(i + k) % 7}", b"%d" % i) for k in range(5)]) for i in range(30)],
        *[store.claim(f"user{i}", "phone", now=1, limit=5) for i in range(30)],
    )
    assert await topics(store) == [f"alice/{i}" for i in range(7)]


async def test_retained_messages_outlive_a_reopening(reopen: Reopen) -> None:
    store = reopen()
    await store.open()
    payload = bytearray(b"1")
    await store.retain([RetainedMessage("devices/alice/a", payload, 1)])
    payload[:] = b"2"
    await store.close()
    store = reopen()
    await store.open()
    try:
        assert await store.retained("devices/alice/", limit=9) == [kept("alice/a", b"1", 1)]
    finally:
        await store.close()
