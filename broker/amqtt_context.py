"""amqtt's context object for plugins, over our engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqtt.broker import BrokerContext
from amqtt.session import Session

if TYPE_CHECKING:
    from aldis.broker.connector import Connector
    from aldis.broker.node import Node


class ConnectorContext(BrokerContext):
    """What amqtt plugins may ask and do. `services` is for Aldis' own plugins; None on a node without inboxes."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._connector = connector

    @property
    def services(self) -> Any:
        return self._connector.services

    @property
    def node(self) -> Node:
        return self._connector.node

    @property
    def plugins(self) -> list[Any]:
        """Every loaded plugin, in the order of the profile."""
        return list(self._connector.plugins_manager.plugins)

    def get_session(self, client_id: str) -> Session | None:
        found = self._connector.sessions.get(client_id)
        return None if found is None else found[0]

    async def add_subscription(self, client_id: str, topic: str | None, qos: int | None) -> None:
        """Subscribes the sessions of a client identifier. Unlike amqtt it makes no session for a client that was never
        there: a session belongs to a user, and this call names none. Raises `LookupError`."""
        node = self._connector.node
        found = [sub for (_, device), sub in node.sessions.subscribers.items() if device == client_id]
        if not found:
            raise LookupError(f"no session of a client {client_id!r}")
        if topic is None or qos is None:
            return
        for subscriber in found:
            node.router.subscribe(subscriber, topic, qos)
            for _, message in list(node.router.retained.match(topic)):
                node.router.send_retained(subscriber, message, qos)
