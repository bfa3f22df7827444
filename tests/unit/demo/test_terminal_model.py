"""The state of the terminal chat: what each event makes of it, without a terminal, a network or a disk."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.state import Anchor, Connection, Contact, Line, State, Talk, ordered, tick
from aldis.mobile_client_demo.terminal.update import BAD_FOR, RETRY, TYPING_FOR, update

NOW = 1_800_000_000_000
PHOTO = FileMessage("f1", "photo.jpg", 1000, "image/jpeg", 1016, "0" * 64, None)


def theirs(mid: int, text: str = "hi", **more: Any) -> Line:
    return Line(f"m{mid}", False, NOW + mid, text, mid, **more)


def own(id: str, mid: int = 0, text: str = "yo", **more: Any) -> Line:
    return Line(f"o{id}", True, NOW + (mid or 50), text, mid, id, **more)


def start(*users: str, active: str = "") -> State:
    contacts = {user: Contact(user) for user in (users or ("bob",))} | {"ann": Contact("ann", standing="self")}
    talks = {active: Talk(before=0)} if active else {}
    return State("ann", "pc", NOW, MappingProxyType(contacts), MappingProxyType(talks), active, listing=not active)


def after(state: State, *events: e.Event) -> State:
    for event in events:
        state, _ = update(state, event)
    return state


def effects(state: State, event: e.Event) -> tuple[e.Effect, ...]:
    return update(state, event)[1]


def test_a_message_for_a_closed_conversation_counts_as_unread() -> None:
    state = after(start(), e.Arrived("bob", theirs(1), True), e.Arrived("bob", theirs(1), False))
    assert state.contacts["bob"].unread == 1
    state, done = update(state, e.Opened("bob"))
    assert state.contacts["bob"].unread == 0
    assert done == (e.Load("bob", 0), e.SayRead("bob", 1))


def test_what_is_on_the_screen_is_said_to_be_read_once() -> None:
    state, done = update(start(active="bob"), e.Arrived("bob", theirs(7), True))
    assert done == (e.SayRead("bob", 7),) and state.contacts["bob"].unread == 0
    assert effects(state, e.Ticked(NOW + 1)) == ()


@pytest.mark.parametrize("hidden", ["page", "list", "scrolled"])
def test_what_is_covered_is_not_read(hidden: str) -> None:
    state = after(start(active="bob"), e.Arrived("bob", theirs(1), True))
    if hidden == "page":
        state = after(state, e.Answer("Help", ("x",)))
    elif hidden == "list":
        state = replace(after(state, e.Resized(True)), listing=True)
    else:
        state = after(state, e.Scrolled(Anchor("m1", 0), False))
    state, done = update(state, e.Arrived("bob", theirs(2), True))
    assert done == () and state.contacts["bob"].unread == 1
    uncovered = e.Scrolled(None, False) if hidden == "scrolled" else e.Escaped()
    assert effects(state, uncovered) == (e.SayRead("bob", 2),)


def test_ticks_turn_and_never_turn_back() -> None:
    state = after(start(active="bob"), e.Queued("bob", own("p-1")))

    def mark() -> str:
        return tick(state.talks["bob"].lines[-1], state.contacts["bob"])

    marks = [mark()]
    for event in (e.Settled("bob", "p-1", 5), e.Progressed("bob", 5, 0), e.Progressed("bob", 5, 5),
                  e.Progressed("bob", 3, 2)):  # fmt: skip
        state = after(state, event)
        marks.append(mark())
    assert marks == ["waiting", "sent", "delivered", "read", "read"]


def test_a_refused_message_says_why_and_stays_where_it_was_said() -> None:
    state = after(start(active="bob"), e.Queued("bob", own("p-1")), e.Settled("bob", "p-1", 0, "not_friend"))
    state = after(state, e.Arrived("bob", replace(theirs(9), ts=NOW + 99), True))
    first, second = state.talks["bob"].lines
    assert (first.failed, tick(first, None)) == ("not_friend", "failed") and second.mid == 9


def test_what_waits_stands_at_the_end() -> None:
    state = after(start(), e.Queued("bob", own("p-1")), e.Queued("bob", own("p-2")), e.Arrived("bob", theirs(9), True))
    assert [line.id or line.mid for line in state.talks["bob"].lines] == [9, "p-1", "p-2"]
    state = after(state, e.Settled("bob", "p-1", 8))
    assert [line.mid for line in state.talks["bob"].lines] == [8, 9, 0]


def test_the_history_joins_what_is_there_by_number_and_by_id() -> None:
    state = after(start(active="bob"), e.Queued("bob", own("p-1")), e.Arrived("bob", theirs(3), True))
    page = (theirs(1), theirs(2), theirs(3, "again"), own("p-1", 4))
    state = after(state, e.Loaded("bob", 0, page, 0))
    assert [line.mid for line in state.talks["bob"].lines] == [1, 2, 3, 4]
    assert [line.key for line in state.talks["bob"].lines] == ["m1", "m2", "m3", "op-1"]


def test_no_hole_between_an_old_memory_and_the_newest_page() -> None:
    state = start(active="bob")
    state = after(
        state, e.Loaded("bob", 0, (theirs(1), theirs(2)), None), e.Loaded("bob", 0, (theirs(8), theirs(9)), 8)
    )
    assert [line.mid for line in state.talks["bob"].lines] == [8, 9], "3 to 7 may be missing"
    state, done = update(state, e.Scrolled(Anchor("m9", 0), True))
    assert done == (e.Load("bob", 8),)
    assert effects(state, e.Scrolled(Anchor("m9", 0), True)) == (), "it is on its way"
    assert len(after(state, e.Loaded("bob", 8, (theirs(6), theirs(7)), 6)).talks["bob"].lines) == 4


def test_a_page_that_cannot_be_had_is_asked_for_again_later() -> None:
    state = replace(start(), connection=Connection(True))
    state, done = update(state, e.Opened("bob"))
    assert done == (e.Load("bob", 0),)
    state, done = update(state, e.NotLoaded("bob", "no"))
    assert done == () and state.notices
    assert effects(state, e.Ticked(NOW + RETRY - 1)) == ()
    assert effects(state, e.Ticked(NOW + RETRY)) == (e.Load("bob", 0),)


def test_a_readable_copy_replaces_an_unreadable_one_and_not_the_reverse() -> None:
    bad, good = theirs(1, "", problem="no key"), theirs(1, "secret")
    for lines in ((bad, good), (good, bad)):
        state = after(start(), *(e.Loaded("bob", 0, (line,), None) for line in lines))
        assert state.talks["bob"].lines[0].text == "secret"


def test_numbers_of_files_stay() -> None:
    new, old = theirs(9, "", kind="file", file=PHOTO), theirs(2, "", kind="file", file=PHOTO)
    state = after(start(active="bob"), e.Arrived("bob", new, True), e.Loaded("bob", 0, (old,), 0))
    assert state.talks["bob"].files == ("m9", "m2")
    assert effects(state, e.Entered("/save 1 'my photo.jpg'")) == (e.Save(PHOTO, "my photo.jpg"),)
    assert state.talks["bob"].lines[0].mid == 2


def test_a_copy_from_another_device_reads_what_stands_above() -> None:
    state = after(
        start(), e.Arrived("bob", theirs(1), True), e.Arrived("bob", replace(own(""), key="m2", mid=2), False)
    )
    assert state.contacts["bob"].unread == 0


def test_presence_before_the_list_and_offline_nobody_is_known_to_be_there() -> None:
    state = after(start(), e.Present("carol", True, NOW))
    assert state.contacts["carol"].online
    state = after(state, e.People({"carol": ("Carol", "friend"), "bob": ("", "asks")}))
    assert state.contacts["carol"].online and state.contacts["carol"].name == "Carol"
    assert ordered(state)[0].user == "bob"
    assert "ann" not in state.contacts
    assert after(state, e.Linked(False, "x", 0, 0)).contacts["carol"].online is None


def test_who_is_no_friend_any_more_stays_with_what_was_said() -> None:
    state = after(start("bob", "eve", active="eve"), e.Arrived("bob", theirs(1), True), e.People({"ann": ("", "self")}))
    assert state.contacts["bob"].standing == "past" and "eve" not in state.contacts and state.active == ""
    state = after(state, e.Opened("bob"), e.Entered("hello?"))
    assert state.returned == "hello?" and "/add" in state.notices[-1].text


def test_typing_ends_by_itself_and_with_the_message() -> None:
    state = after(start(), e.Typing("bob"))
    assert state.contacts["bob"].typing_until == NOW + TYPING_FOR
    assert after(state, e.Arrived("bob", theirs(1), True)).contacts["bob"].typing_until == 0
    assert "mallory" not in after(state, e.Typing("mallory")).contacts


def test_what_is_entered_goes_to_the_open_conversation() -> None:
    state = start(active="bob")
    assert effects(state, e.Entered("one\ntwo\n")) == (e.Send("bob", "one\ntwo"),)
    assert effects(state, e.Entered("//etc is a folder")) == (e.Send("bob", "/etc is a folder"),)
    assert effects(state, e.Entered("/etc/passwd\nis here")) == (e.Send("bob", "/etc/passwd\nis here"),)
    assert effects(state, e.Entered("  \n ")) == ()
    assert after(start(), e.Entered("to whom?")).returned == "to whom?"


def test_a_notice_goes_after_its_time_and_covers_no_other() -> None:
    state = after(start(), e.Told("bad", bad=True), e.Told("good"), e.Told("good"))
    assert [one.text for one in state.notices] == ["bad", "good"]
    state = after(state, e.Ticked(NOW + BAD_FOR - 1))
    assert [one.text for one in state.notices] == ["bad"]
    assert after(state, e.Ticked(NOW + BAD_FOR)).notices == ()
    assert len(after(state, *(e.Told(str(number)) for number in range(9))).notices) == 3


def test_the_end_of_the_login_ends_the_screen() -> None:
    state, done = update(start(), e.Over("kicked"))
    assert state.over == "kicked" and done == (e.Quit(),)


def test_stepping_goes_round() -> None:
    state, seen = start("bob", "carol"), []
    for _ in range(4):
        state = after(state, e.Stepped(1))
        seen.append(state.active)
    assert seen == ["bob", "carol", "ann", "bob"]
    assert after(state, e.Stepped(-1)).active == "ann"
    assert after(State("ann", "pc", NOW), e.Stepped(1), e.Pointed(-1)).active == ""


# A number belongs to one message: theirs are odd, mine even, and the id of mine follows from it.
MINE = st.integers(1, 6).map(lambda half: 2 * half)
LINES = st.builds(theirs, st.integers(0, 5).map(lambda half: 2 * half + 1)) | st.builds(
    lambda mid: own(f"p-{mid}", mid), MINE
)
EVENTS = st.one_of(
    st.builds(e.Arrived, st.sampled_from(["bob", "eve"]), LINES, st.booleans()),
    st.builds(lambda number: e.Queued("bob", own(f"p-{number}")), MINE),
    st.builds(lambda number: e.Settled("bob", f"p-{number}", number), MINE),
    st.builds(lambda number: e.Settled("bob", f"p-{number}", 0, "rate"), MINE),
    st.builds(e.Progressed, st.just("bob"), st.integers(0, 12), st.integers(0, 12)),
    st.builds(
        lambda asked, lines, before: e.Loaded("bob", asked, tuple(lines), before),
        st.integers(0, 12), st.lists(LINES, max_size=5), st.none() | st.integers(0, 12),
    ),
    st.builds(e.Entered, st.sampled_from(["x", "/help", "/save 1", "/chat eve", "/cancel", "/block"])),
    st.builds(e.Opened, st.sampled_from(["bob", "eve", "who"])),
    st.builds(e.Scrolled, st.none() | st.builds(Anchor, st.sampled_from(["m1", "op-3"]), st.just(0)), st.booleans()),
    st.sampled_from([
        e.Escaped(), e.Stepped(1), e.Stepped(-1), e.Pointed(1), e.Resized(True), e.Resized(False), e.Typing("bob"),
        e.People({"bob": ("", "blocked")}), e.People({}), e.Linked(False, "", 0, 0), e.NotLoaded("bob", "no"),
        e.Moved(1, "f", True, 1, 2), e.Moved(1, "f", True, 1, 2, ended=True), e.Ticked(NOW + 99_999),
    ]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=25))
def test_whatever_happens_each_message_is_there_once_and_in_order(events: list[e.Event]) -> None:
    state, read = start("bob", "eve"), dict[str, int]()
    for event in events:
        state, done = update(state, event)
        for effect in done:
            if isinstance(effect, e.SayRead):
                assert effect.mid > read.get(effect.peer, 0) or state.contacts[effect.peer].shown == effect.mid
                read[effect.peer] = effect.mid
        for talk in state.talks.values():
            mids = [line.mid for line in talk.lines if line.mid]
            assert mids == sorted(set(mids)), "by number, each once"
            assert len({line.key for line in talk.lines}) == len(talk.lines)
            ids = [line.id for line in talk.lines if line.id]
            assert len(set(ids)) == len(ids), "no message of mine twice"
        assert all(contact.unread >= 0 and contact.read <= contact.delivered for contact in state.contacts.values())
        assert state.active in ("", *state.contacts)
