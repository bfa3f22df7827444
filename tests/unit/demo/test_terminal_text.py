"""Nothing that others wrote moves the cursor, hides or turns around; and everything fits where it stands."""

import re
import unicodedata
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.mobile_client_demo.terminal.look import Look, codec_of, size
from aldis.mobile_client_demo.terminal.text import UNFIT, cut, encodable, fit, padded, plain, width, wrapped

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b\x07\x9b\r\n\t\0\u200b\u200d\ufe0f\u0301\u0489\U0001f3fd\U000e0041\u3164\u1160" + BIDI),
        st.sampled_from("aé漢👩🇩한ع"),
    ),
    max_size=60,
)


@given(HOSTILE, st.booleans())
def test_what_is_left_is_harmless(text: str, lines: bool) -> None:
    shown = plain(text, lines=lines)
    for letter in shown:
        if lines and letter == "\n":
            continue
        assert unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"), ascii(letter)
        assert letter not in BIDI and not 0xE0000 <= ord(letter) <= 0xE0FFF
    assert plain(shown, lines=lines) == shown, "it is the same a second time"
    shown.encode()


@given(HOSTILE)
def test_a_mark_sits_on_no_character_of_ours(text: str) -> None:
    for line in plain(text, lines=True).split("\n"):
        assert not line or width(line[0]) > 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", f"{UNFIT}[2J{UNFIT}]0;owned{UNFIT}"),
        ("\x9b31mred", f"{UNFIT}31mred"),
        ("abc\u202egnp.exe", f"abc{UNFIT}gnp.exe"),
        ("pay\u200bpal\u2060\ufeff", "paypal"),
        ("a\rb\nc", "a b c"),
        ("Z\u0351\u0352\u0353\u0354\u0355", "Z\u0353\u0354"),
        ("e\u0301", "é"),
        ("👩\u200d👩\u200d👧", "👩👩👧"),
        ("👍\U0001f3fd ❤\ufe0f", "👍 ❤"),
        ("🇩🇪", "DE"),
        ("\U000e0067\U000e0062x", "x"),
        ("\u3164\uffa0\u115f", ""),
        ("a\u00a0b\u3000c", "a b c"),
        ("\ud800", UNFIT),
        ("\u0301x", "x"),
        ("Grüße, שלום, 漢字", "Grüße, שלום, 漢字"),
    ],
)
def test_known_tricks(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_stay_lines_where_they_may() -> None:
    assert plain("a\r\nb\n\tc\u2028d", lines=True) == "a\nb\n    c\nd"


@given(HOSTILE, st.integers(2, 40))
def test_wrapped_lines_fit_and_nothing_is_lost(text: str, cells: int) -> None:
    text = plain(text, lines=True)
    pieces = wrapped(text, cells)
    assert pieces and all(width(piece) <= cells for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize("cells", [-3, 0, 1])
def test_where_there_is_no_room_wrapping_ends_all_the_same(cells: int) -> None:
    assert wrapped("日本 ab", cells) == ("日", "本", "a", "b")


def test_it_is_broken_at_spaces_where_there_are_some() -> None:
    assert wrapped("one two three", 7) == ("one two", "three")
    assert wrapped("abcdefgh ij", 4) == ("abcd", "efgh", "ij")
    assert wrapped("漢字漢字", 5) == ("漢字", "漢字")


@given(HOSTILE, st.integers(0, 30))
def test_padding_is_exact(text: str, cells: int) -> None:
    assert width(padded(plain(text), cells)) == cells
    assert width(cut(plain(text), cells)) <= cells


@given(HOSTILE)
def test_without_utf8_only_what_the_terminal_has(text: str) -> None:
    Look("ascii").lines(text).encode("ascii")
    assert encodable("ü…", "ascii") == "??"


@given(st.characters())
def test_one_for_one_while_typing(letter: str) -> None:
    assert len(fit(letter)) == 1


@pytest.mark.parametrize(
    ("environment", "codec"),
    [
        ({"LANG": "de_DE.UTF-8"}, "utf-8"), ({"LANG": "C.utf8"}, "utf-8"), ({}, "utf-8"),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "ascii"), ({"LANG": "POSIX"}, "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "ascii"), ({"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, "utf-8"),
        ({"LANG": "de_DE.ISO-8859-1"}, "latin-1"), ({"LANG": "ja_JP.eucJP"}, "ascii"),
    ],
)  # fmt: skip
def test_what_the_locale_says(environment: dict[str, str], codec: str) -> None:
    assert codec_of(environment) == codec


def test_sizes() -> None:
    assert [size(count) for count in (0, 999, 1_000, 91_124, 999_999_999, 3 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "91.1 kB", "1000 MB", "3000 GB"
    ]  # fmt: skip


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_every_number_is_some_moment_everywhere(hours: int) -> None:
    look = Look(zone=timezone(timedelta(hours=hours)))
    for ts in (-1, 0, 2**53 - 1):
        assert re.fullmatch(r"\d\d:\d\d", look.clock(ts)) and look.day(ts) and look.seen(ts, ts)
