"""A device that is attached to its user's inbox."""

from __future__ import annotations

from collections.abc import Mapping

from aldis.broker.connection import Connection
from aldis.broker.core.feed import Feed
from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session
from aldis.broker.ports import NewMessage, Stored


class Device:
    """An attached device: its connection and its feed. `whole` is the QoS for every item where one subscription takes
    the whole inbox, -1 where each topic must be looked up."""

    __slots__ = ("connection", "feed", "session", "whole")

    def __init__(self, connection: Connection, session: Session, feed: Feed) -> None:
        self.connection = connection
        self.session = session
        self.feed = feed
        self.whole = -1
        self.subscriptions_changed()

    def subscriptions_changed(self) -> None:
        mine = [filter for filter in self.session.subscriptions if not filter.startswith("devices/")]
        self.whole = self.session.subscriptions.get(f"inbox/{self.session.user}/#", -1) if len(mine) == 1 else -1

    def qos(self, message: Message) -> int:
        """How this device wants the item; -1: not at all."""
        if message.origin and message.origin == self.session.device:
            return -1  # a copy of its own send
        return self.whole if self.whole >= 0 else self.session.interest(message.topic)


def unaware(attached: Mapping[str, Mapping[str, Device]], message: NewMessage, stored: Stored) -> dict[Device, None]:
    """The devices that have not heard of a message which turns out to be stored already, told now: a commit may take
    effect although its answer is lost, and then the repeat of it is the first that this node hears of it."""
    found: dict[Device, None] = {}
    for user, n in ((message.recipient, stored.n), (message.sender, stored.sync_n or 0)):
        for device in attached.get(user, {}).values():
            if n > device.feed.head:
                device.feed.hint(n)
                found[device] = None
    return found
