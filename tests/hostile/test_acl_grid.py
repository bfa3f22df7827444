"""A filter is granted only if every topic that it can match is allowed: against brute force over all topics of depth
four, for our own authorisation and for amqtt's access control list behind our connector."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from aldis.broker.core.envelope import Reason
from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session
from aldis.broker.core.topics import TopicError, check_filter, matches
from aldis.broker.pipeline import Publication
from aldis.plugins.authorisation import TopicAuthorisation
from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, running

LEVELS = ["inbox", "devices", "me", "other", "chat", "receipt", "$SYS", "$server", ""]
TOPICS = [
    "/".join(levels) for depth in (1, 2, 3, 4) for levels in itertools.product(LEVELS, repeat=depth) if levels != ("",)
]
SMALL = list(itertools.product(["inbox", "devices", "me", "other", "$SYS", "", "+"], repeat=3))


def filters() -> Iterable[str]:
    """Every filter of three levels of a smaller alphabet, with and without `#` behind it, and what is shorter."""
    for levels in itertools.chain(
        [()], *(itertools.product(dict.fromkeys(sum(SMALL, ())), repeat=n) for n in (1, 2)), SMALL
    ):
        for filter in ("/".join(levels), "/".join([*levels, "#"])):
            try:
                check_filter(filter, 8)
            except TopicError:
                continue
            yield filter


def plugin(*admins: str) -> TopicAuthorisation:
    """Without a node around it; `me` and `other` are friends."""
    made = TopicAuthorisation.__new__(TopicAuthorisation)
    made.config = TopicAuthorisation.Config(admins=list(admins))
    made._correspondents = {"me": frozenset({"other"})}
    return made


# Our own rules, written down once more, as plainly as can be


def may_read(topic: str, *, admin: bool) -> bool:
    levels = topic.split("/")
    return levels[:2] in (["inbox", "me"], ["devices", "me"]) or (admin and levels[0] == "$SYS")


def may_write(topic: str) -> bool:
    levels = topic.split("/")
    if levels[0] == "inbox":
        kind_and_me = levels[2:] in (["chat", "me"], ["receipt", "me"])
        return len(levels) == 4 and levels[1] in ("me", "other") and kind_and_me
    return levels[:2] == ["devices", "me"] and len(levels) > 2


@pytest.mark.parametrize("admin", [False, True])
def test_a_filter_is_granted_only_if_every_topic_it_can_match_may_be_read(admin: bool) -> None:
    authorisation = plugin("me") if admin else plugin()
    granted = [filter for filter in filters() if authorisation.allows_subscription("me", filter)]
    allowed = [may_read(topic, admin=admin) for topic in TOPICS]
    for filter in granted:
        for topic, fine in zip(TOPICS, allowed, strict=True):
            assert fine or not matches(filter, topic), f"{filter} is granted and reads {topic}"
    # and what is wholly one's own is not refused
    assert {"inbox/me/#", "inbox/me/+", "devices/me/#", "devices/me/+/#", "inbox/me"} <= set(granted)
    assert ("$SYS/#" in granted) == admin


def test_a_publish_is_judged_as_the_rules_say_for_every_topic() -> None:
    authorisation = plugin()
    session = Session("me", "phone", clean=True, max_inflight=1, max_queued=1)
    connection: Any = SimpleNamespace(session=session)
    for topic in TOPICS:
        for retain in (False, True):
            reason = authorisation._judge(Publication(connection, session, Message(topic, b"", retain=retain), b""))
            inbox = topic.startswith("inbox/")
            assert (reason is None) == (may_write(topic) and not (retain and inbox)), topic
            if retain and inbox and may_write(topic):
                assert reason is Reason.RETAIN_REFUSED
        will = may_write(topic) and topic.startswith("devices/")
        assert authorisation.will_allowed("me", topic) == will, topic


# amqtt's list

ACL = "amqtt.plugins.topic_checking.TopicAccessControlListPlugin"
PATTERNS = ["user/+", "user/#", "user/+/+", "user/+/#", "+", "#", "+/me", "+/+/me", "user/me/chat", "user/+/chat", "/+"]
NAMES = ["user", "me", "chat", "other", ""]
SOME = [
    "/".join(levels) for depth in (1, 2, 3, 4) for levels in itertools.product(NAMES, repeat=depth) if levels != ("",)
]


def asked_for() -> list[str]:
    found = []
    for depth in (1, 2, 3):
        for levels in itertools.product(["user", "me", "chat", "", "+", "#"], repeat=depth):
            try:
                check_filter("/".join(levels), 8)
            except TopicError:
                continue
            found.append("/".join(levels))
    return found


@pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_amqtts_list_grants_no_more_than_it_says(pattern: str) -> None:
    """amqtt itself compares level by level, and `user/+` gives away `user/#`; our connector asks further."""
    said = {topic for topic in SOME if matches(pattern, topic)}
    async with running({ANONYMOUS: {}, ACL: {"acl": {"me": [pattern]}}}) as lab:
        await lab.client("c", user="me")
        (connection,) = lab.node.connections
        granted = [filter for filter in asked_for() if await lab.connector.decisions.subscription(connection, filter)]
        for filter in granted:
            more = {topic for topic in SOME if matches(filter, topic)} - said
            assert not more, f"{pattern} has granted {filter}, which also reads {sorted(more)[:3]}"
        assert pattern in granted


@pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")
async def test_a_plus_does_not_grant_a_hash_on_the_wire() -> None:
    async with running({ANONYMOUS: {}, ACL: {"acl": {"me": ["user/+", "home/#"]}}}) as lab:
        me = await lab.client("c", user="me")
        await me.subscribed(("user/#", 0), ("user/+", 0), ("home/#", 1), codes=(0x80, 0, 1))
        other = await lab.client("d", user="other")
        other.send(wire.publish("user/a/b", b"deep"), wire.publish("user/a", b"flat"))
        await other.nothing()
        assert (await me.publication()).topic == "user/a"
        await me.nothing()


async def test_what_a_plugin_denies_for_receive_no_wildcard_brings() -> None:
    """Whatever a filter has been granted, each topic is asked about once more when something is to be delivered: live,
    retained, from a queue."""
    secret = [topic for topic in SOME if topic.split("/")[-1] == "chat"]
    async with running({ANONYMOUS: {}, f"{PLUGINS}.TopicRules": {"secret": secret}}) as lab:
        me = await lab.client("c", user="me", clean=False)
        await me.subscribed(("#", 1), ("user/+/#", 0), ("+/+/chat", 1))
        other = await lab.client("d", user="other")
        for topic in SOME:
            other.send(wire.publish(topic, topic.encode(), retain=True))
        other.send(wire.publish("the/end", b"1"))
        await other.nothing()
        seen = []
        while (found := await me.publication()).topic != "the/end":
            seen.append(found.topic)
        assert set(seen) == set(SOME) - set(secret)
        await me.subscribed(("user/#", 0))
        wanted = {topic for topic in SOME if matches("user/#", topic)} - set(secret)
        retained = [(await me.publication()).topic for _ in wanted]
        assert set(retained) == wanted
        await me.nothing()
