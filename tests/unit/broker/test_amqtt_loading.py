"""Plugins come by dotted path; what is wrong with one is said before anybody connects, with its name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from amqtt.utils import import_string

from aldis.broker.connector import ConnectorError
from aldis.config.settings import PROFILES, load
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, make, running, until


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        (f"{PLUGINS}.Recorder", {"colour": "red"}, ["colour"]),
        ("amqtt.plugins.authentication.AnonymousAuthPlugin", {"allow_anonymous": "perhaps"}, ["allow_anonymous"]),
        ("amqtt.plugins.authentication.FileAuthPlugin", {"password_file": "/no/such/file"}, ["/no/such/file"]),
        (f"{PLUGINS}.Recoder", {}, []),
        ("tests.unit.broker.no_such_module.Plugin", {}, []),
        ("no_such_package.Plugin", {}, []),
        (f"{PLUGINS}.NoPlugin", {}, []),
        (f"{PLUGINS}.Broken", {}, ["no licence key"]),
        (f"{PLUGINS}.NotAwaitable", {}, ["on_broker_client_connected"]),
        (f"{PLUGINS}.Misspelt", {}, ["on_broker_client_conected"]),
        (
            "amqtt.plugins.topic_checking.TopicAccessControlListPlugin",
            {"acl": {"ann": ["a"]}, "subscribe_acl": {"ann": ["b"]}},
            ["subscribe_acl"],
        ),
    ],
)
async def test_a_wrong_plugin_is_an_error_that_names_it(path: str, options: dict[str, Any], words: list[str]) -> None:
    """In one line: the name, and what is wrong with it."""
    with pytest.raises(ConnectorError) as caught:
        make({ANONYMOUS: {}, path: options})
    text = str(caught.value)
    assert path.rpartition(".")[2] in text
    for word in words:
        assert word in text
    assert "\n" not in text


async def test_the_order_of_the_configuration_is_the_order_of_the_plugins() -> None:
    names = ["TopicRules", "Recorder", "Passwords"]
    connector = make({f"{PLUGINS}.{name}": {} for name in names})
    assert [type(plugin).__name__ for plugin in connector.plugins_manager.plugins] == names


async def test_a_plugin_knows_its_options_and_its_context() -> None:
    async with running({ANONYMOUS: {}, f"{PLUGINS}.Passwords": {"users": {"ann": "secret"}}}) as lab:
        plugin = lab.plugin("Passwords")
        assert plugin.config.users == {"ann": "secret"}
        assert plugin.context._broker_instance is lab.connector
        assert plugin.context.services is None


async def test_starting_and_stopping_are_told_in_order_around_the_listeners() -> None:
    async with running({ANONYMOUS: {}, f"{PLUGINS}.Recorder": {}}) as lab:
        recorder = lab.plugin("Recorder")
        client = await lab.client()
        assert not recorder.closed
    told = [(name, arguments["listening"]) for name, arguments in recorder.events if "listening" in arguments]
    assert told == [("pre_start", False), ("post_start", True), ("pre_shutdown", True), ("post_shutdown", False)]
    order = [name for name, _ in recorder.events if not name.startswith("packet")]
    assert order == [
        "pre_start",
        "post_start",
        "client_connected",
        "pre_shutdown",
        "client_disconnected",
        "post_shutdown",
    ]
    assert recorder.closed
    assert await client.closed() == []


async def test_a_listener_that_cannot_be_opened_is_named() -> None:
    async with running() as lab:
        host, port = lab.address
        other = make({ANONYMOUS: {}})
        other.listeners_config["default"].bind = f"{host}:{port}"
        with pytest.raises(ConnectorError, match=rf"default.*{host}:{port}"):
            await other.start()
        other.node.stop()


async def test_more_connections_than_allowed_are_closed_at_once() -> None:
    """amqtt would let the next one hang until somebody leaves."""
    connector = make({ANONYMOUS: {}})
    connector.listeners_config["default"].max_connections = 2
    await connector.start()
    try:
        streams = [await asyncio.open_connection(*connector.addresses()["default"]) for _ in range(3)]
        assert await streams[2][0].read() == b""
        streams[0][1].close()
        await until(lambda: len(connector.node.connections) == 1)
        reader, writer = await asyncio.open_connection(*connector.addresses()["default"])
        writer.write(b"\xc0\x00")  # served: it is told off for its first packet, not for its coming
        assert await reader.read() == b""
        assert len(connector.node.connections) == 1
    finally:
        await connector.shutdown()
        for _, one in streams:
            one.close()


def test_no_plugin_of_a_shipped_profile_is_misspelt() -> None:
    for profile in sorted(Path(PROFILES).glob("*.yaml")):
        for path in load(profile).plugins:
            assert import_string(path) is not None
