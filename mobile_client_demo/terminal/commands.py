"""What one types after a slash: what it means, and how Tab completes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aldis.mobile_client_demo.terminal.events import (
    Cancel,
    Deed,
    Do,
    Effect,
    Quit,
    Save,
    SendFile,
)  # fmt: skip
from aldis.mobile_client_demo.terminal.state import Standing, State, ordered


class Unclear(Exception):
    """It cannot be done as it was typed; the text says what is wrong, for the one who typed it."""


class Word(NamedTuple):
    usage: str
    meaning: str


COMMANDS = {
    "chat": Word("/chat USER", "open a conversation"),
    "add": Word("/add USER", "ask somebody to be a friend"),
    "accept": Word("/accept [USER]", "take a request of friendship"),
    "decline": Word("/decline [USER]", "refuse one; nobody is told"),
    "send": Word("/send PATH", "send a file, encrypted"),
    "save": Word("/save N [PATH]", "fetch file N of this conversation; goes on where it broke off"),
    "cancel": Word("/cancel", "stop the newest transfer (Ctrl-X)"),
    "block": Word("/block [USER]", "nobody writes to nobody"),
    "unblock": Word("/unblock [USER]", "take it back"),
    "remove": Word("/remove [USER]", "end the friendship"),
    "devices": Word("/devices", "your devices"),
    "kick": Word("/kick DEVICE", "log a device of yours out, and remove it"),
    "rotate": Word("/rotate", "a new key for this conversation"),
    "verify": Word("/verify [NUMBER]", "show the safety number, or confirm that the friend sees the same"),
    "seal": Word("/seal", "keys that the server does not know, when both want it"),
    "help": Word("/help", "this page"),
    "quit": Word("/quit", "leave; what waits is sent the next time"),
}
KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, Ctrl-J", "a new line"),
    ("PageUp, PageDown", "scroll; the history is loaded on the way up"),
    ("Ctrl-P, Ctrl-N", "the conversation before, the next one"),
    ("Tab", "complete commands, people and paths"),
    ("Esc", "close a page; on a narrow screen, to the list and back"),
    ("Up, Down", "in the list, on a narrow screen: choose; Enter opens"),
    ("Ctrl-X", "stop the newest transfer"),
    ("Ctrl-L", "paint the screen anew"),
    ("Ctrl-C, Ctrl-Q", "leave; Ctrl-C first empties the input line"),
    ("//…", "send a text that begins with a slash"),
)
_ABOUT: dict[str, tuple[Deed, tuple[Standing, ...]]] = {
    "accept": ("accept", ("asks",)),
    "decline": ("decline", ("asks",)),
    "block": ("block", ("friend", "asks", "asked", "past")),
    "unblock": ("unblock", ("blocked",)),
    "remove": ("remove", ("friend",)),
}
"""Commands about a user, the active one unless another is named; and about whom they make sense."""


@dataclass(frozen=True, slots=True)
class Open:
    user: str


@dataclass(frozen=True, slots=True)
class Help:
    pass


def help_page() -> tuple[str, ...]:
    wide = max(len(word.usage) for word in COMMANDS.values())
    keys = max(len(key) for key, _ in KEYS)
    return (
        *(f"{word.usage:{wide}}  {word.meaning}" for word in COMMANDS.values()),
        "",
        *(f"{key:{keys}}  {meaning}" for key, meaning in KEYS),
    )


def is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//") and "\n" not in text.strip()


def command(text: str, state: State) -> Effect | Open | Help:  # noqa: PLR0911 - one line for each
    """Raises `Unclear`."""
    name, _, rest = text.strip()[1:].partition(" ")
    rest = rest.strip()
    if name not in COMMANDS:
        raise Unclear(f"there is no /{name}; /help lists what there is, and // sends a text that begins with /")
    match name:
        case "help":
            return Help()
        case "quit":
            return Quit()
        case "chat":
            if _wanted(name, rest) not in state.contacts:
                raise Unclear(f"{rest} is not among your contacts; /add asks")
            return Open(rest)
        case "add":
            return Do("add", _wanted(name, rest))
        case "devices":
            return Do("devices")
        case "kick":
            return Do("kick", _wanted(name, rest))
        case "cancel":
            if not state.transfers:
                raise Unclear("nothing is being transferred")
            return Cancel(max(state.transfers))
        case "rotate" | "verify" | "seal":
            return Do(name, _friend(state), "".join(rest.split()))
        case "send":
            return SendFile(_reachable(state), _unquoted(_wanted(name, rest)))
        case "save":
            return _save(state, rest)
    return _about(state, name, rest)


def _about(state: State, name: str, rest: str) -> Effect:
    deed, standings = _ABOUT[name]
    user = rest or state.active
    if not user and name in ("accept", "decline"):
        asking = [contact.user for contact in state.contacts.values() if contact.standing == "asks"]
        user = asking[0] if len(asking) == 1 else ""
    contact = state.contacts.get(user or "")
    if not user:
        raise Unclear(f"whom? {COMMANDS[name].usage}")
    if contact is None or contact.standing not in standings:
        if name == "block" and contact is None:
            return Do(deed, user)
        raise Unclear(f"/{name} does not fit {user}")
    return Do(deed, user)


def _save(state: State, rest: str) -> Save:
    number, _, path = rest.partition(" ")
    files = state.talk.files
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= len(files):
        raise Unclear(f"which file? {COMMANDS['save'].usage}, N from 1 to {len(files)}" if files else "no files here")
    file = next((line.file for line in state.talk.lines if line.key == files[int(number) - 1]), None)
    if file is None:
        raise Unclear("scroll back to that file first")
    return Save(file, _unquoted(path.strip()))


def _wanted(name: str, rest: str) -> str:
    if not rest:
        raise Unclear(COMMANDS[name].usage)
    return rest


def _friend(state: State) -> str:
    contact = state.contacts.get(state.active)
    if contact is None or contact.standing != "friend":
        raise Unclear("open the conversation with a friend first")
    return contact.user


def _reachable(state: State) -> str:
    if state.active == state.me:
        return state.me
    return _friend(state)


def _unquoted(path: str) -> str:
    """Terminals put quotes around a path that was dropped on them."""
    return path[1:-1] if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"" else path


class Completion(NamedTuple):
    """`text` in place of the last `back` characters."""

    text: str
    back: int


Listing = Callable[[str], Iterable[tuple[str, bool]]]
"""The names in a folder, and which of them are folders themselves; nothing where it cannot be read."""


def completions(text: str, state: State, listing: Listing) -> list[Completion]:
    """For what stands before the cursor."""
    if not is_command(text):
        return []
    name, space, rest = text[1:].partition(" ")
    if not space:
        return [Completion(f"/{one} ", len(text)) for one in COMMANDS if one.startswith(name)]
    rest = rest.lstrip()
    if name in ("chat", *_ABOUT):
        fitting = _ABOUT[name][1] if name in _ABOUT else None
        users = [contact.user for contact in ordered(state) if fitting is None or contact.standing in fitting]
        return [Completion(user, len(rest)) for user in users if user.startswith(rest)]
    if name == "send":
        return _paths(rest, listing)
    if name == "save":
        number, space, path = rest.partition(" ")
        if space:
            return _paths(path.lstrip(), listing)
        return [
            Completion(str(n + 1), len(rest)) for n in range(len(state.talk.files)) if str(n + 1).startswith(number)
        ]
    return []


def _paths(path: str, listing: Listing) -> list[Completion]:
    folder, slash, beginning = path.rpartition("/")
    names = sorted(listing(folder + slash))
    return [
        Completion(f"{name}/" if is_folder else name, len(beginning))
        for name, is_folder in names
        if name.startswith(beginning) and (beginning or not name.startswith(".")) and name.isprintable()
    ]
