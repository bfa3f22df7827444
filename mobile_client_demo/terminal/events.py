"""What happens to the chat, and what it wants done. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.terminal.state import Anchor, Contact, Line, Standing

# From the engine


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run has left: at the start."""

    contacts: tuple[Contact, ...]
    lines: Mapping[str, tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message, or the copy of one that another device of mine has sent. It is on disk."""

    peer: str
    line: Line
    unread: bool
    """Whether it is one more that nobody has read here."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message of mine is on disk, and will leave."""

    peer: str
    line: Line


@dataclass(frozen=True, slots=True)
class Settled:
    """The server has taken it as `mid`, or refused it."""

    peer: str
    id: str
    mid: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class NotQueued:
    """It could not even be kept; `text` goes back to the input line."""

    why: str
    text: str


@dataclass(frozen=True, slots=True)
class Progressed:
    peer: str
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class Present:
    user: str
    online: bool
    last_seen: int


@dataclass(frozen=True, slots=True)
class Typing:
    user: str


@dataclass(frozen=True, slots=True)
class Linked:
    online: bool
    why: str
    retry_at: int
    waiting: int


@dataclass(frozen=True, slots=True)
class People:
    """Everybody there is, by user id: name and standing."""

    everybody: Mapping[str, tuple[str, Standing]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page of the history, which begins below `asked` (0: the newest); `before` as in `Talk`, None for what only the
    memory of this device says."""

    peer: str
    asked: int
    lines: tuple[Line, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class NotLoaded:
    peer: str
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    text: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Something longer to read."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A transfer goes on, or with `ended` is over."""

    number: int
    name: str
    sending: bool
    done: int
    whole: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    why: str


# From the keyboard and the clock


@dataclass(frozen=True, slots=True)
class Entered:
    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    user: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """To the next conversation, or the one before."""

    by: int


@dataclass(frozen=True, slots=True)
class Scrolled:
    anchor: Anchor | None
    at_top: bool


@dataclass(frozen=True, slots=True)
class Paged:
    """`Page` was scrolled."""

    top: int


@dataclass(frozen=True, slots=True)
class Escaped:
    """Away from what covers the conversation, then to the list and back."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """The list points to the next contact, or the one before."""

    by: int


@dataclass(frozen=True, slots=True)
class Resized:
    narrow: bool


@dataclass(frozen=True, slots=True)
class Ticked:
    now: int


Event = (
    Remembered | Arrived | Queued | Settled | NotQueued | Progressed | Present | Typing | Linked | People | Loaded
    | NotLoaded | Told | Answer | Moved | Over | Entered | Opened | Stepped | Scrolled | Paged | Escaped | Pointed
    | Resized | Ticked
)  # fmt: skip

# What is to be done

Deed = Literal[
    "add", "accept", "decline", "block", "unblock", "remove", "devices", "kick", "rotate", "verify", "seal"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Send:
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class SendFile:
    to: str
    path: str


@dataclass(frozen=True, slots=True)
class Save:
    file: FileMessage
    path: str


@dataclass(frozen=True, slots=True)
class Cancel:
    number: int


@dataclass(frozen=True, slots=True)
class Load:
    peer: str
    before: int


@dataclass(frozen=True, slots=True)
class SayRead:
    peer: str
    mid: int


@dataclass(frozen=True, slots=True)
class Do:
    deed: Deed
    about: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Quit:
    pass


Effect = Send | SendFile | Save | Cancel | Load | SayRead | Do | Quit
