"""amqtt's `Session`, as plugins know it, over our own session machine.

amqtt builds a `transitions.Machine` and three queues for each session, about 50 KB a connection. A plugin reads a few
attributes; it gets those, and what is rarely asked for is worked out when it is.
"""

from __future__ import annotations

from asyncio import Queue
from typing import Any

from amqtt.session import ApplicationMessage, Session

from aldis.broker.core.session import Session as CoreSession


class _Transitions:
    """What plugins ask of amqtt's state machine: which state it is in."""

    __slots__ = ("_connected",)

    def __init__(self, connected: bool) -> None:
        self._connected = connected

    @property
    def state(self) -> str:
        return "connected" if self._connected else "disconnected"

    def is_connected(self) -> bool:
        return self._connected


class ConnectorSession(Session):
    """Passed to plugins for authentication, topic decisions and events. `core` is set once CONNECT is accepted."""

    # Defaults of amqtt's own constructor, kept on the class: an idle connection pays only for what differs.
    remote_address: str | None = None
    remote_port: int | None = None
    client_id: str | None = None
    clean_session: bool | None = None
    will_flag: bool = False
    will_message: bytes | bytearray | None = None
    will_qos: int | None = None
    will_retain: bool | None = None
    will_topic: str | None = None
    keep_alive: int = 0
    publish_retry_delay: int = 0
    broker_uri: str | None = None
    username: str | None = None
    password: str | None = None
    cafile: str | None = None
    capath: str | None = None
    cadata: bytes | None = None
    parent: int = 0
    last_connect_time: int | None = None
    last_disconnect_time: int | None = None
    ssl_object: Any = None
    is_anonymous: bool = False
    core: CoreSession | None = None

    def __init__(self) -> None:
        # amqtt's constructor is left out on purpose: see the module
        self.attributes: dict[str, Any] = {}

    @property
    def transitions(self) -> _Transitions:  # type: ignore[override]
        return _Transitions(self.core is not None and self.core.out is not None)

    @property
    def inflight_out(self) -> dict[int, Any]:  # type: ignore[override]
        return dict(self.core.inflight) if self.core is not None else {}

    @property
    def inflight_in(self) -> dict[int, Any]:  # type: ignore[override]
        return dict(self.core.incoming or {}) if self.core is not None else {}

    @property
    def inflight_out_count(self) -> int:
        return len(self.core.inflight) if self.core is not None else 0

    @property
    def inflight_in_count(self) -> int:
        return len(self.core.incoming or ()) if self.core is not None else 0

    @property
    def retained_messages_count(self) -> int:
        """Messages waiting for this session, in amqtt's words."""
        return len(self.core.queue or ()) if self.core is not None else 0

    @property
    def retained_messages(self) -> Queue[ApplicationMessage]:  # type: ignore[override]
        return Queue()

    @property
    def delivered_message_queue(self) -> Queue[ApplicationMessage]:  # type: ignore[override]
        return Queue()

    def __repr__(self) -> str:
        return f"ConnectorSession(client_id={self.client_id!r}, state={self.transitions.state})"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other
