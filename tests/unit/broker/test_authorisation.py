"""Promise 7: nobody publishes as someone else, reads another's inbox, or writes to who has not accepted."""

from __future__ import annotations

import asyncio
import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.core.envelope import Reason
from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session
from aldis.broker.core.topics import matches
from aldis.broker.pipeline import Publication
from aldis.broker.ports import AccessRevoked, RelationChanged
from aldis.plugins.authorisation import TopicAuthorisation
from tests import wire
from tests.unit.broker.chat import OURS, Chat, Person, chatting
from tests.unit.broker.lab import until

LEVELS = ["inbox", "devices", "$SYS", "ann", "ben", "chat", "typing", "receipt", ""]
TOPICS = ["/".join(levels) for depth in range(1, 6) for levels in itertools.product(LEVELS[:7], repeat=depth)]


def authorisation(friends: dict[str, set[str]], admins: tuple[str, ...] = ()) -> TopicAuthorisation:
    """The plugin without a node around it."""
    plugin = TopicAuthorisation.__new__(TopicAuthorisation)
    plugin.config = TopicAuthorisation.Config(admins=list(admins))
    plugin._correspondents = {user: frozenset(others) for user, others in friends.items()}
    return plugin


class TestPublishing:
    def judge(self, user: str, topic: str, *, retain: bool = False) -> Reason | None:
        plugin = authorisation({"ann": {"ben"}})
        session = Session(user, "phone", clean=True, max_inflight=1, max_queued=1)
        connection: Any = SimpleNamespace(session=session)
        return plugin._judge(Publication(connection, session, Message(topic, b"", retain=retain), b""))

    def test_the_whole_grid(self) -> None:
        """Every topic of up to five levels: what is allowed is exactly this list."""
        to_ann = {f"inbox/{to}/{kind}/ann" for to in ("ben", "ann") for kind in ("chat", "typing", "receipt")}
        for topic in TOPICS:
            levels = topic.split("/")
            own = levels[:2] == ["devices", "ann"] and len(levels) > 2
            assert (self.judge("ann", topic) is None) == (topic in to_ann or own), topic
            assert (self.judge("ann", topic, retain=True) is None) == own, topic

    @pytest.mark.parametrize(
        ("topic", "reason"),
        [
            ("inbox/ben/chat/cyd", Reason.NOT_SENDER),
            ("inbox/ann/chat/ben", Reason.NOT_SENDER),
            ("inbox/cyd/chat/ann", Reason.NOT_FRIEND),
            ("inbox/cyd/typing/ann", Reason.NOT_FRIEND),
            ("inbox/ben/sync/ann", Reason.BAD_TOPIC),
            ("inbox/ann/system/$server", Reason.BAD_TOPIC),
            ("inbox/ben/presence/ann", Reason.BAD_TOPIC),
            ("inbox/ben/chat", Reason.BAD_TOPIC),
            ("inbox/ben/chat/ann/x", Reason.BAD_TOPIC),
            ("inbox", Reason.BAD_TOPIC),
            ("devices/ben/lamp", Reason.FORBIDDEN),
            ("devices/ann", Reason.FORBIDDEN),
            ("$SYS/broker/version", Reason.FORBIDDEN),
            ("anything", Reason.FORBIDDEN),
            ("Inbox/ben/chat/ann", Reason.FORBIDDEN),
        ],
    )
    def test_every_refusal_has_its_reason(self, topic: str, reason: Reason) -> None:
        assert self.judge("ann", topic) is reason

    def test_retain_is_refused_on_inboxes_only(self) -> None:
        assert self.judge("ann", "inbox/ben/chat/ann", retain=True) is Reason.RETAIN_REFUSED
        assert self.judge("ann", "devices/ann/lamp", retain=True) is None

    def test_who_is_not_connected_has_no_friends(self) -> None:
        assert self.judge("ben", "inbox/ann/chat/ben") is Reason.NOT_FRIEND

    def test_a_will_may_go_to_the_own_devices_and_nowhere_else(self) -> None:
        plugin = authorisation({"ann": {"ben"}})
        allowed = {topic for topic in TOPICS if plugin.will_allowed("ann", topic)}
        assert allowed == {topic for topic in TOPICS if topic.startswith("devices/ann/")}


filters = st.lists(st.sampled_from([*LEVELS, "+", "+", "#"]), min_size=1, max_size=5).map(
    lambda levels: "/".join([level for level in levels[:-1] if level != "#"] + levels[-1:])
)


class TestSubscribing:
    @settings(max_examples=200, deadline=None)
    @given(filters.filter(bool), st.booleans())
    def test_a_filter_is_granted_exactly_if_all_that_it_can_match_is_allowed(self, filter: str, admin: bool) -> None:
        plugin = authorisation({}, admins=("ann",) if admin else ())
        matched = [topic for topic in TOPICS if matches(filter, topic)]
        allowed = all(
            matches("inbox/ann/#", topic) or matches("devices/ann/#", topic) or (admin and matches("$SYS/#", topic))
            for topic in matched
        )
        if matched:
            assert plugin.allows_subscription("ann", filter) == allowed
        elif plugin.allows_subscription("ann", filter):
            assert filter.split("/", maxsplit=1)[0] in ("inbox", "devices", "$SYS")

    @pytest.mark.parametrize(
        "filter",
        ["inbox/+/#", "+/ann/#", "inbox/ann+", "#", "inbox/#", "inbox/ben/chat/ann", "+/+/chat/+", "$SYS/#", "ann"],
    )
    def test_what_looks_alike_is_refused(self, filter: str) -> None:
        assert not authorisation({"ann": {"ben"}}).allows_subscription("ann", filter)

    async def test_on_the_wire(self) -> None:
        plugins = {**OURS, "aldis.plugins.authorisation.TopicAuthorisation": {"admins": ["root"]}}
        async with chatting(plugins=plugins) as chat:
            ann, root = await chat.person("ann"), await chat.person("root")
            await ann.subscribed(("inbox/ben/#", 1), ("devices/ann/+", 2), ("$SYS/#", 0), codes=(0x80, 2, 0x80))
            await root.subscribed(("$SYS/#", 0), ("inbox/ann/#", 1), codes=(0, 0x80))


async def answer(person: Person, to: str, id: int) -> str:
    """What becomes of a message to `to`: `sent`, or why not. It is acknowledged either way."""
    person.say(to, {"body": "hi"}, id=id)
    found: list[str] = []
    while True:
        packet = await person.packet()
        if packet == wire.puback(id):
            (last,) = found
            return last
        document = json.loads(wire.published(packet).payload)
        if document["type"] in ("sent", "failed"):
            found.append(document.get("reason", "sent"))


class TestRelationsChange:
    async def test_a_new_friend_may_write_at_once_and_a_lost_one_no_more(self) -> None:
        async with chatting() as chat:
            ann = await chat.person("ann")
            assert await answer(ann, "ben", 1) == "not_friend"
            chat.relation("ann", "ben", friends=True)
            await until(lambda: chat.friends.asked == 2)
            await ann.nothing()
            assert await answer(ann, "ben", 2) == "sent"
            chat.relation("ben", "ann", friends=False)
            await ann.nothing()
            assert await answer(ann, "ben", 3) == "not_friend"

    async def test_what_is_uncertain_is_refused(self) -> None:
        """Between the announcement and the new list, and for as long as there is no new list."""
        async with chatting(("ann", "ben"), ("ann", "cyd")) as chat:
            ann = await chat.person("ann")
            chat.friends.unavailable = True
            chat.bus.announce(RelationChanged("ann", "ben"))
            await ann.nothing()
            assert await answer(ann, "ben", 1) == "not_friend"
            assert await answer(ann, "cyd", 2) == "sent"  # of whom nothing was said
            chat.friends.unavailable = False
            chat.bus.announce(RelationChanged("ann", "ben"))
            await until(lambda: chat.friends.asked == 3)
            await ann.nothing()
            assert await answer(ann, "ben", 3) == "sent"

    async def test_a_list_that_was_read_before_a_change_does_not_outlive_it(self) -> None:
        async with chatting(("ann", "ben"), ("ann", "cyd")) as chat:
            ann = await chat.person("ann")
            chat.friends.gate.clear()
            chat.bus.announce(RelationChanged("ann", "cyd"))  # a reading begins: with ben in it
            await until(lambda: chat.friends.asked == 2)
            chat.friends.unavailable = True  # whatever is read from now on comes to nothing
            chat.relation("ann", "ben", friends=False)
            await until(lambda: chat.friends.asked == 3)
            chat.friends.gate.set()
            await ann.nothing()
            assert await answer(ann, "ben", 1) == "not_friend"

    async def test_a_change_while_the_first_list_is_read_counts(self) -> None:
        """Else it would be forgotten for as long as the connection lasts."""
        async with chatting(("ann", "ben")) as chat:
            chat.friends.gate.clear()
            ann = Person(*await chat.open())
            chat.clients.append(ann)
            ann.user = "ann"
            ann.send(wire.connect("phone", user="ann"))
            await until(lambda: chat.friends.asked == 1)
            chat.relation("ann", "ben", friends=False)
            await asyncio.sleep(0.01)
            chat.friends.gate.set()
            await ann.expect(wire.ACCEPTED)
            await ann.subscribed(("inbox/ann/#", 0))
            assert await answer(ann, "ben", 1) == "not_friend"

    async def test_a_change_between_others_is_nobodys_business(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann = await chat.person("ann")
            chat.bus.announce(RelationChanged("cyd", "dan"))
            await ann.nothing()
            assert chat.friends.asked == 1


class TestMemory:
    def known(self, chat: Chat) -> set[str]:
        return set(chat.plugin("TopicAuthorisation")._correspondents)

    async def test_a_user_is_read_once_however_many_devices_and_forgotten_with_the_last(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            people = [await chat.person("ann", device) for device in ("phone", "tablet")]
            assert chat.friends.asked == 1
            assert self.known(chat) == {"ann"}
            for one in people:
                one.send(wire.DISCONNECT)
                await one.closed()
            await until(lambda: not self.known(chat))

    async def test_while_the_accounts_cannot_be_read_nobody_gets_in(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            chat.friends.unavailable = True
            client = await chat.dial()
            client.send(wire.connect("phone", user="ann"))
            assert await client.closed() == [wire.refused(3)]
            assert self.known(chat) == set()
            chat.friends.unavailable = False
            assert await answer(await chat.person("ann"), "ben", 1) == "sent"


class TestConnectsThatAreBeingJudged:
    """The answer of the directory may be older than a revocation that is announced before it is used."""

    async def test_who_is_revoked_meanwhile_does_not_get_in(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            chat.friends.gate.clear()
            ann = await chat.dial()
            ann.send(wire.connect("phone", user="ann"))
            await until(lambda: chat.friends.asked == 1)
            chat.bus.announce(AccessRevoked("ann", device="phone"))
            await chat.bus.settled()
            chat.friends.gate.set()
            assert await ann.closed() == []

    async def test_others_do(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            chat.friends.gate.clear()
            ann = await chat.dial()
            ann.send(wire.connect("phone", user="ann"))
            await until(lambda: chat.friends.asked == 1)
            chat.bus.announce(AccessRevoked("ann", device="pad"))
            chat.bus.announce(AccessRevoked("ann", session="another"))
            chat.bus.announce(AccessRevoked("ben"))
            await chat.bus.settled()
            chat.friends.gate.set()
            await ann.expect(wire.ACCEPTED)


class TestRepeatsAfterTheEndOfAFriendship:
    """Promise 2 holds across a block: the repeat of what was stored is answered with its first result."""

    async def test_what_was_stored_before_keeps_its_result(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann = await chat.person("ann")
            ann.say("ben", {"id": "x", "body": 1}, id=1)
            (sent,) = await ann.heard(1)
            await ann.expect_acknowledged(1)
            chat.relation("ann", "ben", friends=False)
            await chat.bus.settled()
            ann.say("ben", {"id": "x", "body": 1}, id=2, dup=True)
            assert await ann.heard(1) == [sent]
            await ann.expect_acknowledged(2)

    async def test_what_is_on_its_way_into_the_store_counts(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann = await chat.person("ann")
            chat.store.gate.clear()
            ann.say("ben", {"id": "x", "body": 1}, id=1)
            await chat.store.attempted(1)
            chat.relation("ann", "ben", friends=False)
            await chat.bus.settled()
            ann.say("ben", {"id": "x", "body": 1}, id=2, dup=True)
            await ann.nothing()
            chat.store.gate.set()
            first = await ann.heard(1)
            await ann.expect_acknowledged(1)
            second = await ann.heard(1)
            assert first == second
            await ann.expect_acknowledged(2)

    async def test_what_was_never_stored_is_refused_in_its_turn(self) -> None:
        async with chatting() as chat:
            ann = await chat.person("ann")
            for number in range(1, 6):
                ann.say("ben", {"id": number, "body": 1} if number % 2 else {"body": 1}, id=number)
            told = []
            while len(told) < 10:
                told += await ann.told()
            assert [one for one in told if isinstance(one, int)] == [1, 2, 3, 4, 5]
            assert {one["reason"] for one in told if isinstance(one, dict)} == {"not_friend"}

    async def test_while_the_store_is_away_nothing_is_answered(self) -> None:
        async with chatting() as chat:
            ann = await chat.person("ann")
            chat.store.reads_fail = True
            ann.say("ben", {"id": "x", "body": 1}, id=1)
            await ann.nothing()
            chat.store.reads_fail = False
            assert (await ann.heard(1))[0]["reason"] == "not_friend"
            await ann.expect_acknowledged(1)
