"""What the terminal chat paints: exact sizes whatever is in it, scrolling, ticks; and what is typed after a slash."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.commands import COMMANDS, Unclear, command, completions, help_page, is_command
from aldis.mobile_client_demo.terminal.conversation import REASONS, conversation, scrolled, visible
from aldis.mobile_client_demo.terminal.look import Fragments, Look
from aldis.mobile_client_demo.terminal.painting import contacts, hints, lower, page, upper
from aldis.mobile_client_demo.terminal.state import (
    Connection,
    Contact,
    Line,
    Notice,
    Page,
    State,
    Talk,
    Transfer,
)  # fmt: skip
from aldis.mobile_client_demo.terminal.text import width
from aldis.mobile_client_demo.terminal.update import update
from tests.unit.demo.test_terminal_text import HOSTILE

NOW = 1_800_000_000_000
LOOK = Look(zone=UTC)


def text(fragments: Fragments) -> str:
    return "".join(part for _, part in fragments)


def shown(lines: list[Fragments]) -> str:
    return "\n".join(text(line) for line in lines)


def talking(*lines: Line, **more: object) -> State:
    state = State("ann", "pc", NOW, MappingProxyType({"bob": Contact("bob", delivered=4, read=2)}), active="bob")
    talk = Talk(lines, tuple(line.key for line in lines if line.file), before=0)
    return replace(state, talks=MappingProxyType({"bob": talk}), listing=False, **more)  # type: ignore[arg-type]


def line(mid: int, said: str = "", *, mine: bool = False, failed: str = "") -> Line:
    key = f"m{mid}" if mid else f"o{said}"
    return Line(key, mine, NOW + mid, said or f"line {mid}", mid, "" if mid else said, failed=failed)


def test_a_conversation_as_one_sees_it() -> None:
    state = talking(
        line(1, "Hello"), line(2, "read", mine=True), line(4, "delivered", mine=True), line(5, "sent", mine=True),
        line(0, "refused", mine=True, failed="not_friend"), line(0, "waiting", mine=True),
    )  # fmt: skip
    rows = [row.rstrip() for row in shown(conversation(state, 90, 10, LOOK)).splitlines()]
    assert rows[0] == "bob" and rows[1:3] == ["", ""]
    assert rows[3].strip("─") == " Friday, 15 January 2027 "
    assert rows[4:] == [
        "08:00 bob Hello", "08:00 me  read ✓✓", "08:00 me  delivered ✓✓", "08:00 me  sent ✓",
        "08:00 me  refused ✗ this person does not take messages from you", "08:00 me  waiting …",
    ]  # fmt: skip
    found = [style for row in conversation(state, 90, 9, LOOK) for style, part in row if "✓" in part or "…" in part]
    assert found == ["class:tick.read", "class:tick.delivered", "class:tick.sent", "class:tick.waiting"]


def test_ticks_without_colours_and_without_utf8() -> None:
    state = talking(line(1, mine=True), line(4, mine=True), line(0, "x", mine=True))
    assert "✓✓ read" in shown(conversation(state, 60, 9, Look(colours=False)))
    plain = shown(conversation(state, 60, 9, Look("ascii")))
    assert plain.isascii() and "++ read" in plain and "line 4 ++\n" in plain and plain.endswith("x ...")


def test_a_reason_is_given_in_words_and_an_unknown_one_as_it_is() -> None:
    for reason in ("too_large", "something_new"):
        state = talking(line(0, "x", mine=True, failed=reason))
        assert REASONS.get(reason, reason) in shown(conversation(state, 80, 4, LOOK))


def test_what_cannot_be_read_is_never_shown_as_text() -> None:
    secret = replace(line(1, "c2VjcmV0"), problem="no key of version 3")
    said = shown(conversation(talking(secret), 80, 4, LOOK))
    assert "cannot be read here: no key of version 3" in said and "c2VjcmV0" not in said


def test_files_show_their_number_size_and_what_to_type() -> None:
    photo = FileMessage("f", "a\x1b[31m/b\u202egpj.exe", 91_124, "image/jpeg", 91_140, "0" * 64, None)
    state = talking(replace(line(1), kind="file", file=photo))
    said = shown(conversation(state, 80, 4, LOOK))
    assert "[1] a�[31m/b�gpj.exe, 91.1 kB – /save 1" in said


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(HOSTILE, st.booleans(), HOSTILE, st.sampled_from(["text", "file", "weird"])), max_size=8),
    st.integers(20, 130), st.integers(4, 40), st.sampled_from(["utf-8", "ascii", "latin-1"]), st.booleans(), HOSTILE,
)  # fmt: skip
def test_the_screen_is_full_and_nothing_sticks_out(
    lines: list[tuple[str, bool, str, str]], columns: int, rows: int, codec: str, listing: bool, name: str
) -> None:
    drawn = [
        Line(
            f"m{place}", mine, NOW + place * 40_000_000, said, place, kind=kind,
            problem=extra if kind == "weird" else "", failed=extra if mine else "",
            file=FileMessage("f", name, place, extra, 1, "", None) if kind == "file" else None,
        )
        for place, (said, mine, extra, kind) in enumerate(lines, 1)
    ]  # fmt: skip
    state = talking(*drawn, narrow=columns < 60, notices=(Notice(name, True, NOW), Notice("x", False, NOW)))
    everybody = {"bob": Contact("bob", name), name or "x": Contact(name or "x", standing="asks", unread=7)}
    state = replace(
        state, contacts=MappingProxyType(everybody), listing=listing, connection=Connection(False, name, NOW + 9_000),
        transfers=MappingProxyType({1: Transfer(name, True, 5, 9), 2: Transfer(name, False)}),
    )  # fmt: skip
    look = Look(codec, zone=UTC)
    above = upper(state, columns, rows, look)
    assert len(above) == rows
    paged = page(replace(state, page=Page(name, (name,))), columns, rows, look)
    for row in [*above, *paged, *lower(state, columns, look), hints(state, columns, look)]:
        said = text(row)
        assert width(said) <= columns and "\x1b" not in said and "\n" not in said
        said.encode(codec)
    assert len(paged) == rows


def test_every_row_is_reached_by_scrolling_and_the_way_back_ends_at_the_bottom() -> None:
    state = talking(*(line(mid, f"line {mid} " + "word " * (1 + mid % 20)) for mid in range(1, 60)))
    seen: set[str] = set()
    for _ in range(40):
        seen |= {text(row.fragments) for row in visible(state, 40, 10, LOOK)}
        state, _ = update(state, scrolled(state, 40, 10, 9, LOOK))
    assert all(any(f"line {mid} " in row for row in seen) for mid in range(1, 60))
    assert "Friday" in shown([row.fragments for row in visible(state, 40, 10, LOOK)])
    for _ in range(40):
        state, _ = update(state, scrolled(state, 40, 10, -9, LOOK))
    assert state.talk.anchor is None


def test_what_arrives_does_not_move_what_one_reads() -> None:
    state = talking(*(line(mid) for mid in range(1, 50)))
    state, _ = update(state, scrolled(state, 60, 10, 20, LOOK))
    before = [text(row.fragments) for row in visible(state, 60, 10, LOOK)]
    state, _ = update(state, e.Arrived("bob", line(99), True))
    state, _ = update(state, e.Loaded("bob", 1, (replace(line(1), key="x", mid=1),), 0))
    assert [text(row.fragments) for row in visible(state, 60, 10, LOOK)] == before
    assert "scrolled back" in text(conversation(state, 60, 10, LOOK)[0])


def test_a_short_conversation_does_not_scroll() -> None:
    state = talking(line(1), line(2))
    assert scrolled(state, 60, 10, 9, LOOK) == e.Scrolled(None, at_top=True)


def test_the_list_keeps_the_chosen_one_in_sight() -> None:
    users = {f"user-{number:02}": Contact(f"user-{number:02}", unread=number % 2) for number in range(50)}
    state = State("ann", "pc", NOW, MappingProxyType(users), active="user-40")
    said = shown(contacts(state, 28, 11, LOOK))
    assert "user-40" in said and "user-01" not in said and said.count("\n") == 10


def test_the_status_line_says_what_waits_and_when_it_is_tried_again() -> None:
    state = replace(talking(), connection=Connection(False, "no route", NOW + 11_001), waiting=3)
    assert shown(lower(state, 80, LOOK)).startswith("○ offline, next try in 12 s · 3 waiting to be sent · no route")
    assert shown(lower(replace(state, connection=Connection(True)), 80, LOOK)).startswith("● online · 3 waiting")


def test_the_keys_are_on_the_screen() -> None:
    assert "/help" in text(hints(talking(), 30, LOOK)) and "Ctrl-C" in text(hints(talking(), 80, LOOK))
    for name in COMMANDS:
        assert any(row.startswith(f"/{name}") for row in help_page())


@pytest.mark.parametrize(
    ("typed", "effect"),
    [
        ("/send ~/a b.txt", e.SendFile("bob", "~/a b.txt")), ("/send '/x y'", e.SendFile("bob", "/x y")),
        ("/add carol", e.Do("add", "carol")), ("/kick old phone", e.Do("kick", "old phone")),
        ("/rotate", e.Do("rotate", "bob")), ("/verify 123 45", e.Do("verify", "bob", "12345")),
        ("/block", e.Do("block", "bob")), ("/block mallory", e.Do("block", "mallory")),
        ("/accept", e.Do("accept", "eve")), ("/decline eve", e.Do("decline", "eve")), ("/devices", e.Do("devices")),
        ("/quit", e.Quit()), ("/cancel", e.Cancel(4)),
    ],
)  # fmt: skip
def test_commands(typed: str, effect: e.Effect) -> None:
    state = talking(transfers=MappingProxyType({3: Transfer("a", True), 4: Transfer("b", True)}))
    state = replace(state, contacts=MappingProxyType({**state.contacts, "eve": Contact("eve", standing="asks")}))
    if typed == "/accept":
        state = replace(state, active="")
    assert command(typed, state) == effect


@pytest.mark.parametrize(
    "typed",
    ["/nonsense", "/save", "/save 1", "/save 0", "/add", "/kick", "/accept bob", "/unblock", "/cancel", "/send"],
)
def test_what_makes_no_sense_is_said_and_given_back(typed: str) -> None:
    with pytest.raises(Unclear):
        command(typed, talking())
    state, done = update(talking(), e.Entered(typed))
    assert done == () and state.returned == typed and state.notices


@given(HOSTILE)
def test_whatever_is_typed_is_a_text_or_a_command_or_unclear(typed: str) -> None:
    update(talking(), e.Entered(typed))
    update(talking(), e.Entered("/" + typed))
    assert not is_command("//" + typed)


def test_completion() -> None:
    def listing(folder: str) -> list[tuple[str, bool]]:
        return {"": [("notes.txt", False), (".secret", False), ("new", True), ("e\x1bvil", False)],
                "~/": [("x", False)]}.get(folder, [])  # fmt: skip

    state = replace(talking(), contacts=MappingProxyType({
        "bob": Contact("bob"), "bea": Contact("bea"), "eve": Contact("eve", standing="asks"),
    }))  # fmt: skip

    def found(typed: str) -> list[str]:
        return [one.text for one in completions(typed, state, listing)]

    assert found("/de") == ["/decline ", "/devices "]
    assert sorted(found("/chat b")) == ["bea", "bob"] and found("/accept ") == ["eve"]
    assert found("/send n") == ["new/", "notes.txt"] and found("/send ~/") == ["x"] and found("/send .") == [".secret"]
    assert "e\x1bvil" not in found("/send ") and found("hello") == [] and found("/send nowhere/") == []
