"""Topic names and topic filters, as chapter 4.7 of MQTT 3.1.1 has them.

A topic name is what a PUBLISH carries, a filter is what a SUBSCRIBE carries; both are levels separated by `/`, and
a level may be empty. `matches` says the rule in its plainest form and is what the tries are tested against.
"""

from __future__ import annotations

MAX_BYTES = 65_535
"""Longest topic or filter in UTF-8: its length travels in two bytes [MQTT-4.7.3-3]."""

_SURELY_SHORT = MAX_BYTES // 4
"""This many characters fit for certain, since none takes more than four bytes; saves encoding the usual topic."""


class TopicError(ValueError):
    """The client's fault: the text is no topic name, or no filter. `str(error)` is the reason, without the topic."""


def check_topic_name(topic: str, max_levels: int) -> None:
    """Raises `TopicError` unless `topic` may stand in a PUBLISH and has at most `max_levels` levels."""
    # [MQTT-3.3.2-2], [MQTT-4.7.1-1]: wildcards belong to filters only
    if "+" in topic or "#" in topic:
        raise TopicError("a topic name must not contain a wildcard")
    _check_text(topic, max_levels)


def check_filter(filter: str, max_levels: int) -> None:
    """Raises `TopicError` unless `filter` may stand in a SUBSCRIBE and has at most `max_levels` levels."""
    _check_text(filter, max_levels)
    # [MQTT-4.7.1-2]: '#' is the whole last level
    if "#" in filter and filter != "#" and (filter.index("#") != len(filter) - 1 or filter[-2] != "/"):
        raise TopicError("'#' must be the whole last level of a filter")
    # [MQTT-4.7.1-3]: '+' is a whole level
    if "+" in filter:
        for level in filter.split("/"):
            if "+" in level and level != "+":
                raise TopicError("'+' must be a whole level of a filter")


def _check_text(text: str, max_levels: int) -> None:
    if not text:
        raise TopicError("a topic must not be empty")  # [MQTT-4.7.3-1]
    if "\0" in text:
        raise TopicError("a topic must not contain U+0000")  # [MQTT-4.7.3-2]
    if text.count("/") >= max_levels:
        raise TopicError(f"a topic may have at most {max_levels} levels")
    if len(text) > _SURELY_SHORT and len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise TopicError(f"a topic may be at most {MAX_BYTES} bytes long")


def matches(filter: str, topic: str) -> bool:
    """Whether a subscription to `filter` gets what is published to `topic`. Both must be valid."""
    # [MQTT-4.7.2-1]: a leading wildcard never reaches the server's own topics
    if topic[0] == "$" and filter[0] in "+#":
        return False
    multi = filter[-1] == "#"
    if "+" not in filter:
        if not multi:
            return filter == topic
        # '#' stands for its parent level and everything below it, so 'a/#' matches 'a'
        return filter == "#" or topic.startswith(filter[:-1]) or topic == filter[:-2]
    wanted = filter.split("/")
    levels = topic.split("/")
    if multi:
        wanted.pop()
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return _fits(wanted, levels)


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that the filter `narrow` can match is matched by the filter `wide` too. Both must be valid.

    Authorisation grants a filter only if an allowed pattern covers it: `user/+` does not cover `user/#`.
    """
    # [MQTT-4.7.2-1]: '#' and '+/…' match no '$…' topic, so they cover no filter for one
    if narrow[0] == "$" and wide[0] in "+#":
        return False
    # the parent of these two would be the empty topic, which does not exist [MQTT-4.7.3-1]
    if narrow in ("#", "/#"):
        narrow = narrow[:-1] + "+/#"
    have = wide.split("/")
    need = narrow.split("/")
    if have[-1] == "#":
        have.pop()
        least = len(need) - 1 if need[-1] == "#" else len(need)
        if least < len(have):
            return False
    elif need[-1] == "#" or len(need) != len(have):
        return False
    # here `need` has no '#' within the levels of `have`, and a '+' in it is covered only by a '+'
    return _fits(have, need)


def _fits(wanted: list[str], levels: list[str]) -> bool:
    # a generator in `all` takes three times as long
    for i, level in enumerate(wanted):  # noqa: SIM110
        if level != levels[i] and level != "+":
            return False
    return True


def overlaps(first: str, second: str) -> bool:
    """Whether there is a topic that both filters match. Both must be valid."""
    if (first[0] == "$" and second[0] in "+#") or (second[0] == "$" and first[0] in "+#"):
        return False  # [MQTT-4.7.2-1]
    # '/#' has no parent level: that would be the empty topic, which does not exist [MQTT-4.7.3-1]
    a, b = (("/+/#" if filter == "/#" else filter).split("/") for filter in (first, second))
    for one, other in zip(a, b, strict=False):
        if one == "#" or other == "#":
            return True
        if one not in (other, "+") and other != "+":
            return False
    # 'a/#' also matches 'a' itself
    return len(a) == len(b) or a[len(b) :] == ["#"] or b[len(a) :] == ["#"]
