"""How things look on this terminal: which characters it can show, and with colours or without. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from aldis.mobile_client_demo.terminal.state import Tick
from aldis.mobile_client_demo.terminal.text import encodable, plain

Fragment = tuple[str, str]
"""A style, and a text of one line."""
Fragments = list[Fragment]
_ASCII = str.maketrans(
    {"…": "...", "✓": "+", "✗": "x", "─": "-", "│": "|", "●": "*", "○": "o", "↑": "^", "↓": "v", "█": "#", "░": ".",
     "·": "-", "–": "-", "’": "'", "\ufffd": "?"}
)  # fmt: skip
_LATEST = 253_402_214_400_000
"""The last day of the year 9999 but one, beyond which there are no dates in some places."""


@dataclass(frozen=True, slots=True)
class Look:
    codec: str = "utf-8"
    colours: bool = True
    zone: tzinfo | None = None
    """None: that of this machine."""

    def line(self, text: str) -> str:
        """Whatever it is, fit for one line of this terminal."""
        return self._shown(plain(text))

    def lines(self, text: str) -> str:
        return self._shown(plain(text, lines=True))

    def _shown(self, text: str) -> str:
        return text if self.codec == "utf-8" else encodable(text.translate(_ASCII), self.codec)

    def ticks(self, tick: Tick) -> Fragment:
        """A read message is told by its colour; where there are none, in a word."""
        mark = {"waiting": "…", "sent": "✓", "delivered": "✓✓", "read": "✓✓", "failed": "✗"}.get(tick, "")
        if tick == "read" and (not self.colours or self.codec != "utf-8"):
            mark += " read"
        return f"class:tick.{tick}", self.line(mark)

    def moment(self, ts: int) -> datetime:
        return datetime.fromtimestamp(min(max(ts, 0), _LATEST) / 1000, UTC).astimezone(self.zone)

    def clock(self, ts: int) -> str:
        return f"{self.moment(ts):%H:%M}"

    def day(self, ts: int) -> str:
        moment = self.moment(ts)
        return f"{moment:%A}, {moment.day} {moment:%B %Y}"

    def seen(self, ts: int, now: int) -> str:
        """When somebody was there last."""
        if not ts:
            return "offline"
        then, today = self.moment(ts), self.moment(now)
        return f"last seen {then:%H:%M}" if then.date() == today.date() else f"last seen {then:%d.%m.%Y %H:%M}"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def codec_of(environment: Mapping[str, str]) -> str:
    """What the locale says that the terminal can show. Python itself would take UTF-8 for the locale `C`, and writes
    that into LC_CTYPE when only LANG says so."""
    overall, types, language = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    if types == "C.UTF-8" and not overall and language in ("C", "POSIX"):
        types = ""
    said = overall or types or language
    if not said:
        return "utf-8"
    name = said.partition(".")[2].partition("@")[0].lower().replace("-", "").replace("_", "")
    if name == "utf8":
        return "utf-8"
    return "latin-1" if name.startswith("iso88591") else "ascii"
