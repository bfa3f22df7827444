"""Promises of `Store` about messages and inboxes, on every back end."""

from __future__ import annotations

import asyncio

import pytest

from aldis.broker.ports import Batch, CursorMove, Item, Kind, Store, Stored
from tests.contract.stores import Reopen, chat, commit


async def test_numbers_are_gap_free_and_in_list_order(store: Store) -> None:
    first = await commit(store, chat(to="bob"), chat(to="carol"), chat(to="bob"))
    second = await commit(store, chat(to="bob"))
    assert [stored.n for stored in (*first.stored, *second.stored)] == [1, 1, 2, 3]
    assert [item.n for item in await store.items("bob", after=0, limit=10)] == [1, 2, 3]
    assert (await store.head("bob"), await store.head("carol"), await store.head("alice")) == (3, 1, 0)


async def test_mids_rise_with_commit_order(store: Store) -> None:
    committed = [await commit(store, chat(to="bob"), chat(to="carol")) for _ in range(3)]
    mids = [stored.mid for one in committed for stored in one.stored]
    assert mids == sorted(set(mids))
    assert mids[0] > 0 and mids[-1] < 2**53


async def test_an_empty_batch_is_no_work_and_no_error(store: Store) -> None:
    committed = await store.commit(Batch())
    assert (committed.stored, committed.fenced, committed.receipts) == ([], [], [])


async def test_items_come_back_as_they_were_written(store: Store) -> None:
    message = chat('"a"', sender="alice", device="tablet", to="bob", content='{"body":"grüß 🕯"}'.encode(), created=77)
    notice = chat(sender="$server", device="", to="bob", content=b"{}", created=78, kind=Kind.SYSTEM)
    first, second = (await commit(store, message, notice)).stored
    items = await store.items("bob", after=0, limit=10)
    assert items == [
        Item(1, first.mid, "alice", "tablet", "bob", Kind.CHAT, message.content, 77),
        Item(2, second.mid, "$server", "", "bob", Kind.SYSTEM, b"{}", 78),
    ]
    assert isinstance(items[0].kind, Kind)
    assert [type(item.content) for item in items] == [bytes, bytes]
    assert first == Stored(first.mid, 1, 77, None, False)


async def test_items_are_paged_by_n(store: Store) -> None:
    await commit(store, *[chat(content=b'{"body":%d}' % i) for i in range(1, 8)])
    assert [item.n for item in await store.items("bob", after=2, limit=3)] == [3, 4, 5]
    assert [item.n for item in await store.items("bob", after=5, limit=3)] == [6, 7]
    assert await store.items("bob", after=7, limit=3) == []
    assert await store.items("bob", after=100, limit=3) == []
    assert await store.items("bob", after=0, limit=0) == []
    assert await store.items("nobody", after=0, limit=3) == []
    page = await store.items("bob", after=2, limit=2)
    assert [item.content for item in page] == [b'{"body":3}', b'{"body":4}']


async def test_a_long_backlog_reads_out_whole_and_in_order(store: Store) -> None:
    for start in range(0, 1_500, 500):
        await commit(store, *[chat(content=b'{"body":%d}' % i) for i in range(start, start + 500)])
    seen: list[Item] = []
    while page := await store.items("bob", after=len(seen), limit=200):
        seen += page
    assert [item.n for item in seen] == list(range(1, 1_501))
    assert [item.content for item in seen] == [b'{"body":%d}' % i for i in range(1_500)]


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_contents_of_every_size(store: Store, size: int) -> None:
    contents = [b'{"body":"' + b"x" * size + b'"}', b"{}", b'{"body":"after"}']
    await commit(store, *[chat(content=content) for content in contents])
    assert [item.content for item in await store.items("bob", after=0, limit=10)] == contents


@pytest.mark.parametrize(
    "content",
    [b"", b'{ "a" : "\\u0000 \\" \\\\ \\ud83d\\ude00" }\n', '{"a":"\u2028\x7f\u200d🏳️"}'.encode(), b'{"a":1e400,"a":2}'],
)
async def test_contents_are_kept_byte_by_byte(store: Store, content: bytes) -> None:
    await commit(store, chat(content=content), chat(content=b"{}"), chat(content=content))
    assert [item.content for item in await store.items("bob", after=0, limit=9)] == [content, b"{}", content]


async def test_a_reused_buffer_does_not_change_what_is_stored(store: Store) -> None:
    buffer = bytearray(b'{"body":"first"}')
    await commit(store, chat(content=buffer))  # type: ignore[arg-type]
    buffer[:] = b'{"body":"other"}'
    (item,) = await store.items("bob", after=0, limit=1)
    assert item.content == b'{"body":"first"}'


# --- promise 2: (sender, device, id) is one message for ever


async def test_a_repeat_gets_the_first_result_and_takes_no_number(store: Store) -> None:
    (first,) = (await commit(store, chat('"a"', created=5))).stored
    repeat, fresh = (await commit(store, chat('"a"', created=6, content=b'{"body":"other"}'), chat('"b"'))).stored
    assert repeat == Stored(first.mid, first.n, 5, None, True)
    assert (fresh.n, fresh.repeated) == (2, False)
    assert [item.content for item in await store.items("bob", after=0, limit=9)] == [b'{"body":"hi"}'] * 2


async def test_a_repeat_within_one_batch(store: Store) -> None:
    stored = (await commit(store, chat('"a"'), chat('"b"'), chat('"a"'), chat('"c"'), chat('"a"'))).stored
    assert [one.n for one in stored] == [1, 2, 1, 3, 1]
    assert [one.repeated for one in stored] == [False, False, True, False, True]
    assert stored[2].mid == stored[0].mid
    assert await store.head("bob") == 3


async def test_repeats_of_earlier_batches_and_of_this_one_mixed(store: Store) -> None:
    first = (await commit(store, chat('"a"'), chat('"b"', to="carol"))).stored
    batch = [chat('"x"'), chat('"b"', to="carol"), chat('"a"'), chat('"x"'), chat('"y"', to="carol"), chat()]
    for attempt in range(3):
        stored = (await commit(store, *batch)).stored
        assert [one.repeated for one in stored] == [attempt > 0, True, True, True, attempt > 0, False]
        assert [one.n for one in stored] == [2, 1, 1, 2, 2, 3 + attempt]
        assert [stored[1].mid, stored[2].mid] == [first[1].mid, first[0].mid]
    assert [item.n for item in await store.items("bob", after=0, limit=9)] == [1, 2, 3, 4, 5]


async def test_repeats_leave_the_rest_of_the_batch_alone(store: Store) -> None:
    claim = await store.claim("bob", "phone", now=1, limit=5)
    await commit(store, chat('"a"'))
    committed = await commit(store, chat('"a"'), moves=[CursorMove("bob", "phone", claim.epoch, 1)])
    assert committed.fenced == []
    assert (await store.devices("bob"))[0].cursor == 1


async def test_only_repeats(store: Store) -> None:
    batch = [chat(f'"{i}"') for i in range(20)]
    first = (await commit(store, *batch)).stored
    for _ in range(100):  # long enough for every adaptive look-up to show what it does
        again = (await commit(store, *batch)).stored
        assert [(one.mid, one.n, one.repeated) for one in again] == [(one.mid, one.n, True) for one in first]
    for i in range(100):
        assert [one.n for one in (await commit(store, chat(f'"new {i}"'))).stored] == [21 + i]


async def test_keys_belong_to_sender_and_device_not_to_the_recipient(store: Store) -> None:
    await commit(store, chat('"a"'))
    other_device, other_sender, other_recipient = (
        await commit(store, chat('"a"', device="tablet"), chat('"a"', sender="carol"), chat('"a"', to="carol"))
    ).stored
    assert (other_device.repeated, other_sender.repeated, other_recipient.repeated) == (False, False, True)


async def test_number_and_string_are_two_keys(store: Store) -> None:
    stored = (await commit(store, chat("17"), chat('"17"'), chat("17"), chat('"17"'))).stored
    assert [one.repeated for one in stored] == [False, False, True, True]
    assert stored[0].mid == stored[2].mid != stored[1].mid == stored[3].mid


async def test_without_an_id_nothing_is_a_repeat(store: Store) -> None:
    stored = (await commit(store, chat(), chat())).stored + (await commit(store, chat())).stored
    assert [one.n for one in stored] == [1, 2, 3]
    assert not any(one.repeated for one in stored)


async def test_find(store: Store) -> None:
    first = (await commit(store, chat('"a"'), chat('"b"', sync=True, created=9), chat())).stored
    assert await store.find("alice", "phone", '"b"') == Stored(first[1].mid, 2, 9, 1, True)
    assert await store.find("alice", "phone", '"B"') is None
    assert await store.find("alice", "tablet", '"b"') is None
    assert await store.find("bob", "phone", '"b"') is None


async def test_a_tag_is_not_looked_at(store: Store) -> None:
    batch = Batch([chat(tag=object())], [CursorMove("bob", "phone", 1, 1, tag=object())])
    tags = [batch.messages[0].tag, batch.moves[0].tag]
    committed = await store.commit(batch)
    assert [batch.messages[0].tag, batch.moves[0].tag] == tags
    assert committed.fenced[0].tag is tags[1]


# --- sync copies


async def test_a_sync_copy_goes_to_the_sender(store: Store) -> None:
    await commit(store, chat(sender="carol", to="alice"))
    plain, copied = (await commit(store, chat(), chat(sync=True))).stored
    assert (plain.sync_n, copied.sync_n, copied.n) == (None, 2, 2)
    (copy,) = await store.items("alice", after=1, limit=9)
    assert (copy.n, copy.mid, copy.sender, copy.recipient) == (2, copied.mid, "alice", "bob")


async def test_numbers_interleave_when_two_write_to_each_other(store: Store) -> None:
    batch = [chat(sync=True), chat(sender="bob", to="alice", sync=True), chat(sync=True)]
    stored = (await commit(store, *batch)).stored
    assert [(one.n, one.sync_n) for one in stored] == [(1, 1), (2, 2), (3, 3)]
    for user in ("alice", "bob"):
        items = await store.items(user, after=0, limit=9)
        assert [(item.n, item.mid) for item in items] == [(i + 1, one.mid) for i, one in enumerate(stored)]


async def test_a_note_to_oneself_is_one_item(store: Store) -> None:
    (stored,) = (await commit(store, chat(to="alice", sync=True))).stored
    assert (stored.n, stored.sync_n) == (1, None)
    assert len(await store.items("alice", after=0, limit=9)) == 1


async def test_a_repeat_answers_with_the_first_copy(store: Store) -> None:
    first = (await commit(store, chat(sync=True), chat('"a"', sync=True))).stored[1]
    repeats = (await commit(store, chat('"a"', sync=True), chat('"a"'))).stored
    assert [one.sync_n for one in repeats] == [first.sync_n, first.sync_n] == [2, 2]
    assert await store.head("alice") == 2


# --- seq


async def test_the_highest_seq_is_kept_per_device_and_recipient(store: Store) -> None:
    await commit(store, chat(seq=1), chat(seq=3), chat(seq=2), chat(seq=9, to="carol"), chat(seq=5, device="tablet"))
    assert await store.last_seq("alice", "phone", "bob") == 3
    await commit(store, chat('"a"', seq=2), chat())
    assert await store.last_seq("alice", "phone", "bob") == 3
    assert await store.last_seq("alice", "phone", "carol") == 9
    assert await store.last_seq("alice", "tablet", "bob") == 5
    assert await store.last_seq("bob", "phone", "alice") == 0


async def test_a_repeat_with_a_later_seq_counts_as_sent(store: Store) -> None:
    await commit(store, chat('"a"', seq=1))
    await commit(store, chat('"a"', seq=2))
    assert await store.last_seq("alice", "phone", "bob") == 2


SEEN = Stored(0, 0, 0, None, True)
"""A repeat that is known by its `seq` alone."""


async def test_a_seq_without_an_id_is_stored_once(store: Store) -> None:
    await commit(store, chat(seq=1), chat(seq=2))
    again, late, fresh = (await commit(store, chat(seq=2), chat(seq=1), chat(seq=3))).stored
    assert [again, late] == [SEEN, SEEN]
    assert (fresh.n, fresh.repeated) == (3, False)
    assert [item.n for item in await store.items("bob", after=0, limit=9)] == [1, 2, 3]
    assert (await store.head("bob"), await store.last_seq("alice", "phone", "bob")) == (3, 3)


async def test_a_seq_is_stored_once_within_one_batch(store: Store) -> None:
    first, again, other, lower, last = (
        await commit(store, chat(seq=1), chat(seq=1), chat(seq=5), chat(seq=4), chat(seq=6, sync=True))
    ).stored
    assert [again, lower] == [SEEN, SEEN]
    assert [first.n, other.n, last.n, last.sync_n] == [1, 2, 3, 1]
    assert await store.head("bob") == 3


async def test_only_repeats_of_a_seq_change_nothing(store: Store) -> None:
    await commit(store, chat(seq=7, sync=True))
    claim = await store.claim("bob", "phone", now=10, limit=5)
    committed = await commit(
        store, chat(seq=7, sync=True), chat(seq=6), moves=[CursorMove("bob", "phone", claim.epoch, 9)]
    )
    assert committed.stored == [SEEN, SEEN]
    assert (await store.head("bob"), await store.head("alice")) == (1, 1)
    assert [device.cursor for device in await store.devices("bob")] == [1]


async def test_a_seq_counts_for_one_device_and_recipient(store: Store) -> None:
    messages = [chat(seq=1), chat(seq=1, to="carol"), chat(seq=1, device="tablet"), chat(seq=1, sender="dan")]
    for batch in range(2):
        stored = (await commit(store, *messages)).stored
        assert [one.repeated for one in stored] == [batch == 1] * 4
    assert (await store.head("bob"), await store.head("carol")) == (3, 1)


async def test_where_there_is_an_id_the_id_decides_and_not_the_seq(store: Store) -> None:
    await commit(store, chat(seq=5))
    stored = (await commit(store, chat('"a"', seq=5), chat('"b"', seq=3), chat(seq=5), chat('"a"', seq=9))).stored
    assert [one.n for one in stored] == [2, 3, 0, 2]
    assert [one.repeated for one in stored] == [False, False, True, True]
    assert stored[2] == SEEN
    assert await store.last_seq("alice", "phone", "bob") == 9


async def test_repeats_of_a_seq_mixed_with_others(store: Store) -> None:
    """What comes after a repeat keeps its place, in every inbox."""
    await commit(store, chat(seq=1), chat('"a"', to="carol"))
    stored = (
        await commit(
            store,
            chat(seq=1),
            chat(),
            chat('"a"', to="carol"),
            chat(seq=2, sync=True),
            chat(seq=2, to="carol"),
            chat(seq=1, to="carol"),
            chat(to="carol", sync=True),
        )
    ).stored
    assert [one.n for one in stored] == [0, 2, 1, 3, 2, 0, 3]
    assert [one.sync_n for one in stored] == [None, None, None, 1, None, None, 2]
    for user in ("bob", "carol"):
        items = await store.items(user, after=0, limit=9)
        assert [item.n for item in items] == [1, 2, 3]
        assert await store.head(user) == 3


# --- ids


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bob", "bob"),
        ("bob", "bob "),
        ("é", "e\u0301"),  # the same letter, composed and decomposed
        ("straße", "strasse"),
        ('a"b', "a\\b"),
        ("%", "_"),
        ("\U0001f56f", "\U0001f56f\ufe0f"),
        ("tab\there", "tab here"),
        ("\x01", "\x02"),
    ],
)
async def test_ids_compare_byte_by_byte(store: Store, one: str, other: str) -> None:
    epochs = {}
    for name in (one, other):
        epochs[name] = (await store.claim("user", name, now=10, limit=5)).epoch
        await store.claim(name, "device", now=10, limit=5)
        await commit(store, chat(f'"{name}"'.replace("\t", "\\t"), sender=name, device=name, to=name, seq=1, sync=True))
    await commit(store, chat(to="user"), moves=[CursorMove("user", one, epochs[one], 1)])
    assert {device.device: device.cursor for device in await store.devices("user")} == {one: 1, other: 0}
    for name in (one, other):
        (item,) = await store.items(name, after=0, limit=9)
        assert (item.sender, item.device, item.recipient) == (name, name, name)
        assert await store.last_seq(name, name, name) == 1
        assert [device.user for device in await store.devices(name)] == [name]
    assert await store.find(one, one, f'"{other}"'.replace("\t", "\\t")) is None


# --- what outlives a reopening


async def test_everything_is_there_after_reopening(reopen: Reopen) -> None:
    store = reopen()
    await store.open()
    first = (await commit(store, chat('"a"', seq=4, sync=True), chat())).stored
    claim = await store.claim("bob", "phone", now=10, limit=5)
    await commit(store, moves=[CursorMove("bob", "phone", claim.epoch, 2)])
    await store.close()
    await store.close()

    store = reopen()
    await store.open()
    try:
        repeat, fresh = (await commit(store, chat('"a"'), chat())).stored
        assert repeat == Stored(first[0].mid, 1, 1_000, 1, True)
        assert fresh.n == 3
        assert fresh.mid > first[1].mid
        assert await store.last_seq("alice", "phone", "bob") == 4
        assert [item.n for item in await store.items("bob", after=0, limit=9)] == [1, 2, 3]
        assert await store.head("alice") == 1
        (device,) = await store.devices("bob")
        assert (device.cursor, device.epoch, device.last_seen) == (2, claim.epoch, 10)
        assert (await store.claim("bob", "phone", now=11, limit=5)).epoch == claim.epoch + 1
    finally:
        await store.close()


async def test_readers_see_whole_batches_while_the_writer_writes(store: Store) -> None:
    done = False
    seen: list[int] = []

    async def read() -> None:
        while not done:
            items = await store.items("bob", after=0, limit=10_000)
            seen.append(len(items))
            assert [item.n for item in items] == list(range(1, len(items) + 1))
            assert await store.head("bob") >= len(items)
            await asyncio.sleep(0)

    readers = [asyncio.ensure_future(read()) for _ in range(3)]
    for _ in range(30):
        await commit(store, *[chat() for _ in range(20)])
        await asyncio.sleep(0)
    done = True
    await asyncio.gather(*readers)
    assert all(number % 20 == 0 for number in seen)
    assert await store.head("bob") == 600
