"""Promises of `Store` about mids that the caller gives, on every back end."""

from __future__ import annotations

import pytest

from aldis.broker.ports import CursorMove, MidTaken, NewMessage, Read, Store, Stored
from tests.contract.stores import Reopen, chat, commit

FAR = 2**50


async def test_a_given_mid_is_the_mid(store: Store) -> None:
    stored = (await commit(store, chat(mid=100), chat('"a"', mid=102, sync=True), chat(mid=FAR, to="carol"))).stored
    assert stored == [Stored(100, 1, 1_000), Stored(102, 2, 1_000, 1), Stored(FAR, 1, 1_000)]
    assert [(item.n, item.mid) for item in await store.items("bob", after=0, limit=9)] == [(1, 100), (2, 102)]
    assert [(item.n, item.mid) for item in await store.items("alice", after=0, limit=9)] == [(1, 102)]
    assert [(item.n, item.mid) for item in await store.items("carol", after=0, limit=9)] == [(1, FAR)]
    assert await store.find("alice", "phone", '"a"') == Stored(102, 2, 1_000, 1, True)


async def test_the_highest_mid(store: Store) -> None:
    assert await store.highest_mid() == 0
    (drawn,) = (await commit(store, chat())).stored
    assert await store.highest_mid() == drawn.mid
    await commit(store, chat(mid=FAR), chat(mid=FAR - 2))
    assert await store.highest_mid() == FAR
    (drawn,) = (await commit(store, chat())).stored
    assert await store.highest_mid() == drawn.mid > FAR


async def test_mids_of_the_store_go_on_above_given_ones_back_and_forth(reopen: Reopen) -> None:
    highest = 0
    for turn in range(6):
        store = reopen()
        await store.open()
        first, second = (await commit(store, chat(), chat(to="carol"))).stored
        assert highest < first.mid < second.mid
        given = second.mid // 2 * 2 + 1_000 * (turn + 1)
        await commit(store, chat(mid=given + 2), chat(mid=given, to="carol"))
        highest = given + 2
        if turn % 2:
            (last,) = (await commit(store, chat())).stored
            assert last.mid > highest
            highest = last.mid
        await store.close()
    await store.open()
    mids = [item.mid for item in await store.items("bob", after=0, limit=99)]
    assert mids == sorted(set(mids)) and len(mids) == 15
    await store.close()


@pytest.mark.parametrize("given", [100, 2])
async def test_one_batch_may_mix_given_and_other_mids(store: Store, given: int) -> None:
    """Given ones above and below what is there, between others, in list order."""
    before = (await commit(store, *[chat() for _ in range(5)])).stored[-1]
    given = before.mid // 2 * 2 + given if given > 10 else given * 5 + 90
    await commit(store, chat(mid=2_000))
    messages = [chat(), chat(mid=given, sync=True), chat(to="carol"), chat(mid=given + 2), chat(sync=True)]
    stored = (await commit(store, *messages)).stored
    assert [one.n for one in stored] == [7, 8, 1, 9, 10]
    assert [one.sync_n for one in stored] == [None, 1, None, None, 2]
    assert [stored[1].mid, stored[3].mid] == [given, given + 2]
    assert 2_000 < stored[0].mid < stored[2].mid < stored[4].mid
    assert [item.mid for item in await store.items("bob", after=6, limit=9)] == [
        one.mid for one, message in zip(stored, messages, strict=True) if message.recipient == "bob"
    ]
    assert [item.mid for item in await store.items("alice", after=0, limit=9)] == [given, stored[4].mid]


async def test_what_the_store_gives_lies_above_what_is_given_in_the_same_batch(store: Store) -> None:
    drawn, given, other = (await commit(store, chat(), chat(mid=500), chat())).stored
    assert given.mid == 500 < drawn.mid < other.mid


async def test_a_read_receipt_goes_as_far_as_the_newest_given_mid(store: Store) -> None:
    await commit(store, chat(mid=100), chat(mid=104))
    committed = await commit(store, chat(mid=106), reads=[Read("bob", "alice", 10_000)])
    assert [state.read for state in committed.receipts] == [106]
    assert (await commit(store, chat(mid=108), reads=[Read("bob", "alice", 106)])).receipts == []


# --- a given mid that is stored already is a repeat


async def test_a_given_mid_again_is_a_repeat(store: Store) -> None:
    first = (await commit(store, chat(mid=100, created=5), chat(mid=102, sync=True))).stored
    again = (await commit(store, chat(mid=102, sync=True), chat(mid=104), chat(mid=100, content=b"{}"))).stored
    assert again[0] == Stored(102, 2, 1_000, 1, True)
    assert again[1] == Stored(104, 3, 1_000)
    assert again[2] == Stored(100, 1, 5, None, True)
    assert not any(one.repeated for one in first)
    assert [item.n for item in await store.items("bob", after=0, limit=9)] == [1, 2, 3]
    assert (await store.head("bob"), await store.head("alice")) == (3, 1)


async def test_a_given_mid_twice_in_one_batch(store: Store) -> None:
    stored = (await commit(store, chat(mid=100), chat(), chat(mid=100), chat('"a"', mid=102), chat(mid=102))).stored
    assert [one.repeated for one in stored] == [False, False, True, False, True]
    assert [one.n for one in stored] == [1, 2, 1, 3, 3]
    assert [stored[2].mid, stored[4].mid] == [100, 102]
    assert await store.head("bob") == 3


async def test_a_whole_batch_again_changes_nothing(store: Store) -> None:
    """A storer that was killed between the commit and the acknowledgement of the journal begins with it again."""
    messages = [
        chat(mid=100 + 2 * i, to=f"user{i % 3}", sync=i % 2 == 0, seq=i + 1 if i % 5 else None) for i in range(40)
    ]
    messages += [chat(f'"{i}"', mid=300 + 2 * i, to=f"user{i % 3}") for i in range(5)]
    first = (await commit(store, *messages)).stored
    for _ in range(3):
        again = (await commit(store, *messages)).stored
        assert again == [Stored(one.mid, one.n, one.created, one.sync_n, True) for one in first]
    (fresh,) = (await commit(store, chat(to="user0"))).stored
    assert fresh.n == 17
    assert len(await store.items("alice", after=0, limit=99)) == 20


async def test_a_mid_that_the_store_gave_is_stored_too(store: Store) -> None:
    (first,) = (await commit(store, chat())).stored
    (again,) = (await commit(store, chat(mid=first.mid))).stored
    assert again == Stored(first.mid, 1, 1_000, None, True)


async def test_an_id_decides_before_a_given_mid(store: Store) -> None:
    first, other = (await commit(store, chat('"a"', mid=100), chat(mid=102))).stored
    for _ in range(2):
        # known by its id only; by both; by its id, at one mid, while the other is stored; by its mid only
        repeats = [
            chat('"a"', mid=200),
            chat('"a"', mid=100),
            chat('"a"', mid=102),
            chat('"b"', mid=102),
            chat(mid=104),
        ]
        stored = (await commit(store, *repeats)).stored
        assert [(one.mid, one.n) for one in stored[:3]] == [(100, first.n)] * 3
        assert (stored[3].mid, stored[3].n) == (102, other.n)
        assert [one.repeated for one in stored[:4]] == [True] * 4
        assert (stored[4].mid, stored[4].n) == (104, 3)
    assert await store.find("alice", "phone", '"b"') is None
    assert await store.head("bob") == 3


@pytest.mark.parametrize("others", [[], [chat(mid=200)], [chat('"b"', mid=200), chat('"c"', mid=102)]])
async def test_an_id_decides_where_nobody_has_looked_for_repeats_yet(reopen: Reopen, others: list[NewMessage]) -> None:
    """A look costs something: back ends do it once they have met a repeat."""
    store = reopen()
    await store.open()
    await commit(store, chat('"a"', mid=100), chat(mid=102))
    await store.close()
    store = reopen()
    await store.open()
    try:
        repeat = chat('"a"', mid=200 if others else 102)
        assert (await commit(store, *others, repeat)).stored[-1] == Stored(100, 1, 1_000, None, True)
    finally:
        await store.close()


async def test_an_id_decides_within_one_batch(store: Store) -> None:
    stored = (await commit(store, chat('"a"', mid=100), chat('"a"', mid=102), chat(mid=102))).stored
    assert [(one.mid, one.n, one.repeated) for one in stored] == [(100, 1, False), (100, 1, True), (102, 2, False)]


async def test_what_is_known_by_its_mid_alone_leaves_its_id_to_the_next_one(store: Store) -> None:
    """Only after a journal has lost its memory: a mid that is stored already comes again with an `id` that is not."""
    await commit(store, chat(mid=100))
    again, other, first = (await commit(store, chat('"a"', mid=100), chat(to="carol"), chat('"a"', to="dora"))).stored
    assert again == Stored(100, 1, 1_000, None, True)
    assert not other.repeated and not first.repeated
    assert len({again.mid, other.mid, first.mid}) == 3
    assert await store.find("alice", "phone", '"a"') == Stored(first.mid, 1, 1_000, None, True)


async def test_a_given_mid_tells_more_than_a_seq(store: Store) -> None:
    """Known by its `seq` alone nobody knows where it is stored; known by its mid, too, one does."""
    await commit(store, chat(seq=1, mid=100), chat(seq=2, mid=102, sync=True))
    stored = (
        await commit(
            store,
            chat(seq=1, mid=100),
            chat(seq=2, mid=200),
            chat(seq=3, mid=104),
            chat(seq=2, mid=102, sync=True),
            chat(seq=3, mid=104),
            chat(seq=2),
        )
    ).stored
    unknown = Stored(0, 0, 0, None, True)
    assert stored == [
        Stored(100, 1, 1_000, None, True),
        unknown,
        Stored(104, 3, 1_000),
        Stored(102, 2, 1_000, 1, True),
        Stored(104, 3, 1_000, None, True),
        unknown,
    ]
    assert (await store.head("bob"), await store.last_seq("alice", "phone", "bob")) == (3, 3)


# --- what is refused: the whole batch


@pytest.mark.parametrize("other", [{"sender": "carol"}, {"device": "tablet"}, {"to": "carol"}])
@pytest.mark.parametrize("within", [False, True])
async def test_a_mid_of_another_message_is_no_repeat(store: Store, other: dict[str, str], within: bool) -> None:
    claim = await store.claim("bob", "phone", now=1, limit=5)
    first = chat(mid=100)
    if not within:
        await commit(store, first)
    refused = [chat(to="dan"), *([first] if within else []), chat(mid=100, **other)]  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(MidTaken, match="100"):
            await commit(store, *refused, moves=[CursorMove("bob", "phone", claim.epoch, 1)])
    assert (await store.head("dan"), await store.head("carol")) == (0, 0)
    assert await store.head("bob") == (0 if within else 1)
    assert (await store.devices("bob"))[0].cursor == 0
    (stored,) = (await commit(store, chat())).stored
    assert stored.n == (1 if within else 2)


@pytest.mark.parametrize("mid", [-1, 2**53, 2**63])
async def test_a_mid_beyond_the_range_is_refused(store: Store, mid: int) -> None:
    with pytest.raises(ValueError):
        await commit(store, chat(), chat(mid=mid), chat(mid=100))
    assert (await store.head("bob"), await store.highest_mid()) == (0, 0)
    (stored,) = (await commit(store, chat())).stored
    assert stored.mid < 1_000, "the ids of the database have stayed where they were"


async def test_what_is_stored_is_read_although_the_newest_item_has_a_lower_mid(store: Store) -> None:
    """Bob's inbox: a message of Alice, then the copy of one of his own, accepted earlier and stored later."""
    await commit(store, chat(mid=200))
    await commit(store, chat(sender="bob", device="tablet", to="carol", sync=True, mid=100))
    assert [item.mid for item in await store.items("bob", after=0, limit=9)] == [200, 100]
    (state,) = (await commit(store, reads=[Read("bob", "alice", 200)])).receipts
    assert state.read == 200
    (other,) = (await commit(store, reads=[Read("bob", "dave", 200)])).receipts
    assert other.read == 100, "it is not Dave's message"
    assert (await commit(store, reads=[Read("bob", "alice", 2_000)])).receipts == []
