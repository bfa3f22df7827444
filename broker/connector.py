"""The connector on amqtt: its configuration, listeners, plugin loading, contexts and events, our engine beneath.

What of amqtt 0.12.1 is replaced, each by name and each held by a test in `tests/unit/broker/test_amqtt_seams.py`:
`_create_server_instance` and `_client_connected` (connections run on `Connection`), `_broadcast_message` and
`retain_message` (messages run through `Router`), `_session_monitor` and `_broadcast_loop` (nothing to do), `start`'s
and `shutdown`'s order of events kept. What stays: `BrokerConfig`, `_start_listeners`, `PluginManager`, the base
classes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker, BrokerContext, RetainedApplicationMessage
from amqtt.contexts import BrokerConfig, ListenerType
from amqtt.errors import BrokerError, PluginError, PluginLoadError
from amqtt.events import BrokerEvents
from amqtt.plugins.base import BasePlugin
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session as AmqttSession

from aldis.broker.amqtt_adapter import AdapterTransport
from aldis.broker.amqtt_context import ConnectorContext
from aldis.broker.amqtt_plugins import HookError, PluginDecisions
from aldis.broker.arrival import Arrival, Gate, Way
from aldis.broker.connection import Connection
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.listener import Listener, cannot_listen
from aldis.broker.node import Node
from aldis.broker.websocket import WebSocketServerProtocol

_NAMESPACE = "aldis.plugins"
"""Names the plugins' loggers."""


class ConnectorError(Exception):
    """The connector cannot start; the text names the plugin or the listener and what is wrong with it."""


class Connector(Broker):
    """An amqtt broker whose connections, sessions and messages are ours.

    `plugins` are loaded at `load_plugins`, after whoever builds the node has put `services` there for them; `ways` are
    what stands in front of a listener, by its name.
    """

    def __init__(self, config: dict[str, Any], node: Node, loop: asyncio.AbstractEventLoop) -> None:
        plugins = config.pop("plugins", {})
        super().__init__(BrokerConfig.from_dict({**config, "plugins": {}}), loop, "amqtt.broker")
        self.config.plugins = plugins
        self.node = node
        self.services: object = None
        self.ways: Mapping[str, Way] = {}
        self.decisions: PluginDecisions

    def load_plugins(self) -> None:
        """Imports and makes the plugins of the configuration, in its order. Raises `ConnectorError`, also for one that
        hooks onto an event that does not exist."""
        context = ConnectorContext(self)
        context.config = self.config
        try:
            self.plugins_manager = _Plugins(_NAMESPACE, context, self._loop)
            self.decisions = PluginDecisions(self.node, self.plugins_manager)
        except (PluginError, PluginLoadError, HookError) as error:
            raise ConnectorError(_told(error)) from error
        self.node.decisions = self.decisions

    async def start(self) -> None:
        """Opens the listeners. Raises `ConnectorError` naming the address that is taken."""
        self.node.start()
        try:
            await super().start()
        except BrokerError as error:
            if isinstance(error.__cause__, ConnectorError):
                raise error.__cause__ from None
            raise ConnectorError(_told(error)) from error

    async def shutdown(self) -> None:
        """Stops accepting, ends every connection, tells the plugins. Commits are the composition root's to finish
        before."""
        await self.plugins_manager.fire_event(BrokerEvents.PRE_SHUTDOWN, wait=True)
        self.transitions.shutdown()
        for server in self._servers.values():
            if server.instance is not None:
                server.instance.close()
        for connection in list(self.node.connections):
            connection.end(CloseReason.SERVER_SHUTDOWN)
        await asyncio.sleep(0)  # the plugins hear of those ends before the node's tasks are cancelled
        self.node.stop()
        for task in (self._broadcast_task, self._session_monitor_task):
            if task is not None:
                task.cancel()
        await self.plugins_manager.wait_fired_events()
        await self.plugins_manager.fire_event(BrokerEvents.POST_SHUTDOWN, wait=True)
        await self.plugins_manager.close()
        self.transitions.stopping_success()

    def plugin(self, path: str) -> Any:
        """The loaded plugin of this dotted path; None if there is none."""
        named = {f"{type(one).__module__}.{type(one).__qualname__}": one for one in self.plugins_manager.plugins}
        return named.get(path)

    def stop_listening(self) -> None:
        """No new connections from now on; those there go on."""
        for server in self._servers.values():
            if server.instance is not None:
                server.instance.close()

    def addresses(self) -> dict[str, tuple[str, int]]:
        """The addresses really bound, by listener name: what port 0 became."""
        return {
            name: next(iter(server.instance.sockets)).getsockname()[:2]
            for name, server in self._servers.items()
            if server.instance is not None
        }

    # amqtt's private seams

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        configured = self.listeners_config[listener_name]
        listener = Listener(listener_name, configured.max_connections)
        if ssl_context is not None:
            raise BrokerError(f"listener '{listener_name}': certificates are set under 'tls', not amqtt's way")
        protocol = WebSocketServerProtocol if listener_type == ListenerType.WS else Connection
        way = self.ways.get(listener_name)
        gate = None if way is None else Gate(way, listener, lambda: self.node.timeouts.connect, self.node.spawn)

        def factory() -> asyncio.BaseProtocol:
            newcomer = protocol(self.node, listener)
            return newcomer if gate is None else Arrival(gate, newcomer)

        try:
            return await self._loop.create_server(factory, address, port, reuse_address=True, backlog=1_024)
        except OSError as error:
            raise ConnectorError(f"listener '{listener_name}': {cannot_listen(f'{address}:{port}', error)}") from error

    async def _client_connected(self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        """amqtt's public door for connections that someone else accepted (`external_connected`)."""
        if listener_name not in self._servers:
            raise BrokerError(f"Invalid listener name '{listener_name}'")
        connection = Connection(self.node, None)
        await AdapterTransport(reader, writer, connection).run()

    async def _broadcast_message(
        self,
        session: AmqttSession | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        if topic is not None:
            message = Message(topic, bytes(data or b""), 2 if force_qos is None else force_qos)
            self.node.router.publish(message, await self.decisions.denied(topic))

    async def retain_message(
        self,
        source_session: AmqttSession | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        if topic_name is not None:
            self.node.router.retain(Message(topic_name, bytes(data or b""), qos or 0, retain=True))

    async def _broadcast_loop(self) -> None:
        """Messages are delivered where they arrive."""

    async def _session_monitor(self) -> None:
        """Sessions expire by the node's clock."""

    @property
    def sessions(self) -> dict[str, Any]:
        """By client identifier, as amqtt has it; of two users with the same one, the last connected is shown."""
        return {
            device: (self.decisions.plugin_session(sub), None)
            for (_, device), sub in self.node.sessions.subscribers.items()
        }

    @property
    def subscriptions(self) -> dict[str, list[tuple[Any, int]]]:
        found: dict[str, list[tuple[Any, int]]] = {}
        for subscriber in self.node.sessions.subscribers.values():
            for filter, qos in subscriber.session.subscriptions.items():
                found.setdefault(filter, []).append((self.decisions.plugin_session(subscriber), qos))
        return found

    @property
    def retained_messages(self) -> dict[str, RetainedApplicationMessage]:
        return {
            topic: RetainedApplicationMessage(None, topic, message.payload, message.qos)
            for topic, message in self.node.router.retained.items()
        }


class _Plugins(PluginManager[BrokerContext]):
    """amqtt's loader, which says which plugin it was: amqtt itself does not where an option is wrong."""

    def _load_str_plugin(self, plugin_path: str, plugin_cfg: dict[str, Any] | None = None) -> BasePlugin[BrokerContext]:
        try:
            return super()._load_str_plugin(plugin_path, plugin_cfg)
        except Exception as error:
            raise ConnectorError(f"plugin {plugin_path}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """What went wrong: amqtt's words, and the causes that it wraps in them."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if text and not any(text in other for other in said):
            said.append(text)
        cause = cause.__cause__
    return ": ".join(said) or type(error).__name__
