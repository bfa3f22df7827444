"""Changes of retained messages that the store does not have yet: by user, of several of one topic the last. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from aldis.broker.core.packets import Message


class Unwritten:
    """What waits to be written, and what is being written. `count` and `bytes` (topics, one byte a character, and
    payloads) are of what waits. An empty payload is a change, too: there is no retained message any more."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self._waiting: OrderedDict[str, dict[str, Message]] = OrderedDict()
        self._writing: dict[str, dict[str, Message]] = {}

    def __len__(self) -> int:
        return self.count + sum(map(len, self._writing.values()))

    def note(self, user: str, message: Message) -> None:
        """The topic, which is this user's, has changed."""
        changes = self._waiting.setdefault(user, {})
        self._remove(changes, message.topic)
        self._add(changes, message)

    def bound(self, count: int, size: int) -> int:
        """Drops what has waited longest until these bounds are kept, and says how many that were."""
        dropped = 0
        while self.count > count or self.bytes > size:
            user, changes = next(iter(self._waiting.items()))
            self._remove(changes, next(iter(changes)))
            if not changes:
                del self._waiting[user]
            dropped += 1
        return dropped

    def drop(self, user: str, topic: str) -> None:
        """What waits there is not to be written."""
        changes = self._waiting.get(user)
        if changes is not None:
            self._remove(changes, topic)
            if not changes:
                del self._waiting[user]

    def of(self, user: str) -> dict[str, Message]:
        """Every change of this user, by topic."""
        return {**self._writing.get(user, {}), **self._waiting.get(user, {})}

    def waiting(self, user: str) -> list[Message]:
        """Those of them that are not being written now, in the order in which they came."""
        return list(self._waiting.get(user, {}).values())

    def concerns(self, user: str) -> bool:
        return user in self._waiting or user in self._writing

    def take(self, may: Callable[[str], bool], count: int, size: int) -> list[Message]:
        """The next batch, of those users who may be written: at least one change if there is any, else at most so many
        changes and bytes. It is answered with `written` or `put_back`."""
        batch: list[Message] = []
        for user in [user for user in self._waiting if may(user)]:
            changes = self._waiting[user]
            taken: dict[str, Message] = {}
            for topic in list(changes):
                if batch and (len(batch) >= count or size < _size(changes[topic])):
                    break
                message = taken[topic] = changes[topic]
                self._remove(changes, topic)
                size -= _size(message)
                batch.append(message)
            if taken:
                self._writing[user] = taken
            if changes:
                break
            del self._waiting[user]
        return batch

    def written(self) -> None:
        """The store has the batch."""
        self._writing.clear()

    def put_back(self) -> None:
        """The store has not taken the batch: it comes first again, but for what has changed since."""
        for user, taken in reversed(self._writing.items()):
            newer = self._waiting.get(user, {})
            changes: dict[str, Message] = {}
            for topic, message in taken.items():
                if topic not in newer:
                    self._add(changes, message)
            if changes or newer:
                self._waiting[user] = {**changes, **newer}
                self._waiting.move_to_end(user, last=False)
        self._writing.clear()

    def _add(self, changes: dict[str, Message], message: Message) -> None:
        changes[message.topic] = message
        self.count += 1
        self.bytes += _size(message)

    def _remove(self, changes: dict[str, Message], topic: str) -> None:
        message = changes.pop(topic, None)
        if message is not None:
            self.count -= 1
            self.bytes -= _size(message)


def _size(message: Message) -> int:
    return len(message.topic) + len(message.payload)
