"""Chapter 4.7 of MQTT 3.1.1, against an oracle that knows regular expressions only."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aldis.broker.core.topics import TopicError, check_filter, check_topic_name, covers, matches, overlaps

LITERALS = ["", "a", "$x"]
"""What stands in filters; topics also have levels that no filter names."""
TOPICS = [
    "/".join(levels)
    for depth in (1, 2, 3, 4)
    for levels in itertools.product([*LITERALS, "z", "$z"], repeat=depth)
    if levels != ("",)
]


def filters(depth: int) -> list[str]:
    """All valid filters with at most this many levels."""
    plain = [levels for count in range(depth + 1) for levels in itertools.product([*LITERALS, "+"], repeat=count)]
    ended = ["/".join(levels) for levels in plain if levels not in ((), ("",))]
    return ended + ["/".join([*levels, "#"]) for levels in plain if len(levels) < depth]


def expression(filter: str) -> re.Pattern[str]:
    """The filter as a regular expression."""
    pattern = re.escape(filter).replace(r"\+", "[^/]*")
    if filter == "#":
        pattern = ".*"
    elif filter.endswith("/#"):
        pattern = pattern.removesuffix(re.escape("/#")) + "(/.*)?"
    if filter[0] in "+#":
        pattern = r"(?!\$)" + pattern
    return re.compile(pattern, re.DOTALL)


def reach(filter: str) -> int:
    """The set of topics that the filter matches, as a bit mask over TOPICS."""
    match = expression(filter).fullmatch
    return sum(1 << i for i, topic in enumerate(TOPICS) if match(topic))


def test_matches_agrees_with_the_oracle_for_all_small_topics() -> None:
    for filter in filters(4):
        match = expression(filter).fullmatch
        for topic in TOPICS:
            assert matches(filter, topic) == bool(match(topic)), (filter, topic)


def test_covers_and_overlaps_are_exact_for_all_small_filters() -> None:
    # the filters are one level shallower than the topics, so that nothing infinite looks finite
    reached = {filter: reach(filter) for filter in filters(3)}
    assert len(reached) > 100
    for wide, narrow in itertools.product(reached, repeat=2):
        assert covers(wide, narrow) == (reached[narrow] & ~reached[wide] == 0), (wide, narrow)
        assert overlaps(wide, narrow) == (reached[narrow] & reached[wide] != 0), (wide, narrow)


@given(
    st.lists(st.sampled_from(["", "a", "é", "$x", "+"]), min_size=1, max_size=12),
    st.booleans(),
    st.data(),
)
def test_what_a_filter_covers_it_also_matches(levels: list[str], multi: bool, data: st.DataObject) -> None:
    narrow = "/".join([*levels, "#"] if multi else levels)
    if not narrow:
        narrow = "a"
    wide = "/".join(
        data.draw(st.sampled_from([level, "+"]), label="level") if level != "#" else level
        for level in narrow.split("/")[: data.draw(st.integers(1, 13), label="depth")]
    )
    if data.draw(st.booleans(), label="multi"):
        wide = wide.removesuffix("#").rstrip("/") + "/#"
    tail = data.draw(st.lists(st.sampled_from(["", "q", "$q"]), max_size=3), label="tail")
    filled = [data.draw(st.sampled_from(["", "q"]), label="fill") if level == "+" else level for level in levels]
    topic = "/".join(filled + tail if multi else filled) or "a"
    if covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)


@pytest.mark.parametrize(
    ("filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis/player10", False),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor/Clients", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor/Clients", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("ACCOUNTS", "Accounts", False),
    ],
)
def test_examples_of_the_standard(filter: str, topic: str, expected: bool) -> None:
    assert matches(filter, topic) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("inbox/bob/#", "inbox/bob/chat/+", True),
        ("inbox/bob/#", "inbox/bob", True),
        ("inbox/bob/#", "inbox/#", False),
        ("inbox/bob/#", "inbox/+/chat/alice", False),
        ("inbox/bob/#", "#", False),
        ("user/+", "user/#", False),
        ("#", "$SYS/#", False),
        ("+/#", "#", True),
        ("#", "+/#", True),
        ("a/+/#", "a/#", False),
    ],
)
def test_covers_examples(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected


@pytest.mark.parametrize("topic", ["a", "/", "a//b", " ", "$SYS/x", "Ünïcode/√", "a/" * 31 + "a", "x" * 65_535])
def test_good_topic_names(topic: str) -> None:
    check_topic_name(topic, 32)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "empty"),
        ("a/+/b", "wildcard"),
        ("a+", "wildcard"),
        ("#", "wildcard"),
        ("a\0b", "U+0000"),
        ("/" * 32, "32 levels"),
        ("x" * 65_536, "65535 bytes"),
        ("é" * 32_768, "65535 bytes"),
        ("😀" * 16_384, "65535 bytes"),
    ],
)
def test_bad_topic_names(topic: str, reason: str) -> None:
    with pytest.raises(TopicError, match=re.escape(reason)):
        check_topic_name(topic, 32)


@pytest.mark.parametrize("filter", ["#", "+", "/", "a/#", "+/+", "/#", "a/+/b/#", "//", "+/a/#", "$SYS/#"])
def test_good_filters(filter: str) -> None:
    check_filter(filter, 32)


@pytest.mark.parametrize(
    ("filter", "reason"),
    [
        ("", "empty"),
        ("a#", "'#'"),
        ("a/#/b", "'#'"),
        ("#/", "'#'"),
        ("##", "'#'"),
        ("a/##", "'#'"),
        ("+#", "'#'"),
        ("a+", "'+'"),
        ("a/+b/c", "'+'"),
        ("++", "'+'"),
        ("a/b+/#", "'+'"),
        ("a\0", "U+0000"),
        ("+/" * 32 + "#", "32 levels"),
        ("x" * 65_534 + "/#", "65535 bytes"),
    ],
)
def test_bad_filters(filter: str, reason: str) -> None:
    with pytest.raises(TopicError, match=re.escape(reason)):
        check_filter(filter, 32)


@given(st.text(alphabet="+#/a$", max_size=6))
@example("a/#")
def test_check_filter_accepts_exactly_the_valid_ones(filter: str) -> None:
    levels = filter.split("/")
    valid = bool(filter) and all(
        level == "+" or (level == "#" and i == len(levels) - 1) or not set("+#") & set(level)
        for i, level in enumerate(levels)
    )
    try:
        check_filter(filter, 32)
    except TopicError:
        assert not valid
    else:
        assert valid


def test_errors_are_value_errors_without_the_topic() -> None:
    with pytest.raises(ValueError) as caught:
        check_topic_name("secret/+", 32)
    assert "secret" not in str(caught.value)
