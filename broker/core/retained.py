"""The retained messages of a node: the last message of each topic, bounded in number, size and bytes. Pure."""

from __future__ import annotations

from aldis.broker.core.packets import Message
from aldis.broker.core.subscriptions import RetainedTree


class Retained(RetainedTree[Message]):
    """`keep` instead of `put` and `pop`. `bytes` counts topics (one byte a character) and payloads."""

    __slots__ = ("_max_bytes", "_max_messages", "_max_size", "bytes")

    def __init__(self, max_messages: int, max_bytes: int, max_size: int) -> None:
        super().__init__()
        self.bytes = 0
        self.configure(max_messages, max_bytes, max_size)

    def configure(self, max_messages: int, max_bytes: int, max_size: int) -> None:
        """These bounds for what comes from now on; what is there stays."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_size = max_size

    def keep(self, message: Message) -> bool:
        """Keeps the message for its topic in place of an earlier one, with the RETAIN flag; an empty one forgets the
        topic [MQTT-3.3.1-10]. False: it does not fit. Then the topic is forgotten too: an old value would be untrue."""
        topic, payload = message.topic, message.payload
        old = self.pop(topic)
        if old is not None:
            self.bytes -= _size(old)
        if not payload:
            return True
        size = _size(message)
        fits = len(self) < self._max_messages and self.bytes + size <= self._max_bytes
        if not fits or len(payload) > self._max_size:
            return False
        self.put(topic, Message(topic, payload, message.qos, retain=True))
        self.bytes += size
        return True


def _size(message: Message) -> int:
    return len(message.topic) + len(message.payload)
