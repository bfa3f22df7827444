"""What the node asks of others: of the plugins what is allowed, of the inboxes what concerns them.

Protocols only, so that the node knows neither amqtt nor the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aldis.broker.core.packets import Connect, Message
from aldis.broker.core.reasons import ConnectReturn
from aldis.broker.core.session import Session
from aldis.broker.router import Subscriber

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.broker.device import Device


class Decisions(Protocol):
    """What the plugins decide and hear. `admit` authenticates a CONNECT, after which `user_of` says who it is; nothing
    of the named session has been touched by then."""

    async def admit(self, connection: Connection, packet: Connect, client_id: str) -> ConnectReturn: ...
    def user_of(self, connection: Connection) -> str: ...
    def present(self, user: str) -> bool:
        """Whether the user has a connection, or one that is being judged."""

    def will_allowed(self, user: str, topic: str) -> bool: ...
    async def subscription(self, connection: Connection, filter: str) -> bool: ...
    async def may_receive(self, subscriber: Subscriber, topic: str) -> bool: ...
    def connected(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def subscribed(self, connection: Connection, filter: str, qos: int) -> None: ...
    def unsubscribed(self, connection: Connection, filter: str) -> None: ...


class InboxSide(Protocol):
    """What the node tells the inboxes. Absent on the lab profile."""

    def concerns(self, session: Session) -> bool: ...
    def attached(self) -> list[Device]: ...
    async def prepare(self, user: str) -> None: ...
    def forget_user(self, user: str) -> None: ...
    async def attach(self, connection: Connection) -> None: ...
    async def start(self, connection: Connection, filters: list[str]) -> None: ...
    def detach(self, connection: Connection) -> None: ...
    def unsubscribed(self, connection: Connection) -> None: ...
    def acknowledged(self, connection: Connection, message: Message) -> None: ...
    def drained(self, connection: Connection) -> None: ...


class Arrivals(Protocol):
    """What the node tells of devices that come and go. Absent on the lab profile."""

    async def arrive(self, connection: Connection, user: str, device: str, *, clean: bool) -> None:
        """Before CONNACK: this node holds the device from now on, and has of its persistent session what others had of
        it. Sets `connection.holding`. Waits for a bounded time."""

    def left(self, connection: Connection, *, away: bool) -> None:
        """The connection has ended; `away`: its session is kept."""

    def gone(self, user: str, device: str) -> None:
        """A kept session has ended."""
