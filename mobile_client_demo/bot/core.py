"""What both faces of the bot share: one thread that keeps the connection and the outbox, one that calls handlers.

Paho's network thread does nothing but sort what arrives. Receipts and acknowledgements go to the keeper, everything for
a handler to the worker (`reception.py`); both queues are bounded, and at the bound the connection ends, because
everything that counts comes again on the next one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import MQTTMessage

from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.bot.backoff import Backoff
from aldis.mobile_client_demo.bot.connection import NOT_ALLOWED, Connection, Target
from aldis.mobile_client_demo.bot.disk import Disk
from aldis.mobile_client_demo.bot.handlers import DeviceMessage, Handlers, handling
from aldis.mobile_client_demo.bot.handles import Handle, Handles, Stopped
from aldis.mobile_client_demo.bot.key_chest import KeyChest
from aldis.mobile_client_demo.bot.reception import Invoke, Reception, Ticket
from aldis.mobile_client_demo.bot.stored_outbox import StoredOutbox
from aldis.mobile_client_demo.outbox import Outgoing, Progress
from aldis.mobile_client_demo.rest import Refused, RestError
from aldis.mobile_client_demo.wire import Item, Presence, Receipt, Typing, WireError, parse

logger = logging.getLogger(__name__)

LASTING = 10.0
"""Seconds after which a connection has lasted: the next back-off begins from the shortest."""
TICK = 0.5
_USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ENDS = {0: "the connection was lost", NOT_ALLOWED: "not let in"}


class NotAllowed(Exception):
    """The server does not accept the token or the password: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Limits:
    outbox: int = 10_000
    """Messages on disk that wait to be sent; then `send` raises `OutboxFull`."""
    handlers: int = 1_000
    """What waits for a handler. The server has 100 unacknowledged items on the way at most, unless told otherwise."""
    events: int = 10_000
    """Receipts and acknowledgements that wait to be worked off."""
    message: int = 196_608
    """Bytes of one message; then `send` raises `ValueError`. A server refuses from 65,536 on, unless told otherwise,
    and ends the connection at 262,144: such a message would go out again and again, and nothing behind it ever."""


@dataclass(frozen=True, slots=True)
class Link:
    """How it stands with the connection. `why` says what ended the last one, `retry_at`, by `time.monotonic`, when the
    next attempt begins; 0 while one is under way."""

    online: bool = False
    why: str = ""
    retry_at: float = 0.0


class Core:
    """`start` once, `stop` once."""

    def __init__(
        self, target: Target, file: Path, access: Access, *, handlers: Handlers, invoke: Invoke, limits: Limits
    ) -> None:
        self.user = target.user
        self._target, self._access, self._handlers = target, access, handlers
        self._disk = Disk(file, target.user, target.device)
        self.prefix = self._disk.prefix
        self._outbox = StoredOutbox(self._disk, limit=limits.outbox)
        self._largest = limits.message
        self.keys = KeyChest(self._disk, access, target.user)
        self._handles = Handles()
        self._events: queue.Queue[Callable[[], None]] = queue.Queue(limits.events)
        self._backoff = Backoff(random.random)
        # Orders what leaves. `acknowledged` never takes it: paho holds a lock of its own there.
        self._sending = threading.RLock()
        self._by_packet: dict[int, Outgoing | tuple[str, int] | None] = {}
        self._connection: Connection | None = None
        self._up, self._refused, self._since = False, 0, 0.0
        self.link = Link()
        self.online = threading.Event()
        self.stopping = threading.Event()
        self.over = threading.Event()
        self.fault: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name="bot-keeper", daemon=True)
        self._reception = Reception(
            handlers, invoke, self.keys, self, handled=self._disk.handled, limit=limits.handlers
        )

    def start(self) -> None:
        self._keeper.start()
        self._reception.thread.start()

    def stop(self, timeout: float) -> None:
        """Takes nothing more in, lets the running handler end, says goodbye, closes the file. What waits stays on disk.
        A handler that runs longer than `timeout` seconds is left alone; its item comes again in the next run."""
        self.stopping.set()
        if handling.get() is not None or threading.current_thread() is self._reception.thread:
            # Asked for by a handler, which has to end first: `run`, or the end of the `with`, does the rest.
            self.over.set()
            return
        with contextlib.suppress(queue.Full):
            self._events.put_nowait(lambda: None)  # so that the keeper does not sleep on
        for thread in (self._reception.thread, self._keeper):
            if thread.is_alive():
                thread.join(timeout)
        with self._sending:
            self._handles.stop()
        self._disk.close()
        self.over.set()

    # Sending

    def send(self, to: str, fields: dict[str, Any], *, ordered: bool) -> Handle:
        """On disk when it returns. Raises `OutboxFull`, `ValueError`, `Stopped`."""
        if not _USER_ID.fullmatch(to):
            raise ValueError(f"not a user id: {to!r}")
        if self.stopping.is_set() and handling.get() is None:
            raise Stopped("the bot was stopped")
        size = len(json.dumps(fields, ensure_ascii=False).encode())  # before anything is stored
        if size > self._largest:
            raise ValueError(f"too long: {size} bytes; send it as a file")
        running = handling.get()
        with self._sending:
            id = "" if running is None else running.next_id(self._disk.prefix)
            cause = None if running is None else running.n
            message = self._outbox.put(to, fields, ordered=ordered, id=id, cause=cause)
            handle = self._handles.of(message)
            self._pump()
        return handle

    def waiting(self) -> list[Handle]:
        with self._sending:
            return [self._handles.of(message) for message in self._outbox.waiting()]

    def progress(self, peer: str) -> Progress:
        """How far the peer has come with what this user's device has sent, as far as the server has told."""
        return self._outbox.progress(peer)

    def count_waiting(self) -> int:
        return len(self._outbox)

    def say_read(self, peer: str, up_to: int) -> None:
        """On disk when it returns; told to the peer as soon as there is a connection."""
        self._disk.shown(peer, up_to)
        with self._sending:
            self._tell_read(peer, up_to)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> bool:
        """Plain MQTT: whether there was a connection to give it to."""
        with self._sending:
            if self._connection is None or not self._up:
                return False
            self._by_packet[self._connection.publish(topic, payload, qos=qos, retain=retain)] = None
            return True

    def _tell_read(self, peer: str, up_to: int) -> None:
        if self._connection is not None and self._up:
            payload = json.dumps({"type": "read", "up_to": up_to}).encode()
            packet = self._connection.publish(f"inbox/{peer}/receipt/{self.user}", payload)
            self._by_packet[packet] = (peer, up_to)

    def is_current(self, connection: Connection) -> bool:
        return connection is self._connection

    def _pump(self) -> None:
        if self._connection is None or not self._up:
            return
        for message in self._outbox.departing():
            message.published += 1
            payload = json.dumps(message.content, ensure_ascii=False).encode()
            self._by_packet[self._connection.publish(f"inbox/{message.to}/chat/{self.user}", payload)] = message

    # The keeper

    def _keep(self) -> None:
        try:
            while not self.stopping.is_set():
                self._connect()
                self._stay()
                if self._refused == NOT_ALLOWED and not self._access.refused():
                    raise NotAllowed(f"{self.user} on {self._target.device} is not let in")
                if time.monotonic() - self._since > LASTING:
                    self._backoff.calm()
                delay = self._backoff.delay()
                self.link = Link(False, self.link.why, time.monotonic() + delay)
                self.stopping.wait(delay)
                self.link = Link(False, self.link.why)
        except Exception as fault:  # noqa: BLE001 - `give_up` logs it, `run` raises it
            self.give_up(fault)

    def give_up(self, fault: Exception) -> None:
        logger.error("the bot cannot go on", exc_info=fault)
        self.fault = fault
        self.stopping.set()
        self.over.set()

    def _connect(self) -> None:
        self._refused, self._since = 0, time.monotonic()
        try:
            credential = self._access.credential()
            connection = Connection(self._target, credential, self._handlers.filters, self)
            with self._sending:
                self._connection, self._by_packet = connection, {}
                self._outbox.offline()
            self._reception.connected()
            connection.open()
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise NotAllowed(str(refusal)) from refusal
            self._down(f"the server does not log us in: {refusal}")
        except NoLogin as over:
            raise NotAllowed(str(over)) from over
        except (OSError, RestError) as error:
            self._down(f"no connection: {error}")

    def _stay(self) -> None:
        """Until the connection is over: works off what comes of it."""
        ticked = time.monotonic()
        while self._connection is not None:
            if self.stopping.is_set():
                if not self._reception.thread.is_alive():
                    self._leave()
                    return
            elif not self._up and time.monotonic() - self._since > 3 * LASTING:
                self._connection.cut()
                self._down("the server does not answer")
                return
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=TICK)()
            if time.monotonic() - ticked >= TICK:  # by the clock: where there is always an event, there is no lull
                ticked = time.monotonic()
                with self._sending:
                    self._outbox.try_later()
                    self._pump()
                self._disk.write_notes()

    def _leave(self) -> None:
        connection = self._connection
        self._down("stopped")
        if connection is not None:
            connection.say_goodbye()

    def _down(self, why: str) -> None:
        with self._sending:
            self._connection, self._up = None, False
        self.online.clear()
        self.link = Link(False, why)
        logger.info("offline: %s", why)

    # From the network thread

    def subscribed(self, connection: Connection) -> None:
        self._later(connection, lambda: self._ready(connection))

    def acknowledged(self, connection: Connection, packet: int) -> None:
        self._later(connection, lambda: self._settle(connection, packet))

    def ended(self, connection: Connection, reason: int) -> None:
        def down() -> None:
            if connection is self._connection:
                self._refused = reason
                self._down(
                    {0: "the connection was lost", NOT_ALLOWED: "not let in"}.get(reason, "the server cannot yet")
                )

        self._events.put(down)

    def arrived(self, connection: Connection, packet: MQTTMessage) -> None:
        if connection is not self._connection:
            return
        prefix = f"devices/{self.user}/"
        if packet.topic.startswith(prefix):
            plain = DeviceMessage(packet.topic.removeprefix(prefix), bytes(packet.payload), packet.retain)
            self._reception.offer("device", plain, Ticket(connection, packet.mid) if packet.qos else None)
            return
        try:
            incoming = parse(self.user, packet.topic, packet.payload, qos=packet.qos, retain=packet.retain)
        except (WireError, UnicodeError) as error:
            logger.warning("a packet that breaks the contract is dropped: %s", error)
            connection.acknowledge(packet.mid, packet.qos)
            return
        if isinstance(incoming, Item):
            self._reception.take(incoming, Ticket(connection, packet.mid))
        elif isinstance(incoming, Receipt):
            self._later(connection, lambda: self._answered(incoming))
            self._reception.offer("receipt", incoming)
        elif isinstance(incoming, Presence):
            self._reception.offer("presence", incoming)
        elif isinstance(incoming, Typing):
            self._reception.offer("typing", incoming)

    def _later(self, connection: Connection, event: Callable[[], None]) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            logger.warning("too many receipts at once: the connection ends, and all of them are told again")
            connection.cut()

    # In the keeper

    def _ready(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        logger.info("online as %s on %s", self.user, self._target.device)
        with self._sending:
            self._up = True
            self._pump()
            for peer, up_to in self._disk.untold():
                self._tell_read(peer, up_to)
        self.link = Link(True)
        self.online.set()
        self._reception.offer("online", None)

    def _answered(self, receipt: Receipt) -> None:
        with self._sending:
            self._outbox.answer(receipt)
            message = self._outbox.message(receipt.id) if isinstance(receipt.id, str) else None
            waits = receipt.type == "failed" and message is not None and not message.answers
            if not waits:  # else it leaves again by itself
                self._handles.take(receipt)
            self._pump()

    def _settle(self, connection: Connection, packet: int) -> None:
        with self._sending:
            if connection is not self._connection:
                return
            what = self._by_packet.pop(packet, None)
            if isinstance(what, Outgoing):
                self._outbox.acknowledge(what)
                self._pump()
            elif what is not None:
                self._disk.told(*what)

    # In the worker

    def through(self, n: int) -> None:
        with self._sending:
            self._disk.has_handled(n)
            self._outbox.handled(n)
