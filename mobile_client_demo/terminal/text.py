"""What others wrote, made fit for a terminal: nothing in it moves the cursor, hides, or turns the text around. Pure.

A terminal obeys what it is sent. So no character of a message, a name or a file name reaches it that was not looked at
here, and every character that is left has a width on which terminals agree.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from prompt_toolkit.utils import get_cwidth

UNFIT = "\N{REPLACEMENT CHARACTER}"
"""Stands where something was that could have changed what one sees."""
MARKS = 2
"""Accents on one letter, at most: Vietnamese and Hebrew are fine, towers are not."""
TAB = "    "
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = frozenset("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_BLANK = frozenset("\u2800")
_REGIONAL = range(0x1F1E6, 0x1F200)
_SKIN = range(0x1F3FB, 0x1F400)


@lru_cache(4_096)
def plain(text: str, *, lines: bool = False) -> str:
    """One line, or with `lines` as many as there are. The same for what came out of here before."""
    kept = []
    for letter in text.replace("\r\n", "\n"):
        kept.append(_letter(letter, lines))
    return _few_marks(unicodedata.normalize("NFC", "".join(kept)))


def _letter(letter: str, lines: bool) -> str:
    if " " <= letter <= "~":
        return letter
    if letter in "\n\r\v\f\x85\u2028\u2029":
        return "\n" if lines else " "
    if letter == "\t":
        return TAB if lines else " "
    code, category = ord(letter), unicodedata.category(letter)
    if letter in _BIDI or category in ("Cc", "Cs", "Co"):
        return UNFIT
    if category == "Zs" or letter in _BLANK:
        return " "
    if category == "Cf" or letter in _INVISIBLE or _ignorable(code) or code in _SKIN:
        return ""  # alone it cannot be seen, and in a chain of emoji terminals do not agree how wide that is
    # a flag is two letters
    return chr(ord("A") + code - _REGIONAL.start) if code in _REGIONAL else letter


def fit(letter: str) -> str:
    """One letter for one, for what is just being typed."""
    return _letter(letter, True)[:1] or UNFIT


def _ignorable(code: int) -> bool:
    """Variation selectors, tags, and what Unicode keeps free for more of the kind."""
    return (
        0xFE00 <= code <= 0xFE0F or 0xE0000 <= code <= 0xE0FFF or 0xFFF0 <= code <= 0xFFFB or 0x180B <= code <= 0x180F
        or code == 0x2065 or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    )  # fmt: skip


def _few_marks(text: str) -> str:
    kept, marks = [], MARKS  # none at the beginning, where it would sit on something of ours
    for letter in text:
        if letter == "\n":
            marks = MARKS
        elif unicodedata.category(letter) in ("Mn", "Me", "Mc") or (get_cwidth(letter) == 0):
            marks += 1
            if marks > MARKS:
                continue
        else:
            marks = 0
        kept.append(letter)
    return "".join(kept)


def encodable(text: str, codec: str) -> str:
    """What a terminal without UTF-8 can show of it: `?` for the rest."""
    return text if codec == "utf-8" else text.encode(codec, "replace").decode(codec)


def width(text: str) -> int:
    """Cells of a terminal."""
    return sum(get_cwidth(letter) for letter in text)


def cut(text: str, cells: int, end: str = "…") -> str:
    """As much of one line as fits."""
    if width(text) <= cells:
        return text
    room, kept = cells - width(end), ""
    if room < 0:
        end, room = "", cells
    for letter in text:
        room -= get_cwidth(letter)
        if room < 0:
            break
        kept += letter
    return kept + end


def padded(text: str, cells: int, end: str = "…") -> str:
    """Exactly so wide."""
    text = cut(text, cells, end)
    return text + " " * (cells - width(text))


@lru_cache(4_096)
def wrapped(text: str, cells: int) -> tuple[str, ...]:
    """Lines that are no wider, broken at spaces where there are some; what is too long for a line is broken anywhere.
    One letter that is wider than `cells` has a line of its own: windows may be narrow for a moment."""
    return tuple(piece for line in text.split("\n") for piece in _wrapped_line(line.rstrip(" "), cells))


def _wrapped_line(line: str, cells: int) -> list[str]:
    pieces, start, used, space = [], 0, 0, -1
    place = 0
    while place < len(line):
        letter = line[place]
        used += get_cwidth(letter)
        if letter == " ":
            space = place
        if used > cells and place > start:
            end = space if space > start else place
            pieces.append(line[start:end].rstrip(" "))
            start = place = end + 1 if end == space else end
            used, space = 0, -1
            continue
        place += 1
    if line[start:] or not pieces:
        pieces.append(line[start:])
    return pieces
