"""Promises of `Store` to a node that asks about many users at once, on every back end."""

from __future__ import annotations

import time

from aldis.broker.ports import Delivered, Position, Read, ReceiptState, Store
from tests.contract.stores import chat, commit


def now() -> int:
    return time.time_ns() // 1_000_000


async def test_positions_of_everybody_asked_for(store: Store) -> None:
    await commit(store, chat(), chat(), chat(to="carol"))
    phone = await store.claim("bob", "phone", now=10, limit=5)
    tablet = await store.claim("bob", "tablet", now=20, limit=5)
    await store.claim("Bob", "phone", now=30, limit=5)
    positions = await store.positions(["carol", "bob", "nobody", "bob"])
    assert positions == {
        "carol": Position(1, {}),
        "bob": Position(2, {"phone": phone.epoch, "tablet": tablet.epoch}),
        "nobody": Position(0, {}),
    }
    again = await store.claim("bob", "phone", now=40, limit=5)
    await store.forget_device("bob", "tablet")
    await commit(store, chat())
    assert await store.positions(["bob"]) == {"bob": Position(3, {"phone": again.epoch})}
    assert await store.positions([]) == {}


async def test_positions_of_very_many(store: Store) -> None:
    users = [f"user{i}" for i in range(1_200)]
    await commit(store, *[chat(to=user) for user in users[::2]])
    for user in users[::400]:
        await store.claim(user, "phone", now=10, limit=5)
    positions = await store.positions(users)
    assert list(positions) == users
    assert [position.head for position in positions.values()] == [1, 0] * 600
    assert [user for user, position in positions.items() if position.epochs] == users[::400]


async def test_receipts_changed_since(store: Store) -> None:
    began = now()
    mids = [stored.mid for stored in (await commit(store, chat(), chat(), chat(sender="dan"))).stored]
    assert await store.receipt_changes(["alice", "dan"], since=0) == []
    await commit(store, delivered=[Delivered("bob", "alice", mids[1]), Delivered("bob", "dan", mids[2])])
    await commit(store, reads=[Read("bob", "alice", mids[0])])
    of_alice, of_dan = ReceiptState("bob", "alice", mids[1], mids[0]), ReceiptState("bob", "dan", mids[2], 0)

    async def changed(*peers: str, since: int) -> list[ReceiptState]:
        return sorted(await store.receipt_changes(peers, since=since), key=lambda state: state.peer)

    assert await changed("alice", "dan", since=began) == [of_alice, of_dan]
    assert await changed("dan", "nobody", "dan", since=began) == [of_dan]
    assert await changed("bob", since=0) == []
    assert await changed(since=0) == []
    assert await changed("alice", "dan", since=now() + 1_000) == []


async def test_what_changes_nothing_is_no_change(store: Store) -> None:
    mids = [stored.mid for stored in (await commit(store, chat(), chat())).stored]
    await commit(store, delivered=[Delivered("bob", "alice", mids[1])])
    first = now() + 1
    while now() <= first + 1:  # until the clock has passed the stamp of that commit
        pass
    await commit(store, delivered=[Delivered("bob", "alice", mids[0]), Delivered("carol", "alice", mids[0])])
    later = await store.receipt_changes(["alice"], since=first + 1)
    assert later == [ReceiptState("carol", "alice", mids[0], 0)]


async def test_a_change_handed_out_is_a_copy(store: Store) -> None:
    mid = (await commit(store, chat())).stored[0].mid
    await commit(store, delivered=[Delivered("bob", "alice", mid)])
    (state,) = await store.receipt_changes(["alice"], since=0)
    state.delivered = 99
    (state,) = await store.receipt_changes(["alice"], since=0)
    assert state.delivered == mid
    (await store.positions(["bob"]))["bob"].epochs["forged"] = 1
    assert await store.positions(["bob"]) == {"bob": Position(1, {})}


async def test_last_seen_is_that_of_the_newest_device(store: Store) -> None:
    await store.claim("bob", "phone", now=10, limit=5)
    tablet = await store.claim("bob", "tablet", now=5, limit=5)
    await store.claim("carol", "phone", now=7, limit=5)
    await commit(store, chat(to="dan"))
    users = ["bob", "carol", "dan", "nobody"]
    assert await store.last_seen(users) == {"bob": 10, "carol": 7}
    await store.release("bob", "tablet", epoch=tablet.epoch, last_seen=99)
    assert await store.last_seen(users) == {"bob": 99, "carol": 7}
    await store.forget_device("bob", "tablet")
    await store.forget_device("carol", "phone")
    assert await store.last_seen(users) == {"bob": 10}
    assert await store.last_seen([]) == {}
