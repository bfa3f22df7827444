"""amqtt plugins for tests, loaded by their dotted path as an operator's would be."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from amqtt.broker import BrokerContext
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from amqtt.session import Session


class Recorder(BasePlugin[BrokerContext]):
    """Writes every event down."""

    def __init__(self, context: BrokerContext) -> None:
        super().__init__(context)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.closed = False

    def heard(self, name: str) -> list[dict[str, Any]]:
        return [arguments for event, arguments in self.events if event == name]

    async def on_broker_pre_start(self) -> None:
        self.events.append(("pre_start", {"listening": self.listening()}))

    async def on_broker_post_start(self) -> None:
        self.events.append(("post_start", {"listening": self.listening()}))

    async def on_broker_pre_shutdown(self) -> None:
        self.events.append(("pre_shutdown", {"listening": self.listening()}))

    async def on_broker_post_shutdown(self) -> None:
        self.events.append(("post_shutdown", {"listening": self.listening()}))

    def listening(self) -> bool:
        servers = self.context._broker_instance._servers.values()
        return any(server.instance is not None and server.instance.sockets for server in servers)

    async def on_broker_client_connected(self, client_id: str, client_session: Session) -> None:
        self.events.append(("client_connected", {"client_id": client_id, "session": client_session}))

    async def on_broker_client_disconnected(self, client_id: str, client_session: Session) -> None:
        self.events.append(("client_disconnected", {"client_id": client_id, "session": client_session}))

    async def on_broker_client_subscribed(self, client_id: str, topic: str, qos: int) -> None:
        self.events.append(("client_subscribed", {"client_id": client_id, "topic": topic, "qos": qos}))

    async def on_broker_client_unsubscribed(self, client_id: str, topic: str) -> None:
        self.events.append(("client_unsubscribed", {"client_id": client_id, "topic": topic}))

    async def on_broker_message_received(self, client_id: str, message: Any) -> None:
        self.events.append(("message_received", {"client_id": client_id, "message": message}))

    async def on_broker_message_broadcast(self, client_id: str, message: Any) -> None:
        self.events.append(("message_broadcast", {"client_id": client_id, "message": message}))

    async def on_broker_retained_message(self, client_id: str | None, retained_message: Any) -> None:
        self.events.append(("retained_message", {"client_id": client_id, "message": retained_message}))

    async def on_mqtt_packet_received(self, packet: Any, session: Session | None = None) -> None:
        self.events.append(("packet_received", {"packet": packet, "session": session}))

    async def on_mqtt_packet_sent(self, packet: Any, session: Session | None = None) -> None:
        self.events.append(("packet_sent", {"packet": packet, "session": session}))

    async def close(self) -> None:
        self.closed = True


class Passwords(BaseAuthPlugin):
    """Knows some users. `trouble` makes it raise, `slow` lets it think until `go`, of `stranger` it has no opinion."""

    @dataclass
    class Config:
        users: dict[str, str] = field(default_factory=dict)

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self.asked: list[dict[str, Any]] = []
        self.go = asyncio.Event()

    async def authenticate(self, *, session: Session) -> bool | None:
        self.asked.append(
            {name: getattr(session, name) for name in ("client_id", "username", "password", "will_topic")}
        )
        if session.username == "trouble":
            raise RuntimeError("the user database is on fire")
        if session.username == "slow":
            await self.go.wait()
        if session.username == "stranger":
            return None
        return session.username in self.config.users and self.config.users[session.username] == session.password


class TopicRules(BaseTopicPlugin):
    """`raising` topics, `slow` ones (until `go`, or for `seconds`), and what which user may not do."""

    @dataclass
    class Config:
        raising: list[str] = field(default_factory=list)
        slow: list[str] = field(default_factory=list)
        seconds: float = 0.5
        denied: dict[str, list[str]] = field(default_factory=dict)
        """User names by action: `publish`, `receive`, `subscribe`."""
        secret: list[str] = field(default_factory=list)
        """Topics that nobody may receive."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self.asked: list[tuple[str | None, str | None, Action | None]] = []
        self.raising = set(self.config.raising)
        self.go = asyncio.Event()

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        user = None if session is None else session.username
        self.asked.append((user, topic, action))
        if topic in self.config.slow and action is Action.PUBLISH:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.go.wait(), self.config.seconds)
        if topic in self.raising:
            raise RuntimeError("the rules are on fire")
        if action is Action.RECEIVE and topic in self.config.secret:
            return False
        names = {Action.PUBLISH: "publish", Action.RECEIVE: "receive", Action.SUBSCRIBE: "subscribe"}
        return action is None or user not in self.config.denied.get(names[action], [])


class Misspelt(BasePlugin[BrokerContext]):
    async def on_broker_client_conected(self, client_id: str, client_session: Session) -> None:
        raise AssertionError("nobody calls this")


class NotAwaitable(BasePlugin[BrokerContext]):
    def on_broker_client_connected(self, client_id: str, client_session: Session) -> None:
        raise AssertionError("nobody calls this")


class Broken(BasePlugin[BrokerContext]):
    def __init__(self, context: BrokerContext) -> None:
        raise RuntimeError("no licence key")


class NoPlugin:
    """A class like any other."""


class FailingListener(BasePlugin[BrokerContext]):
    """Raises at every message that it hears of."""

    async def on_broker_message_received(self, client_id: str, message: Any) -> None:
        raise RuntimeError("the statistics are on fire")
