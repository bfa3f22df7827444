"""Redis' answers, in whatever pieces they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.bridge.resp import BrokenStream, Message, Oversized, Push, Refusal, RespReader, command

HELLO = (
    b"%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:8\r\n"
    b"$7\r\nmodules\r\n*1\r\n%1\r\n$1\r\na\r\n_\r\n"
)
SUBSCRIBED = b">3\r\n$9\r\nsubscribe\r\n$5\r\nx:all\r\n:1\r\n"
PUBLISHED = b">3\r\n$7\r\nmessage\r\n$5\r\nx:all\r\n$6\r\n\x00\r\n>3\xff\r\n"
STREAM = (
    HELLO + SUBSCRIBED + PUBLISHED + b":2\r\n" + PUBLISHED * 2 + b"-NOPERM no\r\n" + b"$-1\r\n$0\r\n\r\n#t\r\n+OK\r\n"
)
VALUES = [
    [b"server", b"redis", b"proto", b"3", b"id", b"8", b"modules", [[b"a", b""]]],
    [b"subscribe", b"x:all", b"1"],
    b"\x00\r\n>3\xff",
    b"2",
    b"\x00\r\n>3\xff",
    b"\x00\r\n>3\xff",
    "NOPERM no",
    b"",
    b"",
    b"t",
    b"OK",
]


def read(*pieces: bytes, max_message: int = 100) -> list[object]:
    reader = RespReader(max_message=max_message)
    return [value for piece in pieces for value in reader.feed(piece)]


def test_values_come_as_they_are() -> None:
    values = read(STREAM)
    assert values == VALUES
    assert [type(value) for value in values[:7]] == [list, Push, Message, bytes, Message, Message, Refusal]


def test_the_pieces_do_not_matter() -> None:
    assert read(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == VALUES
    for place in range(len(STREAM)):
        assert read(STREAM[:place], STREAM[place:]) == VALUES


def test_too_long_a_message_is_skipped_and_nothing_else() -> None:
    long = b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$101\r\n" + b"\r\n>3\r" * 20 + b"!" + b"\r\n"
    stream = long + PUBLISHED + long
    for step in (1, 7, 40, len(stream)):
        values = read(*(stream[place : place + step] for place in range(0, len(stream), step)))
        assert values == [101, b"\x00\r\n>3\xff", 101]
        assert isinstance(values[0], Oversized)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$x\r\n",
        b"$101\r\n",
        b"*10001\r\n",
        b"*1\r\n" * 9,
        b"+" + b"x" * 70_000,
        b">3\r\n$7\r\nmessage\r\n:1\r\n",
        b">3\r\n$7\r\nmessage\r\n$-1\r\n",
    ],
)
def test_what_is_not_redis_is_said_to_be_so(nonsense: bytes) -> None:
    with pytest.raises(BrokenStream):
        read(nonsense)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_do_worse(pieces: list[bytes]) -> None:
    try:
        read(*pieces)
    except BrokenStream:
        pass


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_a_command_is_an_array_of_words(words: list[bytes]) -> None:
    assert read(command(*words)) == [words]
