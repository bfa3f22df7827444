"""One connection to Redis that publishes and is subscribed, both at once, as RESP3 allows."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from aldis.bridge.redis_server import RedisServer
from aldis.bridge.resp import BrokenStream, Message, Oversized, Push, Refusal, RespReader, command


class PubSubEvents(Protocol):
    """What happens on the connection, in the event loop."""

    def subscribed(self, link: PubSub) -> None:
        """From now on everything published arrives."""

    def message(self, data: bytes) -> None: ...

    def oversized(self, size: int) -> None:
        """A message was longer than allowed, and is skipped."""

    def refused(self, reason: str) -> None:
        """Redis refused a PUBLISH."""

    def writable(self) -> None:
        """There is room again (`PubSub.has_room`)."""

    def lost(self, link: PubSub, reason: str) -> None:
        """It is over, also where it had never begun."""


class PubSub(asyncio.Protocol):
    """Logs in and subscribes by itself; then `subscribed`, or `lost`. Every answer and message is handled in the call
    that brought its bytes. Answers to PUBLISH are not waited for; what bounds the bytes on the way is `has_room`."""

    def __init__(
        self, server: RedisServer, channels: tuple[bytes, ...], events: PubSubEvents, *, max_message: int
    ) -> None:
        self._server = server
        self._channels = channels
        self._events = events
        self._reader = RespReader(max_message=max_message)
        self._unconfirmed = len(channels)
        self._reason = "the connection was closed"
        self._transport: asyncio.Transport | None = None
        self.has_room = True
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        """Set when it is subscribed, or will not be; set when it is over."""

    def publish(self, messages: list[tuple[bytes, bytes]]) -> None:
        """Channel and payload of each, in one write."""
        assert self._transport is not None
        self._transport.write(b"".join([command(b"PUBLISH", *message) for message in messages]))

    def drop(self, reason: str) -> None:
        """At once; what is not sent yet is lost."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(command(*self._server.greeting) + command(b"SUBSCRIBE", *self._channels))

    def data_received(self, data: bytes) -> None:
        try:
            for value in self._reader.feed(data):
                if isinstance(value, Message):
                    self._events.message(value)
                elif value.__class__ is not bytes:  # the count that answers a PUBLISH
                    self._answered(value)
        except BrokenStream as error:
            self.drop(f"this is not Redis: {error}")

    def _answered(self, value: object) -> None:
        if isinstance(value, Refusal):
            if self._unconfirmed:
                self.drop(value)
            else:
                self._events.refused(value)
        elif isinstance(value, Oversized):
            self._events.oversized(value)
        elif isinstance(value, Push) and value[:1] == [b"subscribe"]:
            self._unconfirmed -= 1
            if not self._unconfirmed:
                self.begun.set()
                self._events.subscribed(self)

    def pause_writing(self) -> None:
        self.has_room = False

    def resume_writing(self) -> None:
        self.has_room = True
        self._events.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_room = False
        self.begun.set()
        self.ended.set()
        self._events.lost(self, str(exc) if exc is not None else self._reason)
