"""Who gets what: a trie from topic filters to subscribers, and a trie of retained messages.

Both are walked along the levels of one topic or filter, so their cost follows its depth and the number of hits, not
the number of other entries. Nothing recurses, and a node that holds nothing more is removed at once.
Filters and topics must have passed `topics.check_filter` and `topics.check_topic_name`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
V = TypeVar("V")


class _Node(Generic[T]):
    """One level of a filter. `here` are the subscribers whose filter ends with this level, `below` those whose filter
    goes on with a last '#'. What is None holds nothing: most nodes have only one of the four."""

    __slots__ = ("below", "children", "here", "plus")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] | None = None
        self.plus: _Node[T] | None = None
        self.here: dict[T, int] | None = None
        self.below: dict[T, int] | None = None

    def is_empty(self) -> bool:
        return self.children is None and self.plus is None and self.here is None and self.below is None


class SubscriptionTree(Generic[T]):
    """Subscribers by filter. `len()` counts (filter, subscriber) pairs.

    `version` rises with every change that can alter the result of a `match`: a route found at the same version is
    still good.
    """

    __slots__ = ("_pairs", "_root", "version")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._pairs = 0
        self.version = 0

    def __len__(self) -> int:
        return self._pairs

    def add(self, filter: str, subscriber: T, qos: int) -> bool:
        """Subscribes; true if the pair is new. An existing one gets the new `qos` [MQTT-3.8.4-3]."""
        levels = filter.split("/")
        multi = levels[-1] == "#"
        if multi:
            levels.pop()
        node = self._root
        for level in levels:
            following = _child(node, level)
            if following is None:
                following = _Node()
                if level == "+":
                    node.plus = following
                elif node.children is None:
                    node.children = {level: following}
                else:
                    node.children[level] = following
            node = following
        subscribers = node.below if multi else node.here
        if subscribers is None:
            subscribers = {}
            if multi:
                node.below = subscribers
            else:
                node.here = subscribers
        old = subscribers.get(subscriber)
        if old == qos:
            return False
        subscribers[subscriber] = qos
        self.version += 1
        if old is not None:
            return False
        self._pairs += 1
        return True

    def remove(self, filter: str, subscriber: T) -> bool:
        """Unsubscribes; false if the pair was not there."""
        levels = filter.split("/")
        multi = levels[-1] == "#"
        if multi:
            levels.pop()
        node = self._root
        path = []
        for level in levels:
            following = _child(node, level)
            if following is None:
                return False
            path.append(node)
            node = following
        subscribers = node.below if multi else node.here
        if subscribers is None or subscribers.pop(subscriber, None) is None:
            return False
        self._pairs -= 1
        self.version += 1
        if not subscribers:
            if multi:
                node.below = None
            else:
                node.here = None
            _prune(node, path, levels)
        return True

    def match(self, topic: str) -> list[tuple[T, int]]:
        """Each subscriber that gets what is published to `topic`, once, with the highest QoS of its matching filters.

        Overlapping subscriptions therefore deliver one copy, which [MQTT-3.3.5-1] allows. In no certain order.
        """
        levels = topic.split("/")
        depth = len(levels)
        found: list[dict[T, int]] = []
        branches: list[tuple[_Node[T], int]] = []
        node = self._root
        i = 0
        if topic[0] == "$":
            # [MQTT-4.7.2-1]: a wildcard in the first level does not reach '$…'
            start = _child(node, levels[0])
            if start is None:
                return []
            node = start
            i = 1
        while True:
            if node.below is not None:
                found.append(node.below)
            child = plus = None
            if i < depth:
                if node.children is not None:
                    child = node.children.get(levels[i])
                plus = node.plus
                i += 1
            elif node.here is not None:
                found.append(node.here)
            if child is not None:
                if plus is not None:
                    branches.append((plus, i))
                node = child
            elif plus is not None:
                node = plus
            elif branches:
                node, i = branches.pop()
            else:
                break
        if len(found) == 1:
            return list(found[0].items())
        return _merged(found) if found else []


def _child(node: _Node[T], level: str) -> _Node[T] | None:
    if level == "+":
        return node.plus
    return None if node.children is None else node.children.get(level)


def _prune(node: _Node[T], path: list[_Node[T]], levels: list[str]) -> None:
    """Removes `node` if it holds nothing, and then its parents likewise; `levels[i]` leads on from `path[i]`."""
    while path and node.is_empty():
        node = path.pop()
        level = levels[len(path)]
        if level == "+":
            node.plus = None
        elif node.children is not None:
            del node.children[level]
            if not node.children:
                node.children = None


def _merged(found: list[dict[T, int]]) -> list[tuple[T, int]]:
    best = found[0].copy()
    for subscribers in found[1:]:
        for subscriber, qos in subscribers.items():
            if best.get(subscriber, -1) < qos:
                best[subscriber] = qos
    return list(best.items())


class _Leaf(Generic[V]):
    """One level of a retained topic. `topic` is the whole name if a message is retained under it, else None."""

    __slots__ = ("children", "topic", "value")

    value: V

    def __init__(self) -> None:
        self.children: dict[str, _Leaf[V]] = {}
        self.topic: str | None = None

    def is_empty(self) -> bool:
        return self.topic is None and not self.children


class RetainedTree(Generic[V]):
    """One value for each topic, found again by filter. `len()` counts topics."""

    __slots__ = ("_root", "_topics")

    def __init__(self) -> None:
        self._root: _Leaf[V] = _Leaf()
        self._topics = 0

    def __len__(self) -> int:
        return self._topics

    def put(self, topic: str, value: V) -> bool:
        """Keeps `value` for `topic` in place of an earlier one; true if there was none."""
        node = self._root
        for level in topic.split("/"):
            following = node.children.get(level)
            if following is None:
                following = node.children[level] = _Leaf()
            node = following
        node.value = value
        if node.topic is not None:
            return False
        node.topic = topic
        self._topics += 1
        return True

    def get(self, topic: str) -> V | None:
        """The value for `topic`, None if there is none."""
        node = self._root
        for level in topic.split("/"):
            following = node.children.get(level)
            if following is None:
                return None
            node = following
        return None if node.topic is None else node.value

    def pop(self, topic: str) -> V | None:
        """Forgets the topic and gives back its value, None if there was none."""
        levels = topic.split("/")
        node = self._root
        path = []
        for level in levels:
            following = node.children.get(level)
            if following is None:
                return None
            path.append(node)
            node = following
        if node.topic is None:
            return None
        value = node.value
        del node.value
        node.topic = None
        self._topics -= 1
        while path and node.is_empty():
            node = path.pop()
            del node.children[levels[len(path)]]
        return value

    def match(self, filter: str) -> Iterator[tuple[str, V]]:
        """The topics that `filter` matches with their values, in no certain order, found as they are asked for.

        The tree may change meanwhile: what was there all the time is given once, what came or went perhaps.
        """
        levels = filter.split("/")
        multi = levels[-1] == "#"
        if multi:
            levels.pop()
        depth = len(levels)
        stack = [(self._root, 0)]
        while stack:
            node, i = stack.pop()
            # beyond the last level there is only what '#' asks for: everything from here down
            if i >= depth and node.topic is not None:
                yield node.topic, node.value
            if i < depth and levels[i] != "+":
                child = node.children.get(levels[i])
                if child is not None:
                    stack.append((child, i + 1))
            elif i < depth or multi:
                below = i + 1
                if i == 0:
                    # [MQTT-4.7.2-1]
                    stack.extend((child, 1) for level, child in node.children.items() if level[:1] != "$")
                else:
                    stack.extend((child, below) for child in node.children.values())

    def items(self) -> Iterator[tuple[str, V]]:
        """Every topic with its value, those of the server included, in no certain order."""
        stack = [self._root]
        while stack:
            node = stack.pop()
            if node.topic is not None:
                yield node.topic, node.value
            stack.extend(node.children.values())
