"""Reads what Redis says (RESP3) out of a stream of bytes, and writes commands. Pure.

redis-py's parser awaits every line: 16 to 21 us for one message of pub/sub, and 8 to 41 us for a PUBLISH, where these
take 1 to 9 and 1 to 27 (the more at once, the less). It is only that part which is ours; everything else in Redis is
asked through redis-py.
"""

from __future__ import annotations

from collections.abc import Iterator

_MESSAGE = b">3\r\n$7\r\nmessage\r\n"
_MAX_LINE = 65_536
_MAX_MEMBERS = 10_000
_MAX_DEPTH = 8


class BrokenStream(Exception):
    """What came is not RESP: nobody knows where the next answer would begin."""


class Refusal(str):
    """An error that Redis answered."""

    __slots__ = ()


class Push(list[object]):
    """What was not asked for: messages, confirmations of subscriptions."""

    __slots__ = ()


class Message(bytes):
    """What was published."""

    __slots__ = ()


class Oversized(int):
    """What was published is longer than allowed, namely so many bytes, and is skipped."""

    __slots__ = ()


def command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


class RespReader:
    """`feed` gives the values that are complete, in order; what is not waits for the next bytes. Messages longer than
    `max_message` bytes are never held in memory. Raises `BrokenStream`."""

    def __init__(self, *, max_message: int) -> None:
        self._max_message = max_message
        self._held = b""
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[object]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        held = self._held + data if self._held else data
        self._held = b""
        at, end = 0, len(held)
        while at < end:
            found = self._message(held, at) if held.startswith(_MESSAGE, at) else self._value(held, at, 0)
            if found is None:
                break
            value, at = found
            yield value
        if at > end:
            self._skip = at - end
        else:
            self._held = held[at:]

    def _message(self, held: bytes, at: int) -> tuple[object, int] | None:
        """The two bulk strings after the word: the channel, which says nothing, and what was published."""
        channel = self._length(held, at + len(_MESSAGE))
        if channel is None:
            return None
        found = self._length(held, channel[1] + channel[0] + 2)
        if found is None:
            return None
        size, start = found
        if size > self._max_message:
            return Oversized(size), start + size + 2
        if start + size + 2 > len(held):
            return None
        return Message(held[start : start + size]), start + size + 2

    def _value(self, held: bytes, at: int, depth: int) -> tuple[object, int] | None:
        line = self._line(held, at)
        if line is None:
            return None
        text, after = line
        kind = held[at : at + 1]
        if kind in b"+:_#,(":
            return text, after
        if kind == b"-":
            return Refusal(str(text, "utf-8", "replace")), after
        if kind in b"$=!" and kind:
            size = _number(text)
            if size > self._max_message:
                raise BrokenStream(f"an answer of {size} bytes")
            if size < 0:
                return b"", after
            if after + size + 2 > len(held):
                return None
            return held[after : after + size], after + size + 2
        if kind in b"*~>%|":
            return self._members(held, after, _number(text) * (2 if kind in b"%|" else 1), depth, kind == b">")
        raise BrokenStream(f"an answer that begins with {kind!r}")

    def _members(self, held: bytes, at: int, count: int, depth: int, is_push: bool) -> tuple[object, int] | None:
        if count > _MAX_MEMBERS or depth >= _MAX_DEPTH:
            raise BrokenStream("an answer with too many parts")
        values: list[object] = Push() if is_push else []
        for _ in range(count):
            found = self._value(held, at, depth + 1)
            if found is None:
                return None
            values.append(found[0])
            at = found[1]
        return values, at

    def _length(self, held: bytes, at: int) -> tuple[int, int] | None:
        """Of a bulk string, and where it starts."""
        line = self._line(held, at)
        if line is None:
            return None
        if held[at : at + 1] != b"$":
            raise BrokenStream("a message that is no text")
        size = _number(line[0])
        if size < 0:
            raise BrokenStream("a message that is nothing")
        return size, line[1]

    @staticmethod
    def _line(held: bytes, at: int) -> tuple[bytes, int] | None:
        """What follows the first byte, and where the next line starts."""
        end = held.find(b"\r\n", at, at + _MAX_LINE)
        if end < 0:
            if len(held) - at >= _MAX_LINE:
                raise BrokenStream("a line without an end")
            return None
        return held[at + 1 : end], end + 2


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise BrokenStream(f"a length of {text[:20]!r}") from None
