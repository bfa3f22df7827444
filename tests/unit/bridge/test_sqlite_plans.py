"""How SQLite finds what a node asks about many users at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aldis.bridge import sqlite_reads
from tests.contract.stores import new_database


@pytest.mark.parametrize(
    ("statement", "arguments", "indexes"),
    [
        (sqlite_reads.RECEIPT_CHANGES, ('["alice","bob"]', 1), ["im_receipt_peer (peer=? AND updated>?)"]),
        (sqlite_reads.POSITIONS, ('["alice","bob"]',), ["im_inbox_1 (user_id=?)", "im_device_1 (user_id=?)"]),
        (sqlite_reads.LAST_SEEN, ('["alice","bob"]',), ["im_device_1 (user_id=?)"]),
    ],
)
def test_by_an_index(tmp_path: Path, statement: str, arguments: tuple[object, ...], indexes: list[str]) -> None:
    with closing(sqlite3.connect(new_database(tmp_path))) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)]
    for index in indexes:
        assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN im_") for step in plan), plan
