"""The screen out of the state: lists of styled lines of an exact size. Pure; knows no terminal."""

from __future__ import annotations

from aldis.mobile_client_demo.terminal.conversation import conversation
from aldis.mobile_client_demo.terminal.look import Fragments, Look, size
from aldis.mobile_client_demo.terminal.state import Contact, State, Talk, Transfer, ordered, pointed
from aldis.mobile_client_demo.terminal.text import cut, padded, width, wrapped

NARROW = 60
"""Below so many columns there is room for one pane."""
LIST = 28
BAR = 20
HINTS = (
    "Enter send", "/help", "Ctrl-C leave", "Ctrl-N/P chats", "PgUp history", "Alt-Enter new line", "Tab complete",
    "/send FILE",
)  # fmt: skip
HINTS_NARROW = ("/help", "Esc list", "Ctrl-N/P chats", "PgUp")


def upper(state: State, columns: int, rows: int, look: Look) -> list[Fragments]:
    """Contacts and conversation beside each other, or one of them."""
    if state.narrow:
        return contacts(state, columns, rows, look) if _listing(state) else _main(state, columns, rows, look)
    left, right = contacts(state, LIST, rows, look), _main(state, columns - LIST - 1, rows, look)
    bar = ("class:border", look.line("│"))
    return [[*one, bar, *other] for one, other in zip(left, right, strict=True)]


def _listing(state: State) -> bool:
    return state.listing and state.page is None


def _main(state: State, columns: int, rows: int, look: Look) -> list[Fragments]:
    if state.page is not None:
        return page(state, columns, rows, look)
    return conversation(state, columns, rows, look)


def page_rows(state: State, columns: int, look: Look) -> list[str]:
    """The lines of the page that is to be read, as they are broken here."""
    return [] if state.page is None else [
        row for line in state.page.lines for row in wrapped(look.line(line), columns)
    ]  # fmt: skip


def page(state: State, columns: int, rows: int, look: Look) -> list[Fragments]:
    assert state.page is not None
    lines = page_rows(state, columns, look)
    top = max(0, min(state.page.top, len(lines) - rows + 1))
    more = "Esc closes, PgDn goes on" if len(lines) - top > rows - 1 else "Esc closes"
    title = look.line(f"{state.page.title} – {more}")
    shown: list[Fragments] = [[("class:header", padded(title, columns, look.line("…")))]]
    shown += [[("class:page", line)] for line in lines[top : top + rows - 1]]
    return _filled(shown, rows)[:rows]


def contacts(state: State, columns: int, rows: int, look: Look) -> list[Fragments]:
    """Two rows each; what does not fit is scrolled so that the chosen one is seen."""
    everybody = ordered(state)
    title = look.line(f"{state.me} – {len(everybody)} contacts" if everybody else state.me)
    lines: list[Fragments] = [[("class:header", padded(title, columns, look.line("…")))]]
    if not everybody and rows > 2:
        lines.append([("class:dim", padded(look.line("/add USER asks somebody"), columns))])
    room = max(1, (rows - 1) // 2)
    users = [contact.user for contact in everybody]
    here = pointed(state) if state.narrow else state.active
    at = users.index(here) if here in users else 0
    first = max(0, min(at - room // 2, len(users) - room))
    for contact in everybody[first : first + room]:
        lines += _contact(state, contact, columns, look, here=contact.user == here)
    return [*_filled(lines[:rows], rows, columns)]


def _contact(state: State, contact: Contact, columns: int, look: Look, *, here: bool) -> list[Fragments]:
    mark = {True: "●", False: "○"}.get(contact.online or False, "○") if contact.standing == "friend" else " "
    mark = " " if contact.online is None else mark
    lines = state.talks.get(contact.user, Talk()).lines
    right = f" {contact.unread}" if contact.unread else f" {look.clock(lines[-1].ts)}" if lines else ""
    name = contact.user + (f" {contact.name}" if contact.name and contact.name != contact.user else "")
    left = padded(look.line(name), columns - 2 - width(right) - 1, look.line("…"))
    style = "class:chosen" if here else "class:contact"
    first = [
        ("class:here" if contact.online else style, look.line(mark) + " "), (style, left),
        ("class:unread" if contact.unread else "class:dim", right + " "),
    ]  # fmt: skip
    return [first, [("class:dim", padded("  " + look.line(_last(state, contact)), columns, look.line("…")))]]


def _last(state: State, contact: Contact) -> str:
    if state.now < contact.typing_until:
        return "typing…"
    standing = {
        "asks": "wants to be a friend: /accept", "asked": "asked, no answer yet", "blocked": "blocked",
        "past": "no friend any more", "self": "notes to yourself",
    }.get(contact.standing, "")  # fmt: skip
    lines = state.talks.get(contact.user, Talk()).lines
    if standing and (contact.standing != "self" or not lines):
        return standing
    if not lines:
        return ""
    line = lines[-1]
    said = line.file.name if line.file else line.text if not line.problem else "cannot be read"
    return f"me: {said[:200]}" if line.mine else said[:200]


def lower(state: State, columns: int, look: Look, most: int = 3) -> list[Fragments]:
    """Transfers and notices, at most so many rows of each, and how it stands."""
    lines = [_transfer(one, columns, look) for one in list(state.transfers.values())[-most:]]
    told: list[Fragments] = []
    for one in state.notices:
        style = "class:bad" if one.bad else "class:notice"
        told += [[(style, padded(piece, columns))] for piece in wrapped(look.line(one.text), columns)[:3]]
    return [*lines, *told[-most:], status(state, columns, look)]


def _transfer(one: Transfer, columns: int, look: Look) -> Fragments:
    share = one.done / one.whole if one.whole else 0.0
    bar = min(BAR, max(4, columns // 4))
    filled = round(share * bar)
    told = f" {share:4.0%} {size(one.done)} of {size(one.whole)}"
    shown = look.line("█" * filled + "░" * (bar - filled))
    room = columns - width(shown) - len(told) - 3
    name = padded(look.line(one.name), max(0, room), look.line("…"))
    arrow = look.line("↑" if one.sending else "↓")
    return [("class:transfer", cut(f"{arrow} {name} {shown}{told}", columns, ""))]


def status(state: State, columns: int, look: Look) -> Fragments:
    connection = state.connection
    if connection.online:
        said, style = "● online", "class:online"
    else:
        left = -(-max(0, connection.retry_at - state.now) // 1000)
        again = f", next try in {left} s" if connection.retry_at and left else ", trying"
        said, style = f"○ offline{again}", "class:offline"
    parts = [said]
    if state.waiting:
        parts.append(f"{state.waiting} waiting to be sent")
    unread = sum(contact.unread for user, contact in state.contacts.items() if user != state.active)
    if unread:
        parts.append(f"{unread} unread")
    if not connection.online and connection.why:
        parts.append(connection.why)
    return [(style, padded(look.line(" · ".join(parts)), columns, look.line("…")))]


def hints(state: State, columns: int, look: Look) -> Fragments:
    """As many key bindings as fit, the ones that one needs first."""
    said = ""
    for hint in HINTS_NARROW if state.narrow else HINTS:
        longer = f"{said} · {hint}" if said else hint
        if width(look.line(longer)) > columns:
            break
        said = longer
    return [("class:hints", padded(look.line(said), columns))]


def _filled(lines: list[Fragments], rows: int, columns: int = 0) -> list[Fragments]:
    return lines + [[("", " " * columns)] for _ in range(rows - len(lines))]
