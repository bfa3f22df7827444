"""Every seam of amqtt that the connector stands on: an upgrade that moves one fails here, by name."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
from amqtt import adapters, broker, contexts
from amqtt import session as amqtt_session
from amqtt.adapters import BufferReader, ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker, BrokerContext, ExternalServer, RetainedApplicationMessage
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import BrokerError, PluginError, PluginImportError, PluginInitError, PluginLoadError
from amqtt.events import BrokerEvents, MQTTEvents
from amqtt.mqtt import packet_class
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from amqtt.plugins.manager import PluginManager
from amqtt.session import IncomingApplicationMessage

from aldis.broker.amqtt_context import ConnectorContext
from aldis.broker.amqtt_session import ConnectorSession
from aldis.broker.connector import Connector
from aldis.broker.core.packets import Message
from aldis.broker.core.session import Session as CoreSession

SEAMS: dict[Any, str] = {
    Broker.__init__: "(self, config, loop, plugin_namespace)",
    Broker.start: "async (self)",
    Broker.shutdown: "async (self)",
    Broker.external_connected: "async (self, reader, writer, listener_name)",
    Broker.internal_message_broadcast: "async (self, topic, data, qos)",
    Broker.retain_message: "async (self, source_session, topic_name, data, qos)",
    Broker._start_listeners: "async (self)",
    Broker._create_server_instance: "async (self, listener_name, listener_type, address, port, ssl_context)",
    Broker._client_connected: "async (self, listener_name, reader, writer)",
    Broker._broadcast_message: "async (self, session, topic, data, force_qos)",
    Broker._broadcast_loop: "async (self)",
    Broker._session_monitor: "async (self)",
    BrokerConfig.from_dict: "(d)",
    BrokerContext.__init__: "(self, broker)",
    BrokerContext.broadcast_message: "async (self, topic, data, qos)",
    BrokerContext.retain_message: "async (self, topic_name, data, qos)",
    BrokerContext.get_session: "(self, client_id)",
    BrokerContext.add_subscription: "async (self, client_id, topic, qos)",
    PluginManager.__init__: "(self, namespace, context, loop)",
    PluginManager._load_str_plugin: "(self, plugin_path, plugin_cfg)",
    PluginManager.map_plugin_auth: "async (self, *, session)",
    PluginManager.map_plugin_topic: "async (self, *, session, topic, action)",
    PluginManager.fire_event: "async (self, event_name, *, wait, **method_kwargs)",
    PluginManager.wait_fired_events: "async (self)",
    PluginManager.close: "async (self)",
    BasePlugin.__init__: "(self, context)",
    BasePlugin.close: "async (self)",
    BaseAuthPlugin.authenticate: "async (self, *, session)",
    BaseTopicPlugin.topic_filtering: "async (self, *, session, topic, action)",
    ReaderAdapter.read: "async (self, n)",
    WriterAdapter.write: "(self, data)",
    WriterAdapter.drain: "async (self)",
    WriterAdapter.get_peer_info: "(self)",
    WriterAdapter.close: "async (self)",
    StreamReaderAdapter.__init__: "(self, reader)",
    StreamWriterAdapter.__init__: "(self, writer)",
    BufferReader.__init__: "(self, buffer)",
    MQTTFixedHeader.from_stream: "async (reader)",
    packet_class: "(fixed_header)",
    ConnectPacket.from_stream: "async (reader, fixed_header, variable_header)",
    RetainedApplicationMessage.__init__: "(self, source_session, topic, data, qos)",
    IncomingApplicationMessage.__init__: "(self, packet_id, topic, qos, data, retain)",
    IncomingApplicationMessage.build_publish_packet: "(self, dup)",
}

REPLACED = [
    "_create_server_instance",
    "_client_connected",
    "_broadcast_message",
    "retain_message",
    "_broadcast_loop",
    "_session_monitor",
    "start",
    "shutdown",
    "sessions",
    "subscriptions",
    "retained_messages",
]


def signature(callable: Any) -> str:
    """Names and kinds of the parameters, without annotations and defaults."""
    parameters = inspect.signature(callable).parameters.values()
    bare = [one.replace(annotation=one.empty, default=one.empty) for one in parameters]
    text = str(inspect.Signature(bare))
    return f"async {text}" if inspect.iscoroutinefunction(callable) else text


def test_this_is_the_amqtt_that_was_read() -> None:
    assert version("amqtt") == "0.12.1"


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: str(seam.__qualname__))
def test_a_seam_is_where_it_was(seam: Any) -> None:
    assert signature(seam) == SEAMS[seam]


@pytest.mark.parametrize("name", REPLACED)
def test_what_the_connector_replaces_is_there_to_be_replaced(name: str) -> None:
    assert name in vars(Broker) or name in inspect.getsource(Broker.__init__)
    ours, theirs = getattr(Connector, name), getattr(Broker, name, None)
    assert name in vars(Connector)
    if inspect.isfunction(theirs):
        assert signature(ours) == signature(theirs)
    else:
        assert isinstance(ours, property) == isinstance(theirs, property)


async def test_the_attributes_that_amqtt_makes_for_itself() -> None:
    made = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}, "plugins": {}})
    for name in ("_servers", "_broadcast_task", "_session_monitor_task", "_loop", "listeners_config", "transitions"):
        assert hasattr(made, name), name
    assert made._broadcast_task is None and made._session_monitor_task is None
    manager = made.plugins_manager
    for name in ("_auth_plugins", "_topic_plugins", "_event_plugin_callbacks", "_fired_events", "plugins"):
        assert hasattr(manager, name), name
    made.transitions.start()
    made.transitions.starting_success()
    made.transitions.shutdown()
    made.transitions.stopping_success()
    assert ExternalServer().instance is None


def test_events_actions_and_kinds_of_listener() -> None:
    """Names of events become names of methods, `on_…`: a new one must be fired, a renamed one would be silent."""
    assert {str(event) for event in (*BrokerEvents, *MQTTEvents)} == {
        "broker_pre_start",
        "broker_post_start",
        "broker_pre_shutdown",
        "broker_post_shutdown",
        "broker_client_connected",
        "broker_client_disconnected",
        "broker_client_subscribed",
        "broker_client_unsubscribed",
        "broker_retained_message",
        "broker_message_received",
        "broker_message_broadcast",
        "mqtt_packet_sent",
        "mqtt_packet_received",
    }
    assert {action.name for action in Action} == {"PUBLISH", "SUBSCRIBE", "RECEIVE"}
    assert {kind.name for kind in ListenerType} == {"TCP", "WS", "EXTERNAL"}
    for error in (PluginLoadError, PluginImportError, PluginInitError, PluginError, BrokerError):
        assert issubclass(error, Exception)


async def test_start_fires_its_events_around_the_listeners_and_then_starts_the_two_loops() -> None:
    """The part of amqtt's own `start` that the connector keeps, by calling it."""
    source = inspect.getsource(Broker.start)
    steps = ["PRE_START, wait=True", "_start_listeners()", "POST_START, wait=True", "_broadcast_loop()", "_session_mon"]
    places = [source.index(step) for step in steps]
    assert places == sorted(places)


def test_a_session_for_plugins_has_everything_that_amqtts_has() -> None:
    ours, theirs = ConnectorSession(), amqtt_session.Session()
    for name, value in vars(theirs).items():
        if name in ("_packet_id", "transitions"):  # amqtt's own numbering; and a state machine of 40 KB
            continue
        if isinstance(value, str | int | bool | bytes | None | dict):
            assert getattr(ours, name) == value, name
        else:
            assert type(getattr(ours, name)).__name__ in (type(value).__name__, "dict"), name
    for name in vars(amqtt_session.Session):
        if not name.startswith("_") and name not in ("next_packet_id", "clear_queues", "states"):
            assert getattr(ours, name) is not None, name
    assert isinstance(ours, amqtt_session.Session)
    assert ours.transitions.state == "disconnected" and not ours.transitions.is_connected()


def test_a_session_for_plugins_shows_the_session_beneath() -> None:
    ours = ConnectorSession()
    core = ours.core = CoreSession("ann", "phone", clean=False, max_inflight=1, max_queued=5)
    core.resume([])
    assert ours.transitions.state == "connected" and ours.transitions.is_connected()
    for _ in range(3):
        core.deliver(Message("a", b""), 1)
    core.begin_incoming(7, object())
    assert (ours.inflight_out_count, ours.inflight_in_count, ours.retained_messages_count) == (1, 1, 2)
    assert (list(ours.inflight_out), list(ours.inflight_in)) == ([1], [7])
    core.suspend()
    assert ours.transitions.state == "disconnected"
    assert ours != ConnectorSession() and len({ours, ConnectorSession()}) == 2


def test_the_context_offers_what_amqtts_offers() -> None:
    public = {name for name in vars(BrokerContext) if not name.startswith("_")}
    assert public == {
        "broadcast_message",
        "retain_message",
        "sessions",
        "get_session",
        "retained_messages",
        "subscriptions",
        "add_subscription",
    }
    assert issubclass(ConnectorContext, BrokerContext)


def test_modules_are_where_they_are_imported_from() -> None:
    assert {"ReaderAdapter", "WriterAdapter", "BufferReader"} <= set(vars(adapters))
    assert {"BrokerConfig", "ListenerConfig", "ListenerType", "Action"} <= set(vars(contexts))
    assert {"BrokerContext", "RetainedApplicationMessage", "Server"} <= set(vars(broker))
    assert {"type", "bind", "max_connections"} <= set(inspect.signature(ListenerConfig).parameters)
