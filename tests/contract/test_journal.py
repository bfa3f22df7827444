"""What every journal promises, in memory and on a real Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from aldis.broker.journal_ports import Answer, Entry, Journal, JournalRefused
from tests.contract.journals import SHARDS, Journals, Writing, held, message, read

SOON = 5.0


def answers(found: list[Answer | None]) -> list[Answer]:
    assert None not in found
    return [one for one in found if one is not None]


async def settled(journal: Journal, shard: int, count: int) -> None:
    """The first `count` entries are in the store."""
    await journal.stored({shard: (await read(journal, shard, limit=count))[-1]})


# Appending


async def test_entries_keep_the_order_of_their_shard(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    await write(message(1), message(2, 1), message(3))
    await write(message(4), message(5, 1))
    assert await held(journal, 0) == [b"1", b"3", b"4"]
    assert await held(journal, 1) == [b"2", b"5"]
    assert await held(journal, 2) == []


async def test_mids_rise_in_a_shard_and_differ_over_all(journals: Journals) -> None:
    one, two = await journals.node(), await journals.node()
    first, second = Writing(one, "one"), Writing(two, "two")
    given: list[tuple[int, int]] = []
    for turn in range(20):
        for write in (first, second):
            batch = [message(turn, shard) for shard in (0, 1, 0, 3)]
            given += [(sent.shard, each.mid) for sent, each in zip(batch, answers(await write(*batch)), strict=True)]
    assert len({mid for _, mid in given}) == len(given)
    for shard in range(SHARDS):
        mids = [mid for where, mid in given if where == shard]
        assert mids == sorted(mids)
    assert all(0 < mid < 2**53 and mid % 2 == 0 for _, mid in given)
    entries = await read(one, 0, after=0, limit=100, size=1_000)
    assert [entry.mid for entry in entries] == [mid for where, mid in given if where == 0]


async def test_what_is_answered_is_created_when_the_caller_says(journals: Journals) -> None:
    (answer,) = answers(await Writing(await journals.node())(message(7)))
    assert (answer.created, answer.repeated) == (1_007, False)


async def test_any_bytes_come_back(journals: Journals) -> None:
    journal = await journals.node()
    data = bytes(range(256)) * 300
    await Writing(journal)(
        message(1, data=data), message(2, data=b""), message(3, sender="änn", device="d d", id='"ü\\n"')
    )
    assert await held(journal) == [data, b"", b"3"]
    assert await journal.find("änn", "d d", '"ü\\n"') is not None


async def test_a_batch_that_comes_again_takes_effect_once(journals: Journals) -> None:
    """As after an answer that was lost."""
    journal, other = await journals.node(), await journals.node()
    batch = [message(1), message(2, 1), message(3)]
    first = await journal.append("writer", 1, batch)
    assert await journal.append("writer", 1, batch) == first
    assert await other.append("writer", 1, batch) == first
    await journal.append("another", 1, batch)
    assert await held(journal) == [b"1", b"3", b"1", b"3"]


async def test_a_batch_that_comes_late_takes_no_effect(journals: Journals) -> None:
    journal = await journals.node()
    await journal.append("writer", 1, [message(1)])
    await journal.append("writer", 2, [message(2)])
    with pytest.raises(Exception, match=r"later batch|LATE"):
        await journal.append("writer", 1, [message(1)])
    assert await held(journal) == [b"1", b"2"]


async def test_mids_are_above_what_the_store_has(journals: Journals) -> None:
    newest = (int(time.time() * 1_000) - 1_577_836_800_000 + 60_000) * 4_096 + 77
    journal = await journals.node()
    await journal.open(newest=newest)
    first, second = answers(await Writing(journal)(message(1), message(2)))
    assert newest < first.mid < second.mid


async def test_a_store_that_is_years_ahead_is_refused(journals: Journals) -> None:
    journal = await journals.node()
    with pytest.raises(JournalRefused, match="years ahead"):
        await journal.open(newest=2**53 - 1)


# Once


async def test_an_id_is_answered_with_its_first_result(journals: Journals) -> None:
    journal, other = await journals.node(), await journals.node()
    first, again = answers(await Writing(journal, "one")(message(1, id='"a"'), message(2, id='"a"')))
    (elsewhere,) = answers(await Writing(other, "two")(message(3, id='"a"', shard=2)))
    assert (first.repeated, again, elsewhere) == (False, Answer(first.mid, 1_001, True), Answer(first.mid, 1_001, True))
    assert await held(journal) == [b"1"] and await held(journal, 2) == []
    assert await journal.find("ann", "phone", '"a"') == again


async def test_ids_are_those_of_a_device_and_of_a_kind(journals: Journals) -> None:
    journal = await journals.node()
    found = answers(
        await Writing(journal)(
            message(1, id='"1"'),
            message(2, id="1"),
            message(3, id='"1"', device="tablet"),
            message(4, id='"1"', sender="bob"),
        )
    )
    assert [one.repeated for one in found] == [False] * 4
    assert await journal.find("ann", "phone", "2") is None


async def test_ids_are_remembered_after_the_store_has_the_message(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    (first,) = answers(await write(message(1, id='"a"')))
    await settled(journal, 0, 1)
    (again,) = answers(await write(message(2, id='"a"')))
    assert (again.mid, again.repeated) == (first.mid, True)


async def test_ids_are_remembered_for_as_long_as_was_asked(journals: Journals) -> None:
    journal = await journals.node(remember=4_000)
    write = Writing(journal)
    (first,) = answers(await write(message(1, id='"a"')))
    await write(message(2, id='"b"'))
    await asyncio.sleep(2.2)
    assert answers(await write(message(3, id='"a"'))) == [Answer(first.mid, 1_001, True)]
    assert await journal.find("ann", "phone", '"a"') == Answer(first.mid, 1_001, True)
    await journal.correct("ann", "phone", '"b"', Answer(17, 5, True))
    assert answers(await write(message(4, id='"b"'))) == [Answer(17, 5, True)]


async def test_ids_are_forgotten_in_the_end(journals: Journals) -> None:
    journal = await journals.node(remember=30)
    write = Writing(journal)
    (first,) = answers(await write(message(1, id='"a"', seq=9)))
    await asyncio.sleep(0.1)
    assert await journal.find("ann", "phone", '"a"') is None
    assert await journal.last_seq("ann", "phone", "bob") == 0
    (second,) = answers(await write(message(2, id='"a"')))
    assert second.mid > first.mid and not second.repeated


async def test_what_the_store_knows_better_is_the_answer(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    await write(message(1, id='"a"'))
    await journal.correct("ann", "phone", '"a"', Answer(17, 5, True))
    assert answers(await write(message(2, id='"a"'))) == [Answer(17, 5, True)]
    assert await journal.find("ann", "phone", '"a"') == Answer(17, 5, True)


async def test_a_seq_that_comes_again_is_a_repeat_without_numbers(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    found = answers(await write(message(1, seq=1), message(2, seq=2), message(3, seq=2), message(4, seq=1)))
    assert [one.repeated for one in found] == [False, False, True, True]
    assert [found[2].mid, found[2].created] == [0, 0]
    assert await held(journal) == [b"1", b"2"]
    assert await journal.last_seq("ann", "phone", "bob") == 2
    other = answers(await write(message(5, seq=1, recipient="cyd"), message(6, seq=1, device="tablet")))
    assert [one.repeated for one in other] == [False, False]


async def test_where_there_is_an_id_it_decides_alone(journals: Journals) -> None:
    journal = await journals.node()
    found = answers(await Writing(journal)(message(1, seq=5), message(2, seq=3, id='"a"'), message(3, seq=4)))
    assert [one.repeated for one in found] == [False, False, True]
    assert await journal.last_seq("ann", "phone", "bob") == 5


async def test_a_forgotten_device_counts_anew(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    await write(message(1, seq=5), message(2, seq=7, device="tablet"))
    await journal.forget_device("ann", "phone")
    assert await journal.last_seq("ann", "phone", "bob") == 0
    assert await journal.last_seq("ann", "tablet", "bob") == 7
    assert [one.repeated for one in answers(await write(message(3, seq=1)))] == [False]


# Bounds


async def test_a_full_shard_takes_nothing_more_and_the_others_do(journals: Journals) -> None:
    journal = await journals.node(max_length=2)
    write = Writing(journal)
    found = await write(message(1), message(2), message(3), message(4, 1), message(5))
    assert [one is None for one in found] == [False, False, True, False, True]
    assert await write(message(6)) == [None]
    await settled(journal, 0, 1)
    found = await write(message(3), message(5))
    assert [one is None for one in found] == [False, True]
    assert await held(journal) == [b"2", b"3"]


async def test_bytes_are_bounded_and_nothing_overtakes(journals: Journals) -> None:
    journal = await journals.node(max_bytes=10)
    write = Writing(journal)
    found = await write(message(1, data=b"12345678"), message(2, data=b"9abcde"), message(3, data=b"f"))
    assert [one is None for one in found] == [False, True, True]
    lengths = await journal.lengths()
    assert (lengths[0].entries, lengths[0].bytes, lengths[1].entries) == (1, 8, 0)
    await settled(journal, 0, 1)
    assert None not in await write(message(2, data=b"9abcde"), message(3, data=b"f"))
    assert (await journal.lengths())[0].bytes == 7


async def test_a_message_that_was_refused_has_taken_neither_id_nor_seq(journals: Journals) -> None:
    journal = await journals.node(max_length=1)
    write = Writing(journal)
    assert (await write(message(1), message(2, id='"a"', seq=4)))[1] is None
    assert await journal.find("ann", "phone", '"a"') is None
    assert await journal.last_seq("ann", "phone", "bob") == 0


async def test_a_repeat_is_answered_although_the_shard_is_full(journals: Journals) -> None:
    journal = await journals.node(max_length=1)
    write = Writing(journal)
    await write(message(1, id='"a"'))
    assert [one and one.repeated for one in await write(message(2), message(1, id='"a"'))] == [None, True]


async def test_the_age_of_the_oldest(journals: Journals) -> None:
    journal = await journals.node()
    assert {(one.entries, one.bytes, one.oldest) for one in await journal.lengths()} == {(0, 0, 0)}
    before = time.time_ns() // 1_000_000
    await Writing(journal)(message(1, 2), message(2, 2))
    length = (await journal.lengths())[2]
    assert length.entries == 2 and before - 5 <= length.oldest <= time.time_ns() // 1_000_000 + 5


# Reading and removing


async def test_reading_goes_on_behind_a_position(journals: Journals) -> None:
    journal = await journals.node()
    await Writing(journal)(*(message(number) for number in range(100)))
    first = await read(journal, 0, after=0, limit=40, size=1_000_000)
    second = await read(journal, 0, after=first[-1].position, limit=1_000, size=1_000_000)
    assert [int(one.data) for one in (*first, *second)] == list(range(100))
    assert await read(journal, 0, after=second[-1].position, limit=10, size=10) == []


async def test_reading_is_bounded_by_bytes_but_makes_progress(journals: Journals) -> None:
    journal = await journals.node()
    await Writing(journal)(*(message(number, data=b"x" * 100) for number in range(5)))
    assert len(await read(journal, 0, after=0, limit=10, size=1)) == 1
    assert len(await read(journal, 0, after=0, limit=10, size=250)) == 3


async def test_several_shards_are_read_in_one_step(journals: Journals) -> None:
    journal = await journals.node()
    await Writing(journal)(*(message(number, number % 3) for number in range(30)))
    found = await journal.read(dict.fromkeys(range(SHARDS), 0), limit=1_000, size=1_000_000)
    assert {shard: [int(one.data) for one in entries] for shard, entries in found.items()} == {
        shard: list(range(shard, 30, 3)) for shard in range(3)
    }
    behind = {shard: entries[5].position for shard, entries in found.items()}
    rest = await journal.read(behind, limit=1_000, size=1_000_000)
    assert rest == {shard: entries[6:] for shard, entries in found.items()}
    assert await journal.read({shard: entries[-1].position for shard, entries in found.items()}, limit=9, size=9) == {}


async def test_no_shard_keeps_others_from_being_read(journals: Journals) -> None:
    """However much waits in one, and however large it is."""
    journal = await journals.node()
    await Writing(journal)(*(message(number, data=b"x" * 1_000) for number in range(200)), message(1, 2), message(2, 3))
    everywhere = dict.fromkeys(range(SHARDS), 0)
    for limit, size in ((8, 1_000_000), (1_000, 8_000), (1, 1)):
        found = await journal.read(everywhere, limit=limit, size=size)
        assert {shard: len(entries) for shard, entries in found.items() if shard} == {2: 1, 3: 1}
        assert 1 <= len(found[0]) <= 9
    # what they leave is for the one that has more
    assert len((await journal.read(everywhere, limit=100, size=1_000_000))[0]) == 98
    assert 70 <= len((await journal.read(everywhere, limit=1_000, size=80_000))[0]) <= 81
    assert [entry.mid for entry in (await journal.read(everywhere, limit=90, size=90_000))[0]] == [
        entry.mid for entry in await read(journal, 0, limit=88)
    ]


async def test_nothing_is_removed_by_reading(journals: Journals) -> None:
    journal, other = await journals.node(), await journals.node()
    await Writing(journal)(message(1), message(2), message(3))
    assert await held(journal) == await held(other) == [b"1", b"2", b"3"]
    await settled(journal, 0, 2)
    assert await held(other) == [b"3"]
    await other.stored({0: Entry(1, 1, 1, b"")})  # somebody who was late
    assert await held(other) == [b"3"]


async def test_several_shards_are_emptied_in_one_step(journals: Journals) -> None:
    journal = await journals.node()
    await Writing(journal)(message(1), message(2, 1), message(3, 1), message(4, 2))
    last = {shard: (await read(journal, shard, after=0, limit=1, size=1))[0] for shard in (0, 1)}
    await journal.stored(last)
    assert [await held(journal, shard) for shard in range(3)] == [[], [b"3"], [b"4"]]
    assert [one.bytes for one in await journal.lengths()] == [0, 1, 1, 0]


async def test_waiting_ends_with_the_first_entry(journals: Journals) -> None:
    journal, other = await journals.node(), await journals.node()
    begun = time.monotonic()
    waiting = asyncio.create_task(journal.wait({0: 0, 2: 0}, SOON))
    await asyncio.sleep(0.05)
    await Writing(other)(message(1, 1), message(2, 2))
    assert await waiting == [2]
    assert time.monotonic() - begun < SOON / 2
    (entry,) = await read(journal, 2, after=0, limit=1, size=1)
    assert await journal.wait({2: entry.position}, 0.05) == []


# Poison


async def test_an_entry_is_set_aside_and_put_back(journals: Journals) -> None:
    journal = await journals.node()
    write = Writing(journal)
    first, _ = answers(await write(message(1, 3, data=b"\xffodd"), message(2, 3)))
    (entry, _) = await read(journal, 3, after=0, limit=2, size=100)
    assert await journal.set_aside(3, entry, "not an entry: ü")
    assert await journal.set_aside(3, entry, "twice")
    assert await held(journal, 3) == [b"2"]
    (poison,) = await journal.poisoned(limit=10)
    assert (poison.shard, poison.mid, poison.reason, poison.data) == (3, first.mid, "not an entry: ü", b"\xffodd")
    assert await journal.poison_length() == 1
    assert (await journal.lengths())[3].bytes == 1
    assert await journal.put_back(poison.number)
    assert not await journal.put_back(poison.number)
    assert await held(journal, 3) == [b"2", b"\xffodd"]
    again = (await read(journal, 3, after=0, limit=2, size=100))[1]
    assert again.mid == first.mid < again.position
    assert await journal.poison_length() == 0


async def test_an_entry_is_given_up(journals: Journals) -> None:
    journal = await journals.node()
    await Writing(journal)(message(1))
    (entry,) = await read(journal, 0, after=0, limit=1, size=1)
    await journal.set_aside(0, entry, "why")
    (poison,) = await journal.poisoned(limit=1)
    assert await journal.drop(poison.number)
    assert not await journal.drop(poison.number)
    assert not await journal.put_back(poison.number)
    assert await held(journal) == []


async def test_poison_is_bounded(journals: Journals) -> None:
    journal = await journals.node(max_poison=1)
    await Writing(journal)(message(1), message(2))
    one, two = await read(journal, 0, after=0, limit=2, size=100)
    assert await journal.set_aside(0, one, "why")
    assert not await journal.set_aside(0, two, "why")
    assert await held(journal) == [b"2"]
