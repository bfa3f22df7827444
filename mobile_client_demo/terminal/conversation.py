"""The rows of one conversation, and scrolling in it. Pure.

Only the lines near the screen are broken into rows: a conversation may be long.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from aldis.mobile_client_demo.terminal.events import Scrolled
from aldis.mobile_client_demo.terminal.look import Fragments, Look, size
from aldis.mobile_client_demo.terminal.state import Anchor, Contact, Line, State, Talk, Tick, tick
from aldis.mobile_client_demo.terminal.text import padded, width, wrapped

REASONS = {
    "not_friend": "this person does not take messages from you",
    "too_large": "too long: send it as a file",
    "rate": "too many at once",
    "not_sender": "not allowed to write as somebody else",
    "forbidden": "not allowed",
    "bad_payload": "the server cannot read it",
    "unknown": "the server does not know it",
}
LONGEST_NAME = 12


class Row(NamedTuple):
    key: str
    row: int
    fragments: Fragments


class _Drawn(NamedTuple):
    """What the rows of one line depend on."""

    line: Line
    peer: str
    tick: Tick
    number: int
    """Of its file."""
    day: bool
    """The first of its day."""
    columns: int
    look: Look


def conversation(state: State, columns: int, rows: int, look: Look) -> list[Fragments]:
    """Exactly so many rows, a header first; the newest at the bottom, unless it was scrolled."""
    contact = state.contacts.get(state.active)
    lines: list[Fragments] = [[("class:header", padded(_header(state, contact, look), columns, look.line("…")))]]
    room = rows - 1
    if contact is None:
        said = look.line("Ctrl-N opens the next conversation, /help says the rest.")
        lines += [[("class:dim", row)] for row in wrapped(said, columns)][:room]
        return lines + [[] for _ in range(room - len(lines) + 1)]
    shown = [row.fragments for row in visible(state, columns, room, look)]
    return (lines + [[] for _ in range(room - len(shown))] + shown)[:rows]


def _header(state: State, contact: Contact | None, look: Look) -> str:
    if contact is None:
        return look.line("Aldis")
    name = contact.user + (f" ({contact.name})" if contact.name and contact.name != contact.user else "")
    there = {"asks": "asks to be your friend", "asked": "has not accepted yet", "blocked": "blocked", "self": "notes",
             "past": "no friend any more"}.get(contact.standing)  # fmt: skip
    if there is None:
        there = (
            "online" if contact.online else look.seen(contact.last_seen, state.now) if contact.online is False else ""
        )
        there = "typing…" if state.now < contact.typing_until else there
    scrolled = "scrolled back, PgDn" if state.talk.anchor is not None else ""
    loading = "loading…" if state.talk.loading else ""
    return look.line(" · ".join(part for part in (name, there, loading, scrolled) if part))


def visible(state: State, columns: int, rows: int, look: Look) -> list[Row]:
    """The rows on the screen, at most `rows`."""
    found: list[Row] = []
    for row in _upwards(state, columns, look):
        found.append(row)
        if len(found) == rows:
            break
    if len(found) < rows and state.talk.anchor is not None:
        below = [row for row, _ in zip(_downwards(state, columns, look), range(rows - len(found)), strict=False)]
        return found[::-1] + below
    return found[::-1]


def scrolled(state: State, columns: int, rows: int, by: int, look: Look) -> Scrolled:
    """`by` rows up, or down where it is negative."""
    talk = state.talk
    if by < 0:
        below = [row for row, _ in zip(_downwards(state, columns, look), range(-by + 1), strict=False)]
        if len(below) <= -by:
            return Scrolled(None, at_top=False)
        return Scrolled(Anchor(below[-2].key, below[-2].row), at_top=False)
    above = [row for row, _ in zip(_upwards(state, columns, look), range(rows + by), strict=False)]
    if len(above) <= rows:
        return Scrolled(talk.anchor, at_top=True)
    lowest = above[min(by, len(above) - rows)]
    return Scrolled(Anchor(lowest.key, lowest.row), at_top=len(above) < rows + by)


def _upwards(state: State, columns: int, look: Look) -> Iterator[Row]:
    """From the anchor, or the end, to the beginning."""
    talk = state.talk
    place, last = _place(talk)
    while place >= 0:
        rows = _rows(state, talk, place, columns, look)
        yield from rows[: last + 1][::-1] if last is not None else rows[::-1]
        place, last = place - 1, None


def _downwards(state: State, columns: int, look: Look) -> Iterator[Row]:
    """From below the anchor to the end."""
    talk = state.talk
    if talk.anchor is None:
        return
    place, last = _place(talk)
    while place < len(talk.lines):
        rows = _rows(state, talk, place, columns, look)
        yield from rows[last + 1 :] if last is not None else rows
        place, last = place + 1, None


def _place(talk: Talk) -> tuple[int, int | None]:
    """Of the lowest row: which line, and which row of it, None for the last."""
    if talk.anchor is not None:
        for place, line in enumerate(talk.lines):
            if line.key == talk.anchor.key:
                return place, talk.anchor.row
    return len(talk.lines) - 1, None


def _rows(state: State, talk: Talk, place: int, columns: int, look: Look) -> list[Row]:
    line = talk.lines[place]
    new_day = place == 0 or look.day(talk.lines[place - 1].ts) != look.day(line.ts)
    number = talk.files.index(line.key) + 1 if line.file is not None and line.key in talk.files else 0
    drawn = _Drawn(line, state.active, tick(line, state.contacts.get(state.active)), number, new_day, columns, look)
    return [Row(line.key, row, fragments) for row, fragments in enumerate(_drawn(drawn))]


@lru_cache(4_096)
def _drawn(one: _Drawn) -> tuple[Fragments, ...]:
    line, columns, look = one.line, one.columns, one.look
    rows: list[Fragments] = []
    if one.day:
        said = f" {look.day(line.ts)} "
        side = look.line("─") * max(0, (columns - width(said)) // 2)
        rows.append([("class:day", padded(f"{side}{said}{side}", columns, ""))])
    clock = look.clock(line.ts) + " "
    peer = look.line(one.peer)
    cells = min(LONGEST_NAME, max(2, columns // 6), max(2, width(peer)))
    name = padded("me" if line.mine else peer, cells, look.line("…")) + " "
    indent = width(clock) + width(name)
    if indent > columns // 2:
        clock, indent = "", width(name)
    style, pieces = _said(one, columns - indent)
    head: Fragments = [("class:time", clock), ("class:me" if line.mine else "class:peer", name)]
    for place, piece in enumerate(pieces):
        rows.append([*(head if place == 0 else [("", " " * indent)]), (style, piece)])
    mark_style, mark = look.ticks(one.tick)
    if line.failed:
        mark += " " + look.line(REASONS.get(line.failed, line.failed))
    if mark:
        if indent + width(pieces[-1]) + 1 + width(mark) <= columns:
            rows[-1].append((mark_style, " " + mark))
        else:
            rows += [[("", " " * indent), (mark_style, piece)] for piece in wrapped(mark, columns - indent)]
    return tuple(rows)


def _said(one: _Drawn, cells: int) -> tuple[str, tuple[str, ...]]:
    line, look = one.line, one.look
    if line.problem:
        return "class:problem", wrapped(look.line(f"cannot be read here: {line.problem}"), cells)
    if line.file is not None:
        said = f"[{one.number}] {line.file.name}, {size(line.file.size)}"
        return "class:file", wrapped(look.line(said if line.mine else f"{said} – /save {one.number}"), cells)
    if line.kind != "text":
        return "class:dim", wrapped(look.lines(f"({line.kind[:40]}) {line.text}"), cells)
    return "class:text", wrapped(look.lines(line.text), cells)
