"""Prints a run as it happens: one lane per person, one line per event, ticks for sent, delivered and read.

Colours only on a terminal (and not with NO_COLOR), plain ASCII signs where the output cannot carry others.
Long bursts are shown by their first lines and counted after that; nothing is left out of the journal.
"""

from __future__ import annotations

import os
import shutil
import threading
import unicodedata
from collections import Counter
from typing import TextIO

from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    Event,
    Journal,
    Malformed,
    Published,
    ReadSaid,
    ReceiptArrived,
    Subscribed,
)
from aldis.mobile_client_demo.promises import Promise

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
SIGNS = {"out": "▶", "in": "◀", "tick": "✓", "cross": "✗", "line": "─", "bar": "│", "dots": "…"}
ASCII_SIGNS = {"out": ">", "in": "<", "tick": "v", "cross": "x", "line": "-", "bar": "|", "dots": "..."}
LINES_PER_BURST = 8
"""Lines of one sort that one device gets in one scene before the rest is only counted."""


class Transcript:
    """Writes to `out`. A reader that goes away (a closed pipe) ends the printing, not the run."""

    def __init__(self, out: TextIO, journal: Journal, *, width: int | None = None) -> None:
        self._out, self._journal = out, journal
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self._signs = SIGNS if _can_print(out, "".join(SIGNS.values())) else ASCII_SIGNS
        columns = width or shutil.get_terminal_size((110, 24)).columns
        self._lane_width = max(34, min(60, (columns - 12) // 2))
        self._lanes: dict[str, int] = {}
        self._lines: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.RLock()
        self._closed = False
        journal.listen(self._event)

    def add_lane(self, user: str) -> None:
        """Gives the user the next lane, left first."""
        self._lanes[user] = len(self._lanes)

    def title(self, text: str) -> None:
        self._write(self._paint("bold", text) + "\n")

    def scene(self, number: int, text: str) -> None:
        """Closes the scene before and opens the next one."""
        self._close_burst()
        head = f"{self._signs['line'] * 2} {number}  {text} "
        self._write("\n" + self._paint("bold", head.ljust(2 * self._lane_width + 12, self._signs["line"])) + "\n")

    def line(self, user: str, text: str, colour: str = "") -> None:
        """A line in the lane of `user`, stamped with the seconds since the run began."""
        left, bar = " " * self._lane_width, self._paint("dim", self._signs["bar"])
        lane = self._lanes.get(user, 0)
        clipped = self._clip(text)
        painted = self._paint(colour, clipped)
        stamp = self._paint("dim", f"{self._journal.now():8.3f}")
        if lane == 0:
            padding = " " * (self._lane_width - _width(clipped))
            self._write(f"{stamp}  {painted}{padding} {bar}\n")
        else:
            self._write(f"{stamp}  {left} {bar} {painted}\n")

    def broken(self, text: str) -> None:
        self._write(self._paint("red", f"          {self._signs['cross']} BROKEN: {text}") + "\n")

    def promises(self, promises: list[Promise]) -> None:
        """The final list: every promise, ok or BROKEN with what was seen."""
        self._close_burst()
        self._write("\n" + self._paint("bold", "Promises") + "\n")
        for promise in promises:
            if promise.kept:
                self._write(f"  {self._paint('green', 'ok    ')}  {promise.words}\n")
            else:
                self._write(f"  {self._paint('red', 'BROKEN')}  {promise.words}\n")
                self._write(f"          {self._paint('red', promise.problem or '')}\n")
        broken = sum(not promise.kept for promise in promises)
        if broken:
            verdict = self._paint("red", f"{broken} of {len(promises)} promises broken")
        else:
            verdict = self._paint("green", f"all {len(promises)} promises kept")
        self._write(f"\n{verdict} in {self._journal.now():.1f} s\n")

    # Events

    def _event(self, event: Event) -> None:
        described = self._describe(event)
        if described is None:
            return
        sort, text, colour = described
        key = (event.user, event.device, sort)
        with self._lock:
            self._lines[key] += 1
            if self._lines[key] <= LINES_PER_BURST:
                self.line(event.user, f"{event.device:<6} {text}", colour)

    def _describe(self, event: Event) -> tuple[str, str, str] | None:
        signs = self._signs
        match event:
            case Subscribed():
                return "here", "online" + (", session resumed" if event.resumed else ""), "green"
            case Disconnected():
                return "gone", f"offline: {event.because}", "yellow"
            case Published():
                number = "" if event.seq is None else f"  seq {event.seq}"
                again = "again: " if event.again else ""
                return "published", f"{signs['out']} {again}“{event.text}”{number}", "cyan"
            case Arrived():
                return self._describe_item(event)
            case ReadSaid():
                return "app", f"the app shows all up to {event.up_to}", "dim"
            case ReceiptArrived():
                return self._describe_receipt(event)
            case Malformed():
                return "malformed", f"{signs['cross']} {event.problem}", "red"
        return None

    def _describe_item(self, event: Arrived) -> tuple[str, str, str]:
        item, sign = event.item, self._signs["in"]
        if event.repeated:
            return "repeat", f"{sign} n {item.n} again, dropped", "dim"
        if item.kind == "system":
            return "system", f"{sign} n {item.n}  server: {item.content.get('type', 'a word')}", "dim"
        words = "unreadable" if event.text is None else f"“{event.text}”"
        if item.kind == "sync":
            return "sync", f"{sign} n {item.n}  copy of my {item.device}: {words}", ""
        return "chat", f"{sign} n {item.n}  {words}", ""

    def _describe_receipt(self, event: ReceiptArrived) -> tuple[str, str, str]:
        receipt, tick = event.receipt, self._signs["tick"]
        match receipt.type:
            case "sent":
                return "sent", f"  {tick} sent  mid {receipt.mid}", "dim"
            case "delivered":
                return "delivered", f"  {tick}{tick} delivered up to {receipt.up_to}", ""
            case "read":
                return "read", f"  {tick}{tick} read up to {receipt.up_to}", "blue"
            case _:
                return "failed", f"  {self._signs['cross']} failed: {receipt.reason}", "yellow"

    def _close_burst(self) -> None:
        with self._lock:
            for (user, device, sort), lines in self._lines.items():
                if lines > LINES_PER_BURST:
                    more = lines - LINES_PER_BURST
                    self.line(user, f"{device:<6} {self._signs['dots']} and {more} more {sort}", "dim")
            self._lines.clear()

    # Output

    def _clip(self, text: str) -> str:
        plain = (
            text
            if self._signs is SIGNS
            else text.replace("“", '"').replace("”", '"').encode("ascii", "replace").decode()
        )
        if _width(plain) <= self._lane_width:
            return plain
        while _width(plain) > self._lane_width - len(self._signs["dots"]):
            plain = plain[:-1]
        return plain + self._signs["dots"]

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self._colour and colour else text

    def _write(self, text: str) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                self._out.write(text)
                self._out.flush()
            except BrokenPipeError:
                self._closed = True


def _can_print(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "utf-8")  # a StringIO has none and takes all
    except UnicodeError:
        return False
    return True


def _width(text: str) -> int:
    """Columns on a terminal: East Asian signs and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
