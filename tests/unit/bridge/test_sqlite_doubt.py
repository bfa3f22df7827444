"""A commit whose end is unknown, and the same batch again: it is stored once, also without an `id`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from aldis.bridge import sqlite_shards
from aldis.bridge.sqlite_batch import COMMIT, OUTCOME, SCHEMA
from aldis.bridge.sqlite_commit import Committer
from aldis.broker.ports import Batch, CursorMove, Delivered, ReceiptState
from tests.contract.stores import chat, new_database


class Failing:
    """A connection on which one statement fails: before it does anything, or after."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statement = ""
        self.after = False

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        failing = statement is self.statement
        if failing:
            self.statement = ""
        if failing and not self.after:
            raise sqlite3.OperationalError("disk I/O error")
        cursor = self._connection.execute(statement, *arguments)
        if failing:
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    with closing(sqlite3.connect(new_database(tmp_path), isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        yield Failing(connection)


@pytest.mark.parametrize("statement", [COMMIT, OUTCOME])
@pytest.mark.parametrize("after", [False, True])
def test_the_same_batch_again_is_stored_once(failing: Failing, statement: str, after: bool) -> None:
    connection, committer = cast(sqlite3.Connection, failing), Committer()
    committer.commit(connection, Batch([chat()]))
    move = CursorMove("bob", "phone", 1, 1)
    batch = Batch([chat(sync=True), chat(seq=1), chat('"a"')], [move], [Delivered("bob", "alice", 2)])
    failing.statement, failing.after = statement, after
    with pytest.raises(sqlite3.OperationalError):
        committer.commit(connection, batch)
    committed = committer.commit(connection, batch)
    assert [(one.n, one.mid, one.repeated) for one in committed.stored] == [(2, 2, False), (3, 3, False), (4, 4, False)]
    assert (committed.fenced, committed.receipts) == ([move], [ReceiptState("bob", "alice", 2, 0)])
    assert connection.execute("SELECT n, mid FROM im_offline WHERE to_user_id = 'bob'").fetchall() == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
    ]
    (last,) = committer.commit(connection, Batch([chat()])).stored
    assert (last.n, last.mid) == (5, 5)


def test_another_batch_of_the_same_words_is_another_one(failing: Failing) -> None:
    connection, committer = cast(sqlite3.Connection, failing), Committer()
    failing.statement, failing.after = COMMIT, True
    with pytest.raises(sqlite3.OperationalError):
        committer.commit(connection, Batch([chat()]))
    (stored,) = committer.commit(connection, Batch([chat()])).stored
    assert (stored.n, stored.mid) == (2, 2)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("mids", [(100, 102), (2_000, 100), (2_000, 2_002), (0, 100)])
def test_a_batch_of_given_mids_again_is_stored_once(failing: Failing, after: bool, mids: tuple[int, int]) -> None:
    """Also where the highest mid is none of this batch, and does not tell whether it is there."""
    connection, committer = cast(sqlite3.Connection, failing), Committer()
    committer.commit(connection, Batch([chat(mid=1_000)]))
    epoch = sqlite_shards.claim(connection, 3)
    batch = Batch([chat(mid=mids[0], sync=True), chat(mid=mids[1])], shards=[(3, epoch)])
    failing.statement, failing.after = COMMIT, after
    with pytest.raises(sqlite3.OperationalError):
        committer.commit(connection, batch)
    committed = committer.commit(connection, batch)
    expected = [(2, mids[0] or 1_001, 1, False), (3, mids[1], None, False)]
    assert [(one.n, one.mid, one.sync_n, one.repeated) for one in committed.stored] == expected
    items = connection.execute("SELECT n, mid FROM im_offline WHERE to_user_id = 'bob' ORDER BY n").fetchall()
    assert items == [(1, 1_000), *[(n, mid) for n, mid, _, _ in expected]]
    (last,) = committer.commit(connection, Batch([chat()])).stored
    assert (last.n, last.mid) == (4, max(1_000, *[mid for _, mid, _, _ in expected]) + 1)


def test_repeats_by_mid_are_none_of_the_batch_in_doubt(failing: Failing) -> None:
    """All of it was stored before, and the statement that would have found nothing to store fails."""
    connection, committer = cast(sqlite3.Connection, failing), Committer()
    first = committer.commit(connection, Batch([chat(mid=100), chat(mid=102)])).stored
    batch = Batch([chat(mid=100), chat(mid=102)])
    failing.statement = COMMIT
    with pytest.raises(sqlite3.OperationalError):
        committer.commit(connection, batch)
    assert [(one.mid, one.n, one.repeated) for one in committer.commit(connection, batch).stored] == [
        (one.mid, one.n, True) for one in first
    ]
