"""Promises of `Store` about devices, epochs and cursors, on every back end (promises 4 and 6)."""

from __future__ import annotations

import asyncio

import pytest

from aldis.broker.ports import Claim, CursorMove, Device, Store, TooManyDevices
from tests.contract.stores import chat, commit


async def test_a_claim_raises_the_epoch_by_one(store: Store) -> None:
    await commit(store, chat(), chat())
    first = await store.claim("bob", "phone", now=10, limit=5)
    assert (first.cursor, first.head, first.created) == (0, 2, True)
    assert await store.claim("bob", "phone", now=20, limit=5) == Claim(first.epoch + 1, 0, 2, False)
    assert await store.devices("bob") == [Device("bob", "phone", 0, first.epoch + 1, 20)]


async def test_only_the_current_epoch_moves_the_cursor(store: Store) -> None:
    await commit(store, *[chat() for _ in range(5)])
    old = await store.claim("bob", "phone", now=10, limit=5)
    await commit(store, moves=[CursorMove("bob", "phone", old.epoch, 1)])
    new = await store.claim("bob", "phone", now=20, limit=5)
    assert new.cursor == 1
    late = CursorMove("bob", "phone", old.epoch, 4, tag="late")
    early = CursorMove("bob", "phone", new.epoch + 1, 5)
    committed = await commit(store, moves=[late, CursorMove("bob", "phone", new.epoch, 2), early])
    assert [move is refused for move, refused in zip([late, early], committed.fenced, strict=True)] == [True, True]
    assert (await store.devices("bob"))[0].cursor == 2


async def test_a_move_of_an_unknown_device_is_fenced(store: Store) -> None:
    await store.claim("bob", "phone", now=10, limit=5)
    moves = [CursorMove("bob", "tablet", 10, 0), CursorMove("nobody", "phone", 10, 0)]
    assert (await commit(store, moves=moves)).fenced == moves


async def test_a_fenced_move_does_not_stop_the_messages_of_the_batch(store: Store) -> None:
    move = CursorMove("bob", "phone", 1, 1)
    committed = await commit(store, chat(), moves=[move])
    assert (committed.stored[0].n, committed.fenced) == (1, [move])


async def test_cursors_only_rise(store: Store) -> None:
    await commit(store, *[chat() for _ in range(5)])
    epoch = (await store.claim("bob", "phone", now=10, limit=5)).epoch
    for cursor, expected in ((3, 3), (1, 3), (0, 3), (-5, 3), (4, 4)):
        committed = await commit(store, moves=[CursorMove("bob", "phone", epoch, cursor)])
        assert committed.fenced == []
        assert (await store.devices("bob"))[0].cursor == expected


async def test_of_several_moves_in_one_batch_the_furthest_counts(store: Store) -> None:
    await commit(store, *[chat() for _ in range(5)])
    epoch = (await store.claim("bob", "phone", now=10, limit=5)).epoch
    moves = [CursorMove("bob", "phone", epoch, cursor) for cursor in (1, 4, 2)]
    assert (await commit(store, moves=moves)).fenced == []
    assert (await store.devices("bob"))[0].cursor == 4


async def test_the_cursor_never_passes_the_head(store: Store) -> None:
    epoch = (await store.claim("bob", "phone", now=10, limit=5)).epoch
    await commit(store, moves=[CursorMove("bob", "phone", epoch, 7)])
    assert (await store.devices("bob"))[0].cursor == 0
    await commit(store, chat(), chat(), moves=[CursorMove("bob", "phone", epoch, 2**70)])
    assert (await store.devices("bob"))[0].cursor == 2


async def test_a_new_device_starts_at_the_highest_cursor(store: Store) -> None:
    await commit(store, *[chat() for _ in range(5)])
    for device, cursor in (("phone", 2), ("tablet", 4)):
        epoch = (await store.claim("bob", device, now=10, limit=5)).epoch
        await commit(store, moves=[CursorMove("bob", device, epoch, cursor)])
    assert (await store.claim("bob", "watch", now=10, limit=5)).cursor == 4
    assert (await store.claim("bob", "phone", now=10, limit=5)).cursor == 2
    assert (await store.claim("carol", "phone", now=10, limit=5)).cursor == 0


async def test_too_many_devices(store: Store) -> None:
    for device in ("phone", "tablet"):
        await store.claim("bob", device, now=10, limit=2)
    with pytest.raises(TooManyDevices) as refused:
        await store.claim("bob", "watch", now=10, limit=2)
    assert refused.value.limit == 2
    assert not (await store.claim("bob", "phone", now=10, limit=2)).created
    assert (await store.claim("carol", "watch", now=10, limit=2)).created
    await store.forget_device("bob", "tablet")
    assert (await store.claim("bob", "watch", now=10, limit=2)).created


async def test_the_limit_holds_when_many_come_at_once(store: Store) -> None:
    claims = [store.claim("bob", f"d{i}", now=10, limit=3) for i in range(8)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(result, Claim) for result in results) == 3
    assert sum(isinstance(result, TooManyDevices) for result in results) == 5
    assert len(await store.devices("bob")) == 3


async def test_claims_of_one_device_at_once_get_different_epochs(store: Store) -> None:
    claims = await asyncio.gather(*[store.claim("bob", "phone", now=10, limit=3) for _ in range(10)])
    epochs = sorted(claim.epoch for claim in claims)
    assert epochs == list(range(epochs[0], epochs[0] + 10))
    assert sum(claim.created for claim in claims) == 1
    assert (await store.devices("bob"))[0].epoch == epochs[-1]


async def test_release_notes_when_the_device_was_last_heard(store: Store) -> None:
    old = await store.claim("bob", "phone", now=10, limit=5)
    await store.release("bob", "phone", epoch=old.epoch, last_seen=50)
    assert (await store.devices("bob"))[0].last_seen == 50
    await store.claim("bob", "phone", now=60, limit=5)
    await store.release("bob", "phone", epoch=old.epoch, last_seen=70)
    await store.release("bob", "tablet", epoch=old.epoch, last_seen=70)
    assert [(device.device, device.last_seen) for device in await store.devices("bob")] == [("phone", 60)]


async def test_devices_are_listed_by_id(store: Store) -> None:
    for device in ("b", "a", "C", "é"):
        await store.claim("bob", device, now=10, limit=5)
    await store.claim("carol", "z", now=10, limit=5)
    assert [device.device for device in await store.devices("bob")] == ["C", "a", "b", "é"]
    assert await store.devices("nobody") == []


async def test_forget_device(store: Store) -> None:
    await commit(store, chat(), chat())
    epoch = (await store.claim("bob", "phone", now=10, limit=5)).epoch
    await commit(store, moves=[CursorMove("bob", "phone", epoch, 1)])
    assert await store.forget_device("bob", "phone") is True
    assert await store.forget_device("bob", "phone") is False
    assert await store.devices("bob") == []
    move = CursorMove("bob", "phone", epoch, 2)
    assert (await commit(store, moves=[move])).fenced == [move]
    again = await store.claim("bob", "phone", now=20, limit=5)
    assert (again.created, again.cursor, again.head) == (True, 0, 2)


async def test_a_forgotten_device_does_not_come_back_under_an_old_epoch(store: Store) -> None:
    await commit(store, chat(), chat())
    old = [await store.claim("bob", "phone", now=1_000 + i, limit=5) for i in range(3)]
    await store.forget_device("bob", "phone")
    again = await store.claim("bob", "phone", now=2_000, limit=5)
    late = [CursorMove("bob", "phone", claim.epoch, 2) for claim in old]
    assert (await commit(store, moves=late)).fenced == late
    assert (await store.devices("bob"))[0].cursor == 0
    assert again.epoch not in [claim.epoch for claim in old]


async def test_a_forgotten_device_counts_anew(store: Store) -> None:
    """ADR-0003: removing a device removes its rows."""
    await store.claim("alice", "phone", now=10, limit=5)
    await commit(store, chat(seq=4), chat(seq=7, to="carol"), chat(seq=3, device="tablet"), chat(seq=2, sender="dan"))
    assert await store.forget_device("alice", "phone")
    assert [await store.last_seq("alice", "phone", recipient) for recipient in ("bob", "carol")] == [0, 0]
    assert await store.last_seq("alice", "tablet", "bob") == 3
    assert await store.last_seq("dan", "phone", "bob") == 2
    (first,) = (await commit(store, chat(seq=1))).stored
    assert (first.n, first.repeated) == (4, False)
