"""The lines of a conversation: put together from what arrives, what was sent, and pages of the history. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

from aldis.mobile_client_demo.terminal.state import Line, Talk


def merged(talk: Talk, lines: Iterable[Line]) -> Talk:
    """With these lines, each of them once: what comes again is known by the server's number, or, if it is one's own, by
    its id."""
    all_lines = list(talk.lines)
    by_mid = {line.mid: place for place, line in enumerate(all_lines) if line.mid}
    by_id = {line.id: place for place, line in enumerate(all_lines) if line.mine and line.id}
    for line in lines:
        place = by_mid.get(line.mid) if line.mid else None
        if place is None and line.mine and line.id:
            place = by_id.get(line.id)
        if place is None:
            all_lines.append(line)
            place = len(all_lines) - 1
        else:
            all_lines[place] = _joined(all_lines[place], line)
        if all_lines[place].mid:
            by_mid[all_lines[place].mid] = place
        if all_lines[place].mine and all_lines[place].id:
            by_id[all_lines[place].id] = place
    return numbered(replace(talk, lines=_in_order(all_lines)))


def _joined(old: Line, new: Line) -> Line:
    said = old if new.problem and not old.problem else new
    return replace(
        said, key=old.key, mid=new.mid or old.mid, id=old.id or new.id, failed="" if new.mid else new.failed,
        ts=new.ts if new.mid else old.ts,
    )  # fmt: skip


def _in_order(lines: list[Line]) -> tuple[Line, ...]:
    """By the server's numbers; what was refused where it was said, what waits at the end."""
    stored = sorted((line for line in lines if line.mid), key=lambda line: line.mid)
    for line in sorted((line for line in lines if not line.mid and line.failed), key=lambda line: line.ts):
        stored.insert(bisect_right([one.ts for one in stored], line.ts), line)
    return *stored, *(line for line in lines if not line.mid and not line.failed)


def numbered(talk: Talk) -> Talk:
    known = set(talk.files)
    new = tuple(line.key for line in talk.lines if line.file is not None and line.key not in known)
    return replace(talk, files=talk.files + new) if new else talk


def settled(talk: Talk, id: str, mid: int, failed: str) -> Talk:
    """The server has answered a line of one's own."""
    lines = [
        replace(line, mid=mid or line.mid, failed="" if mid else failed) if line.mine and line.id == id else line
        for line in talk.lines
    ]
    twins = {line.mid for line in lines if line.mine and line.id == id and line.mid}
    lines = [line for line in lines if line.mid not in twins or line.id == id]
    return replace(talk, lines=_in_order(lines))


def loaded(talk: Talk, asked: int, lines: tuple[Line, ...], before: int | None) -> Talk:
    """With a page of the history. Lines of before the newest page go: between the two, something may be missing; they
    come again when one scrolls back."""
    if before is None:
        return merged(talk, lines)
    if asked == 0 and before:
        kept = tuple(line for line in talk.lines if not 0 < line.mid < before)
        keys = {line.key for line in kept}
        anchor = talk.anchor if talk.anchor is not None and talk.anchor.key in keys else None
        talk = replace(talk, lines=kept, anchor=anchor)
    return replace(merged(talk, lines), before=before, loading=False)


def newest_of_theirs(talk: Talk) -> int:
    return max((line.mid for line in talk.lines if not line.mine), default=0)


def unread_after(talk: Talk, mid: int) -> int:
    return sum(not line.mine and line.mid > mid for line in talk.lines)
