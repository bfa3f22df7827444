"""Values as SQL text: the server reads back exactly what was written, and nothing ends a literal before its end."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.bridge.mysql_literals import GROWTH, LARGEST, blob, listed, number, portions, row, text
from aldis.bridge.mysql_server import LITERALS_AS_BYTES
from tests.mariadb import shared_server

TRICKY = st.sampled_from(["'", "\\", '"', "\0", "\n", "\r", "\x1a", "%", "%s", "--", "/*", "'; --", "é", "🕯", " "])


def read_back(literals: list[bytes], mode: str = "") -> list[object]:
    with closing(shared_server().connection()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET SESSION sql_mode = '{mode}'")
        cursor.execute(LITERALS_AS_BYTES)
        cursor.execute(b"SELECT " + listed(literal + b" AS x" for literal in literals))  # else it names the column
        return list(cursor.fetchone())


@given(st.lists(st.binary() | st.lists(TRICKY).map(lambda parts: "".join(parts).encode()), min_size=1, max_size=50))
@settings(max_examples=60)
@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES"])
def test_any_bytes(mode: str, values: list[bytes]) -> None:
    assert read_back([blob(value) for value in values], mode) == values


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=50))
@settings(max_examples=60)
def test_any_text(values: list[str]) -> None:
    assert read_back([text(value) for value in values]) == [value.encode() for value in values]


@given(st.lists(st.integers() | st.none(), min_size=1, max_size=20))
@settings(max_examples=60)
def test_any_number(values: list[int | None]) -> None:
    expected = [None if value is None else max(-LARGEST, min(LARGEST, value)) for value in values]
    assert read_back([number(value) for value in values]) == expected


@given(st.binary(max_size=300))
def test_a_literal_grows_no_further_than_said(value: bytes) -> None:
    assert len(blob(value)) <= GROWTH * len(value) + 10


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        text("\ud800")


def test_rows_and_portions() -> None:
    assert row(b"1", b"x''") == b"(1,x'')"
    assert [list(part) for part in portions([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]
    assert list(portions([], 2)) == []
