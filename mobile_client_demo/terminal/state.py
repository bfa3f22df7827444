"""What the chat knows and shows. Values only: `update` makes the next state out of one and an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from aldis.mobile_client_demo.files import FileMessage

Standing = Literal["friend", "blocked", "asks", "asked", "self", "past"]
Tick = Literal["", "waiting", "sent", "delivered", "read", "failed"]


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a conversation, as it was written; nothing here is fit for a terminal yet."""

    key: str
    """Its name in the conversation, which stays the same when the server has given it a number."""
    mine: bool
    ts: int
    """Milliseconds."""
    text: str = ""
    mid: int = 0
    """The server's number, 0 until it has one."""
    id: str = ""
    """Of what this device has sent."""
    kind: str = "text"
    file: FileMessage | None = None
    problem: str = ""
    """Why it cannot be read."""
    failed: str = ""
    """Why the server does not take it."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The lowest row on the screen, by line and row of that line: what arrives meanwhile moves nothing."""

    key: str
    row: int


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation, oldest line first: by the server's numbers, then what has none yet."""

    lines: tuple[Line, ...] = ()
    files: tuple[str, ...] = ()
    """The lines with files by the numbers that were given to them on the screen, from 1 on; they stay."""
    loading: bool = False
    before: int | None = None
    """Where the history goes on above; None until it was asked for, 0 where nothing is above."""
    anchor: Anchor | None = None
    """None: at the bottom."""
    failed_at: int = 0
    """When the newest page could not be had."""


@dataclass(frozen=True, slots=True)
class Contact:
    user: str
    name: str = ""
    standing: Standing = "friend"
    online: bool | None = None
    last_seen: int = 0
    typing_until: int = 0
    unread: int = 0
    delivered: int = 0
    read: int = 0
    shown: int = 0
    """The highest number of this contact's messages that was on the screen."""


@dataclass(frozen=True, slots=True)
class Transfer:
    name: str
    sending: bool
    done: int = 0
    whole: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    online: bool = False
    why: str = "connecting"
    retry_at: int = 0
    """Milliseconds, 0 while an attempt is under way."""


@dataclass(frozen=True, slots=True)
class Notice:
    text: str
    bad: bool
    until: int


@dataclass(frozen=True, slots=True)
class Page:
    """Something to read in place of the conversation, until Escape."""

    title: str
    lines: tuple[str, ...]
    top: int = 0


@dataclass(frozen=True, slots=True)
class State:
    me: str
    device: str
    now: int
    contacts: Mapping[str, Contact] = field(default_factory=lambda: MappingProxyType({}))
    talks: Mapping[str, Talk] = field(default_factory=lambda: MappingProxyType({}))
    active: str = ""
    """Whose conversation is open; empty for none."""
    narrow: bool = False
    """There is room for one pane only."""
    listing: bool = True
    """Whether, where there is room for one pane, it is the contacts."""
    chosen: str = ""
    """The contact that the list points to."""
    connection: Connection = Connection()
    waiting: int = 0
    """Messages in the outbox."""
    transfers: Mapping[int, Transfer] = field(default_factory=lambda: MappingProxyType({}))
    notices: tuple[Notice, ...] = ()
    """The latest at the end; each until its time is over."""
    page: Page | None = None
    returned: str = ""
    """A text that could not be taken, for the input line."""
    returns: int = 0
    """How often that happened."""
    over: str = ""
    """Why the chat cannot go on."""

    @property
    def talk(self) -> Talk:
        return self.talks.get(self.active, Talk())


def tick(line: Line, contact: Contact | None) -> Tick:
    """How far a line of one's own has come."""
    if not line.mine:
        return ""
    if line.failed:
        return "failed"
    if not line.mid:
        return "waiting"
    if contact is None or contact.standing == "self":
        return "sent"
    if line.mid <= contact.read:
        return "read"
    return "delivered" if line.mid <= contact.delivered else "sent"


def ordered(state: State) -> list[Contact]:
    """As they stand in the list: who asks, then by the last message, then by name, oneself at the end."""

    def place(contact: Contact) -> tuple[bool, bool, int, bool, str]:
        lines = state.talks.get(contact.user, Talk()).lines
        last = lines[-1].ts if lines else 0
        return contact.standing != "asks", not lines, -last, contact.standing == "self", contact.user

    return sorted(state.contacts.values(), key=place)


def pointed(state: State) -> str:
    """The contact that the list points to: the first, before anything was chosen."""
    if state.chosen in state.contacts:
        return state.chosen
    return next((contact.user for contact in ordered(state)), "")
