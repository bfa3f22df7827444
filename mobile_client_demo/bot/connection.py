"""One connection of a bot: a stock paho client, made anew each time, so that nothing rests on paho's own memory."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

logger = logging.getLogger(__name__)

KEEP_ALIVE = 30
CONNECT_TIMEOUT = 10.0
GOODBYE = 2.0
NOT_ALLOWED = 5
"""CONNACK: a wrong, expired or revoked token."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the server says for a bot whose connection breaks. `topic` is below `devices/{me}/`."""

    topic: str
    payload: bytes = b"offline"
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect. `tls` is None for plain TCP."""

    user: str
    device: str
    address: tuple[str, int]
    tls: ssl.SSLContext | None
    will: Will | None


class Listener(Protocol):
    """Called from the network thread, except `acknowledged`, which may be called within a lock of paho's: it must not
    publish or wait. Whatever they raise is logged and ends the connection, not the thread."""

    def subscribed(self, connection: Connection) -> None: ...

    def arrived(self, connection: Connection, packet: mqtt.MQTTMessage) -> None: ...

    def acknowledged(self, connection: Connection, packet: int) -> None: ...

    def ended(self, connection: Connection, reason: int) -> None:
        """`reason` is the code of a CONNACK that refused it, else 0."""


class Connection:
    """`open` it once. It ends once, and says so once."""

    def __init__(self, target: Target, credential: str, filters: list[str], listener: Listener) -> None:
        self._target, self._filters, self._listener = target, filters, listener
        self._ended, self._refused = threading.Event(), 0
        paho = self._paho = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=target.device,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        paho.username_pw_set(target.user, credential)
        if target.tls is not None:
            paho.tls_set_context(target.tls)
        if target.will is not None:
            topic = f"devices/{target.user}/{target.will.topic}"
            paho.will_set(topic, target.will.payload, qos=1, retain=target.will.retain)
        paho.connect_timeout = CONNECT_TIMEOUT
        paho.max_inflight_messages_set(1_000)  # the outbox has a window of its own
        paho.on_socket_open = _without_nagle
        paho.on_connect = self._guarded(self._on_connect)
        paho.on_subscribe = self._guarded(self._on_subscribe)
        paho.on_publish = self._guarded(lambda _paho, _data, packet, *_: listener.acknowledged(self, packet))
        paho.on_message = self._guarded(lambda _paho, _data, packet: listener.arrived(self, packet))
        paho.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Raises `OSError` where nobody answers."""
        self._paho.connect(*self._target.address, keepalive=KEEP_ALIVE)
        self._paho.loop_start()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """The packet's number, for `acknowledged`."""
        return self._paho.publish(topic, payload, qos=qos, retain=retain).mid

    def acknowledge(self, packet: int, qos: int) -> None:
        self._paho.ack(packet, qos)

    def say_goodbye(self) -> None:
        """DISCONNECT, so that the server does not publish the will; returns when it has left, or cannot leave."""
        self._paho.disconnect()
        self._ended.wait(GOODBYE)

    def cut(self) -> None:
        """Ends it at once and without a word."""
        connection = self._paho.socket()
        if isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        # An exception would end paho's thread while `is_connected()` stays true.
        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception:
                logger.exception("the connection ends because of a fault")
                self.cut()

        return guarded

    def _on_connect(self, paho: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = NOT_ALLOWED if reason.getName() in ("Not authorized", "Bad user name or password") else 3
            return
        wanted = [(f"inbox/{self._target.user}/#", 1)]
        wanted += [(f"devices/{self._target.user}/{filter}", 1) for filter in self._filters]
        paho.subscribe(wanted)

    def _on_subscribe(self, _paho: mqtt.Client, _data: Any, _packet: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            logger.error("a subscription was refused: %s", reasons)
            self.cut()
            return
        self._listener.subscribed(self)

    def _on_disconnect(self, *_: Any) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._guarded(self._listener.ended)(self, self._refused)


def _without_nagle(_paho: mqtt.Client, _data: Any, connection: Any) -> None:
    """Paho leaves Nagle's algorithm on: a second small packet would wait some 40 ms for the answer to the first."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
