"""The next state out of one and an event, and what is to be done because of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.commands import Help, Open, Unclear, command, help_page, is_command
from aldis.mobile_client_demo.terminal.state import (
    Connection,
    Contact,
    Notice,
    Page,
    State,
    Talk,
    Transfer,
    ordered,
    pointed,
)  # fmt: skip
from aldis.mobile_client_demo.terminal.talks import loaded, merged, newest_of_theirs, settled, unread_after

NOTICES = 3
SHOWN_FOR = 8_000
BAD_FOR = 20_000
TYPING_FOR = 5_000
RETRY = 10_000
"""Milliseconds: how long a notice stands, how long somebody counts as typing, when a page is asked for again."""

Effects = tuple[e.Effect, ...]
Step = tuple[State, Effects]


def update(state: State, event: e.Event) -> Step:
    """What may be on the screen afterwards counts as shown to the one who sits there."""
    state, effects = _STEPS[type(event)](state, event)
    state, more = _load_newest(state)
    state, read = _seen(state)
    return state, (*effects, *more, *read)


def notice(state: State, text: str, *, bad: bool = False) -> State:
    """Beside those that stand there: what the server tells a moment later covers no answer."""
    others = tuple(one for one in state.notices if one.text != text)
    new = Notice(text, bad, state.now + (BAD_FOR if bad else SHOWN_FOR))
    return replace(state, notices=(*others, new)[-NOTICES:])


def _contact(state: State, user: str, **changes: Any) -> State:
    contact = state.contacts.get(user) or Contact(user, standing="self" if user == state.me else "past")
    return replace(state, contacts=MappingProxyType({**state.contacts, user: replace(contact, **changes)}))


def _talk(state: State, user: str, talk: Talk) -> State:
    return replace(state, talks=MappingProxyType({**state.talks, user: talk}))


def _load_newest(state: State) -> Step:
    """The open conversation wants its newest page, once; again later where that failed."""
    talk, peer = state.talk, state.active
    if not peer or talk.before is not None or talk.loading:
        return state, ()
    if talk.failed_at and (not state.connection.online or state.now - talk.failed_at < RETRY):
        return state, ()
    return _talk(state, peer, replace(talk, loading=True)), (e.Load(peer, 0),)


def _seen(state: State) -> Step:
    contact = state.contacts.get(state.active)
    hidden = state.page is not None or (state.narrow and state.listing) or state.talk.anchor is not None
    if contact is None or hidden:
        return state, ()
    newest = newest_of_theirs(state.talk)
    if newest <= contact.shown and not contact.unread:
        return state, ()
    state = _contact(state, contact.user, shown=max(newest, contact.shown), unread=0)
    return state, () if contact.standing == "self" or not newest else (e.SayRead(contact.user, newest),)


# From the engine


def _remembered(state: State, event: e.Remembered) -> Step:
    state = replace(state, contacts=MappingProxyType({one.user: one for one in event.contacts}))
    talks = {peer: merged(Talk(), lines) for peer, lines in event.lines.items()}
    return replace(state, talks=MappingProxyType(talks)), ()


def _arrived(state: State, event: e.Arrived) -> Step:
    peer, line = event.peer, event.line
    state = _contact(_talk(state, peer, merged(state.talks.get(peer, Talk()), [line])), peer)
    contact = state.contacts[peer]
    if line.mine:
        # written on another device: what stands above was read there
        return _contact(state, peer, unread=unread_after(state.talks[peer], max(line.mid, contact.shown))), ()
    return _contact(state, peer, unread=contact.unread + event.unread, typing_until=0), ()


def _queued(state: State, event: e.Queued) -> Step:
    talk = merged(state.talks.get(event.peer, Talk()), [event.line])
    return _contact(_talk(state, event.peer, replace(talk, anchor=None)), event.peer), ()


def _settled(state: State, event: e.Settled) -> Step:
    talk = settled(state.talks.get(event.peer, Talk()), event.id, event.mid, event.failed)
    return _talk(state, event.peer, talk), ()


def _not_queued(state: State, event: e.NotQueued) -> Step:
    return replace(notice(state, event.why, bad=True), returned=event.text, returns=state.returns + 1), ()


def _progressed(state: State, event: e.Progressed) -> Step:
    contact = state.contacts.get(event.peer)
    if contact is None:
        return state, ()
    delivered, read = max(contact.delivered, event.delivered, event.read), max(contact.read, event.read)
    return _contact(state, event.peer, delivered=delivered, read=read), ()


def _present(state: State, event: e.Present) -> Step:
    if event.user not in state.contacts:  # told before the list of friends has come; nobody else is told of
        state = _contact(state, event.user, standing="friend")
    return _contact(state, event.user, online=event.online, last_seen=event.last_seen), ()


def _typing(state: State, event: e.Typing) -> Step:
    if event.user not in state.contacts:
        return state, ()
    return _contact(state, event.user, typing_until=state.now + TYPING_FOR), ()


def _linked(state: State, event: e.Linked) -> Step:
    state = replace(state, connection=Connection(event.online, event.why, event.retry_at), waiting=event.waiting)
    if not event.online and any(contact.online is not None for contact in state.contacts.values()):
        # who is there is told anew on the next connection
        unknown = {user: replace(contact, online=None) for user, contact in state.contacts.items()}
        state = replace(state, contacts=MappingProxyType(unknown))
    return state, ()


def _people(state: State, event: e.People) -> Step:
    contacts = dict(state.contacts)
    for user, (name, standing) in event.everybody.items():
        contacts[user] = replace(contacts.get(user, Contact(user)), name=name, standing=standing)
    for user, contact in state.contacts.items():
        if user not in event.everybody:
            if state.talks.get(user, Talk()).lines or contact.unread:
                contacts[user] = replace(contact, standing="past", online=None)
            else:
                del contacts[user]
    active = state.active if state.active in contacts else ""
    return replace(state, contacts=MappingProxyType(contacts), active=active, listing=state.listing or not active), ()


def _loaded(state: State, event: e.Loaded) -> Step:
    talk = state.talks.get(event.peer, Talk())
    talk = loaded(talk, event.asked, event.lines, event.before)
    return _contact(_talk(state, event.peer, talk), event.peer), ()


def _not_loaded(state: State, event: e.NotLoaded) -> Step:
    talk = state.talks.get(event.peer, Talk())
    return _talk(notice(state, event.why, bad=True), event.peer, replace(talk, loading=False, failed_at=state.now)), ()


def _told(state: State, event: e.Told) -> Step:
    return notice(state, event.text, bad=event.bad), ()


def _answer(state: State, event: e.Answer) -> Step:
    return replace(state, page=Page(event.title, event.lines)), ()


def _moved(state: State, event: e.Moved) -> Step:
    transfers = {number: one for number, one in state.transfers.items() if number != event.number}
    if not event.ended:
        transfers[event.number] = Transfer(event.name, event.sending, event.done, event.whole)
    return replace(state, transfers=MappingProxyType(dict(sorted(transfers.items())))), ()


def _over(state: State, event: e.Over) -> Step:
    return replace(state, over=event.why), (e.Quit(),)


# From the keyboard and the clock


def _entered(state: State, event: e.Entered) -> Step:
    state = replace(state, notices=())
    if is_command(event.text):
        try:
            wanted = command(event.text, state)
        except Unclear as unclear:
            return _not_queued(state, e.NotQueued(str(unclear), event.text))
        if isinstance(wanted, Open):
            return _opened(state, e.Opened(wanted.user))
        if isinstance(wanted, Help):
            return replace(state, page=Page("Help", help_page())), ()
        return state, (wanted,)
    text = event.text.strip("\n").removeprefix("/") if event.text.startswith("//") else event.text.strip("\n")
    if not text.strip():
        return state, ()
    contact = state.contacts.get(state.active)
    why = {
        "asks": "this person is no friend yet: /accept or /decline",
        "asked": "this person has not accepted yet",
        "blocked": "you have blocked this person: /unblock",
        "past": "this person is no friend any more: /add asks again",
    }.get(contact.standing if contact else "", "" if contact else "open a conversation first: Ctrl-N, or /chat USER")
    if why:
        return _not_queued(state, e.NotQueued(why, event.text))
    return state, (e.Send(state.active, text),)


def _opened(state: State, event: e.Opened) -> Step:
    if event.user not in state.contacts:
        return state, ()
    return replace(state, active=event.user, chosen=event.user, listing=False, page=None, notices=()), ()


def _next(state: State, user: str, by: int) -> str:
    users = [contact.user for contact in ordered(state)]
    if not users:
        return ""
    place = users.index(user) + by if user in users else (0 if by > 0 else -1)
    return users[place % len(users)]


def _stepped(state: State, event: e.Stepped) -> Step:
    return _opened(state, e.Opened(_next(state, state.active, event.by)))


def _pointed(state: State, event: e.Pointed) -> Step:
    return replace(state, chosen=_next(state, pointed(state), event.by)), ()


def _scrolled(state: State, event: e.Scrolled) -> Step:
    if not state.active:
        return state, ()
    talk = replace(state.talk, anchor=event.anchor)
    before = talk.before
    if before is None and talk.failed_at:
        before = next((line.mid for line in talk.lines if line.mid), 0)
    if event.at_top and before and not talk.loading:
        return _talk(state, state.active, replace(talk, loading=True)), (e.Load(state.active, before),)
    return _talk(state, state.active, talk), ()


def _paged(state: State, event: e.Paged) -> Step:
    return replace(state, page=replace(state.page, top=event.top) if state.page else None), ()


def _escaped(state: State, _event: e.Escaped) -> Step:
    if state.page is not None:
        return replace(state, page=None), ()
    if state.notices and not state.narrow:
        return replace(state, notices=()), ()
    return replace(state, listing=not state.listing or not state.active, chosen=state.chosen or state.active), ()


def _resized(state: State, event: e.Resized) -> Step:
    return replace(state, narrow=event.narrow), ()


def _ticked(state: State, event: e.Ticked) -> Step:
    return replace(state, now=event.now, notices=tuple(one for one in state.notices if event.now < one.until)), ()


_STEPS: dict[type, Callable[[State, Any], Step]] = {
    e.Remembered: _remembered, e.Arrived: _arrived, e.Queued: _queued, e.Settled: _settled, e.NotQueued: _not_queued,
    e.Progressed: _progressed, e.Present: _present, e.Typing: _typing, e.Linked: _linked, e.People: _people,
    e.Loaded: _loaded, e.NotLoaded: _not_loaded, e.Told: _told, e.Answer: _answer, e.Moved: _moved, e.Over: _over,
    e.Entered: _entered, e.Opened: _opened, e.Stepped: _stepped, e.Scrolled: _scrolled, e.Paged: _paged,
    e.Escaped: _escaped, e.Pointed: _pointed, e.Resized: _resized, e.Ticked: _ticked,
}  # fmt: skip
