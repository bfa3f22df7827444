"""What is fuzzed: functions that take any bytes and raise only if Aldis has broken a promise.

Used three ways, always the same code: with a committed corpus and hypothesis in `make test`, with a fuzzer led by
coverage in `make fuzz` (`scripts/fuzz.py`).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

from aldis.broker.core.codec import Decoder, TopicCache
from aldis.broker.core.envelope import EnvelopeError, parse_chat, parse_receipt, render_chat
from aldis.broker.core.packets import Connect, Message, Packet, Subscribe, Unsubscribe
from aldis.broker.core.proxy_protocol import MAX_BODY, SIGNATURE, ProxyHeader, ProxyHeaderError
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from aldis.broker.core.subscriptions import RetainedTree, SubscriptionTree
from aldis.broker.core.topics import TopicError, check_filter, check_topic_name, covers, matches, overlaps
from tests.hostile import recipes
from tests.hostile.recipes import Choices

_FAILURES = {CloseReason.MALFORMED, CloseReason.PACKET_TOO_LARGE, CloseReason.BAD_TOPIC}
_LIMITS = [300, 130, 4_000, 1]
_LEVELS = 8


# Codec


def codec(data: bytes) -> None:
    """Any bytes in any pieces: the same packets and the same named failure, never more than one packet in memory."""
    choices = Choices(data)
    limit = _LIMITS[choices.below(len(_LIMITS))]
    step = 1 + choices.below(50)
    stream = choices.rest() if choices.below(2) else b"".join(recipes.packets(choices))
    whole = Decoder(limit, TopicCache(_LEVELS))
    expected = whole.feed(stream)
    pieces = Decoder(limit, TopicCache(_LEVELS))
    found: list[Packet] = []
    for at in range(0, len(stream), step):
        found += pieces.feed(stream[at : at + step])
        assert pieces.buffered <= max(limit, 129)
    assert found == expected
    assert _told(pieces.failure) == _told(whole.failure)
    assert whole.failure is None or whole.failure.reason in _FAILURES
    assert whole.failure is None or (whole.buffered == 0 and whole.feed(b"\xc0\x00") == [])
    for packet in expected:
        _check_packet(packet)


def _told(failure: ProtocolViolation | None) -> tuple[str, str] | None:
    return None if failure is None else (failure.reason, failure.detail)


def _check_packet(packet: Packet) -> None:
    match packet:
        case Message():
            check_topic_name(packet.topic, _LEVELS)
            packet.topic.encode()
            assert 0 <= packet.qos <= 2 and (packet.packet_id > 0) == (packet.qos > 0)
            assert packet.qos or not packet.dup
        case Connect(supported=True):
            assert packet.password is None or packet.username is not None
            assert packet.will is None or packet.will.qos <= 2
            for text in (packet.client_id, packet.username or "", packet.will.topic if packet.will else ""):
                assert "\0" not in text
                text.encode()
        case Subscribe() | Unsubscribe():
            assert packet.packet_id > 0 and packet.filters


# Envelope


def envelope(data: bytes) -> None:
    """Any payload becomes one JSON object that begins with the server's fields, each of them once, or a named error."""
    try:
        found = parse_chat(data)
    except EnvelopeError as error:
        _check_id(error.id)
    else:
        members: list[tuple[str, Any]] = json.loads(
            render_chat(5, 6, 7, found.content), object_pairs_hook=lambda pairs: pairs, parse_int=_int
        )
        assert members[:3] == [("n", 5), ("mid", 6), ("ts", 7)]
        assert not {"n", "mid", "ts"} & {name for name, _ in members[3:]}
        assert len(found.content) <= 2 * len(data) * 3 + 40
        _check_id(found.id)
        assert found.seq is None or 1 <= found.seq < 2**53
    try:
        assert 1 <= parse_receipt(data) < 2**53
    except EnvelopeError:
        pass


def _check_id(id: str | None) -> None:
    assert id is None or isinstance(json.loads(id), str | int)


def _int(digits: str) -> int | str:
    return int(digits) if len(digits) <= 20 else digits


# Topics


def topics(data: bytes) -> None:
    """Two filters and a topic: valid or refused by name; `matches`, `covers`, `overlaps` and both trees say what brute
    force over every topic of their levels says."""
    first, second, topic = (*data.decode("utf-8", "surrogateescape").split("\n", 2), "", "")[:3]
    good = [filter for filter in (first, second) if _valid(check_filter, filter)]
    if _valid(check_topic_name, topic):
        _check_trees(good, topic)
    # few levels, or brute force takes too long
    if len(good) == 2 and max(filter.count("/") for filter in good) < 3:
        _check_against_brute_force(*good)


def _valid(check: Callable[[str, int], None], text: str) -> bool:
    try:
        check(text, _LEVELS)
    except TopicError:
        return False
    return True


def _check_trees(filters: list[str], topic: str) -> None:
    subscriptions: SubscriptionTree[str] = SubscriptionTree()
    retained: RetainedTree[str] = RetainedTree()
    retained.put(topic, topic)
    for filter in filters:
        subscriptions.add(filter, filter, 1)
        assert [one for one, _ in retained.match(filter)] == ([topic] if matches(filter, topic) else [])
        assert matches(filter, topic) == bool(_expression(filter).fullmatch(topic))
    assert {one for one, _ in subscriptions.match(topic)} == {one for one in filters if matches(one, topic)}


def _expression(filter: str) -> re.Pattern[str]:
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in filter.split("/"))
    if filter == "#":
        pattern = ".*"
    elif filter.endswith("/#"):
        pattern = pattern.removesuffix("/" + re.escape("#")) + "(/.*)?"
    return re.compile((r"(?!\$)" if filter[0] in "+#" else "") + pattern, re.DOTALL)


def _check_against_brute_force(first: str, second: str) -> None:
    named = {level for filter in (first, second) for level in filter.split("/")} - {"+", "#"}
    # and levels that neither of them names, one of them the server's own
    alphabet = [*sorted(named), "", "\N{SNOWMAN}", "$\N{SNOWMAN}"]
    if len(set(alphabet)) > 7:
        return
    reached: list[set[str]] = [set(), set()]
    for depth in range(1, 5):
        for levels in itertools.product(dict.fromkeys(alphabet), repeat=depth):
            topic = "/".join(levels)
            for filter, found in zip((first, second), reached, strict=True):
                if topic and matches(filter, topic):
                    found.add(topic)
    assert covers(first, second) == (reached[1] <= reached[0]), (first, second)
    assert covers(second, first) == (reached[0] <= reached[1]), (first, second)
    assert overlaps(first, second) == bool(reached[0] & reached[1]), (first, second)


# PROXY protocol


def proxy(data: bytes) -> None:
    """Any bytes in any pieces: a source, or a named error; never a byte of what follows the header."""
    choices = Choices(data)
    step = 1 + choices.below(40)
    stream = (SIGNATURE if choices.below(2) else b"") + choices.rest()
    outcomes = {_proxy(stream, step), _proxy(stream, 5_000)}
    assert len(outcomes) == 1, outcomes
    (source, taken, error) = outcomes.pop()
    assert taken <= 16 + MAX_BODY
    if source is not None and not error:
        assert stream.startswith(SIGNATURE)


def _proxy(stream: bytes, step: int) -> tuple[object, int, bool]:
    header, at = ProxyHeader(), 0
    try:
        while header.wanted and at < len(stream):
            piece = stream[at : at + min(step, header.wanted)]
            at += len(piece)
            header.feed(piece)
    except ProxyHeaderError:
        return None, 0, True
    return header.source, at, False
