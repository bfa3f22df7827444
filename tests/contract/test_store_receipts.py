"""Promises of `Store` about receipts, on every back end (promise 5)."""

from __future__ import annotations

from aldis.broker.ports import Delivered, Read, ReceiptState, Store
from tests.contract.stores import chat, commit


async def test_delivered_is_reported_when_raised_and_never_falls(store: Store) -> None:
    mids = [stored.mid for stored in (await commit(store, chat(), chat(), chat())).stored]
    for mid, expected in ((mids[1], mids[1]), (mids[0], None), (mids[1], None), (mids[2], mids[2]), (0, None)):
        committed = await commit(store, delivered=[Delivered("bob", "alice", mid)])
        assert committed.receipts == ([] if expected is None else [ReceiptState("bob", "alice", expected, 0)])
    assert await store.receipts_for("alice", limit=9) == [ReceiptState("bob", "alice", mids[2], 0)]


async def test_nothing_delivered_is_no_receipt(store: Store) -> None:
    assert (await commit(store, delivered=[Delivered("bob", "alice", 0)])).receipts == []
    assert await store.receipts_for("alice", limit=9) == []


async def test_the_furthest_of_one_batch_counts_and_is_reported_once(store: Store) -> None:
    delivered = [Delivered("bob", "alice", mid) for mid in (2, 5, 3)]
    mids = [stored.mid for stored in (await commit(store, chat(), chat())).stored]
    reads = [Read("bob", "alice", mid) for mid in reversed(mids)]
    committed = await commit(store, delivered=delivered, reads=reads)
    assert committed.receipts == [ReceiptState("bob", "alice", 5, mids[1])]


async def test_read_is_lowered_to_the_newest_item_of_the_readers_inbox(store: Store) -> None:
    first = (await commit(store, chat(), chat(sender="carol"))).stored
    await commit(store, chat(sender="bob", to="alice"))  # has a higher mid, but is not in bob's inbox
    states = []
    for mid in (0, first[0].mid, first[1].mid + 1, 2**80):
        states += (await commit(store, reads=[Read("bob", "alice", mid)])).receipts
    assert states == [ReceiptState("bob", "alice", 0, first[0].mid), ReceiptState("bob", "alice", 0, first[1].mid)]
    later = (await commit(store, chat())).stored[0]
    assert later.mid > states[-1].read  # so what alice sends from now on is not read yet


async def test_an_empty_inbox_has_nothing_to_read(store: Store) -> None:
    await commit(store, chat())
    committed = await commit(store, reads=[Read("carol", "alice", 99), Read("alice", "bob", 99)])
    assert committed.receipts == []
    assert await store.receipts_for("alice", limit=9) == []


async def test_read_never_falls(store: Store) -> None:
    mids = [stored.mid for stored in (await commit(store, chat(), chat())).stored]
    assert len((await commit(store, reads=[Read("bob", "alice", mids[1])])).receipts) == 1
    for mid in (mids[0], mids[1], 0, -1):
        assert (await commit(store, reads=[Read("bob", "alice", mid)])).receipts == []
    assert await store.receipts_for("alice", limit=9) == [ReceiptState("bob", "alice", 0, mids[1])]


async def test_a_message_of_the_same_batch_can_be_read(store: Store) -> None:
    committed = await commit(store, chat(), reads=[Read("bob", "alice", 2**52)])
    assert committed.receipts == [ReceiptState("bob", "alice", 0, committed.stored[0].mid)]


async def test_delivered_and_read_are_two_marks_of_one_state(store: Store) -> None:
    mids = [stored.mid for stored in (await commit(store, chat(), chat())).stored]
    assert (await commit(store, reads=[Read("bob", "alice", mids[0])])).receipts[0].delivered == 0
    committed = await commit(store, delivered=[Delivered("bob", "alice", mids[1])])
    assert committed.receipts == [ReceiptState("bob", "alice", mids[1], mids[0])]


async def test_only_raised_states_are_reported(store: Store) -> None:
    await commit(store, chat(), chat(to="carol"))
    await commit(store, delivered=[Delivered("bob", "alice", 9), Delivered("carol", "alice", 9)])
    again = [Delivered("bob", "alice", 9), Delivered("carol", "alice", 10), Delivered("carol", "bob", 1)]
    committed = await commit(store, delivered=again)
    assert sorted(committed.receipts, key=lambda state: state.peer) == [
        ReceiptState("carol", "alice", 10, 0),
        ReceiptState("carol", "bob", 1, 0),
    ]


async def test_receipts_for_gives_the_most_recently_changed_first(store: Store) -> None:
    for mid, reader in enumerate(["bob", "carol", "dave", "erin"], 1):
        await commit(store, delivered=[Delivered(reader, "alice", mid)])
    await commit(store, delivered=[Delivered("bob", "zoe", 3)])
    await commit(store, delivered=[Delivered("carol", "alice", 50)])
    await commit(store, delivered=[Delivered("dave", "alice", 1)])  # changes nothing
    order = [state.reader for state in await store.receipts_for("alice", limit=9)]
    assert order == ["carol", "erin", "dave", "bob"]
    assert [state.reader for state in await store.receipts_for("alice", limit=2)] == ["carol", "erin"]
    assert await store.receipts_for("alice", limit=0) == []
    assert await store.receipts_for("nobody", limit=9) == []
    assert await store.receipts_for("zoe", limit=9) == [ReceiptState("bob", "zoe", 3, 0)]


async def test_a_read_counts_as_a_change(store: Store) -> None:
    await commit(store, chat(), chat(to="carol"))
    await commit(store, delivered=[Delivered("bob", "alice", 1)])
    await commit(store, delivered=[Delivered("carol", "alice", 2)])
    await commit(store, reads=[Read("bob", "alice", 1)])
    assert [state.reader for state in await store.receipts_for("alice", limit=9)] == ["bob", "carol"]


async def test_what_is_handed_out_is_a_copy(store: Store) -> None:
    committed = await commit(store, delivered=[Delivered("bob", "alice", 3)])
    committed.receipts[0].delivered = 0
    (await store.receipts_for("alice", limit=9))[0].read = 99
    assert await store.receipts_for("alice", limit=9) == [ReceiptState("bob", "alice", 3, 0)]
