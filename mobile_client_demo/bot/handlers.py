"""Which functions of the bot's author are called for what arrives, and for which item a function is running."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from aldis.mobile_client_demo.wire import Item, Presence, Receipt, Typing

Kind = Literal["message", "sync", "system", "receipt", "presence", "typing", "device", "online"]
Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A chat message to this bot, or a copy of one that another device of its user has sent."""

    item: Item
    body: Any
    """What was written: a text, or any JSON. None where it was encrypted and cannot be read: `problem` says why."""
    problem: str = ""

    @property
    def sender(self) -> str:
        return self.item.sender

    @property
    def to(self) -> str:
        return self.item.recipient

    @property
    def type(self) -> str:
        return str(self.item.content.get("type", "text"))

    @property
    def encrypted(self) -> bool:
        return "enc" in self.item.content

    @property
    def n(self) -> int:
        return self.item.n

    @property
    def mid(self) -> int:
        return self.item.mid


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """Plain MQTT below `devices/{me}/`; `topic` is what stands behind that."""

    topic: str
    payload: bytes
    retained: bool


Arrived = Message | Item | Receipt | Presence | Typing | DeviceMessage | None


@dataclass(slots=True)
class Handling:
    """One function is running for the item n. What it sends gets ids that follow from these numbers: when a crash
    makes it run again, it sends the same messages, and the server knows them."""

    n: int
    place: int
    sent: int = 0

    def next_id(self, prefix: str) -> str:
        self.sent += 1
        return f"{prefix}-{self.n}.{self.place}.{self.sent}"


handling: ContextVar[Handling | None] = ContextVar("handling", default=None)


@dataclass(frozen=True, slots=True)
class _Handler:
    kind: Kind
    function: Function
    type: str | None
    sender: str | None


class Handlers:
    """In the order in which they were added; every one that fits is called."""

    def __init__(self) -> None:
        self._all: list[_Handler] = []
        self.filters: list[str] = []
        """Topic filters below `devices/{me}/` that somebody wants."""

    def add(self, kind: Kind, function: Function, *, type: str | None = None, sender: str | None = None) -> None:
        """`type` is that of a message or a word of the server, or a topic filter for `device`."""
        self._all.append(_Handler(kind, function, type, sender))
        if kind == "device" and type is not None and type not in self.filters:
            self.filters.append(type)

    def wanted(self, kind: Kind) -> bool:
        return any(one.kind == kind for one in self._all)

    def fitting(self, kind: Kind, arrived: Arrived) -> Iterator[tuple[int, Function]]:
        """Each with its place, which stays the same from run to run of one program."""
        for place, one in enumerate(self._all):
            if one.kind == kind and _fits(one, arrived):
                yield place, one.function


def _fits(handler: _Handler, arrived: Arrived) -> bool:
    if isinstance(arrived, DeviceMessage):
        return handler.type is None or matches(handler.type, arrived.topic)
    if isinstance(arrived, Item):
        return handler.type in (None, arrived.content.get("type"))
    if isinstance(arrived, Receipt):
        return handler.type in (None, arrived.type) and _from(handler, arrived.peer)
    if isinstance(arrived, Presence | Typing):
        return _from(handler, arrived.friend)
    if isinstance(arrived, Message):
        return handler.type in (None, arrived.type) and _from(handler, arrived.sender)
    return True


def _from(handler: _Handler, sender: str) -> bool:
    return handler.sender is None or fnmatch.fnmatchcase(sender, handler.sender)


def matches(filter: str, topic: str) -> bool:
    """MQTT's wildcards `+` and `#`."""
    wanted, levels = filter.split("/"), topic.split("/")
    for place, part in enumerate(wanted):
        if part == "#":
            return True
        if place >= len(levels) or part not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)
