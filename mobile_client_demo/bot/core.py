"""What both faces of the bot share: one thread that keeps the connection and the outbox, one that calls handlers.

Paho's network thread does nothing but sort what arrives. Receipts and acknowledgements go to the keeper, everything
for a handler to the worker; both queues are bounded, and at the bound the connection ends, because everything that
counts comes again on the next one. Hints (presence, typing, receipts for handlers) are dropped instead.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import MQTTMessage

from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.bot.arrivals import Arrivals, Verdict
from aldis.mobile_client_demo.bot.backoff import Backoff
from aldis.mobile_client_demo.bot.connection import NOT_ALLOWED, Connection, Target
from aldis.mobile_client_demo.bot.disk import Disk
from aldis.mobile_client_demo.bot.handlers import Arrived, DeviceMessage, Handlers, Handling, Kind, Message, handling
from aldis.mobile_client_demo.bot.handles import Handle, Handles, Stopped
from aldis.mobile_client_demo.bot.key_chest import KeyChest
from aldis.mobile_client_demo.bot.stored_outbox import StoredOutbox
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.outbox import Outgoing
from aldis.mobile_client_demo.rest import Refused, RestError
from aldis.mobile_client_demo.wire import Item, Presence, Receipt, Typing, WireError, parse

logger = logging.getLogger(__name__)

LASTING = 10.0
"""Seconds after which a connection has lasted: the next back-off begins from the shortest."""
TICK = 0.5
Invoke = Callable[[Callable[..., Any], Arrived], None]


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


@dataclass(frozen=True, slots=True)
class _Ticket:
    connection: Connection
    packet: int


class Core:
    """`start` once, `stop` once."""

    def __init__(
        self, target: Target, file: Path, access: Access, *, handlers: Handlers, invoke: Invoke, limits: Limits
    ) -> None:
        self.user = target.user
        self._target, self._access, self._handlers, self._invoke = target, access, handlers, invoke
        self._disk = Disk(file, target.user, target.device)
        self._outbox = StoredOutbox(self._disk, limit=limits.outbox)
        self.keys = KeyChest(self._disk, access, target.user)
        self._handles = Handles()
        self._arrivals: Arrivals[_Ticket] = Arrivals(self._disk.handled)
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(limits.handlers)
        self._events: queue.Queue[Callable[[], None]] = queue.Queue(limits.events)
        self._backoff = Backoff(random.random)
        # Orders what leaves. `acknowledged` never takes it: paho holds a lock of its own there.
        self._sending = threading.RLock()
        self._receiving = threading.Lock()
        self._by_packet: dict[int, Outgoing | tuple[str, int] | None] = {}
        self._connection: Connection | None = None
        self._up, self._refused, self._since = False, 0, 0.0
        self.online = threading.Event()
        self.stopping = threading.Event()
        self.over = threading.Event()
        self.fault: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name="bot-keeper", daemon=True)
        self._worker = threading.Thread(target=self._handle, name="bot-handlers", daemon=True)

    def start(self) -> None:
        self._keeper.start()
        self._worker.start()

    def stop(self, timeout: float) -> None:
        """Takes nothing more in, lets the running handler end, says goodbye, closes the file. What waits stays on disk.
        A handler that runs longer than `timeout` seconds is left alone; its item comes again in the next run."""
        self.stopping.set()
        if handling.get() is not None or threading.current_thread() is self._worker:
            # Asked for by a handler, which has to end first: `run`, or the end of the `with`, does the rest.
            self.over.set()
            return
        for thread in (self._worker, self._keeper):
            if thread.is_alive():
                thread.join(timeout)
        with self._sending:
            self._handles.stop()
        self._disk.close()
        self.over.set()

    # Sending

    def send(self, to: str, fields: dict[str, Any], *, ordered: bool) -> Handle:
        """On disk when it returns. Raises `OutboxFull`, `ValueError`, `Stopped`."""
        if not to or set(to) & set("/+#"):
            raise ValueError(f"not a user id: {to!r}")
        if self.stopping.is_set() and handling.get() is None:
            raise Stopped("the bot was stopped")
        json.dumps(fields, ensure_ascii=False).encode()  # before anything is stored
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
                self.stopping.wait(self._backoff.delay())
        except Exception as fault:  # noqa: BLE001 - `_give_up` logs it, `run` raises it
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> None:
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
            with self._receiving:
                self._arrivals.connected()
            connection.open()
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise NotAllowed(str(refusal)) from refusal
            self._down(f"the server does not log us in: {refusal}")
        except (OSError, RestError) as error:
            self._down(f"no connection: {error}")

    def _stay(self) -> None:
        """Until the connection is over: works off what comes of it."""
        while self._connection is not None:
            if self.stopping.is_set():
                if not self._worker.is_alive():
                    self._leave()
                    return
            elif not self._up and time.monotonic() - self._since > 3 * LASTING:
                self._connection.cut()
                self._down("the server does not answer")
                return
            try:
                event = self._events.get(timeout=TICK)
            except queue.Empty:
                with self._sending:
                    self._outbox.try_later()
                    self._pump()
                self._disk.write_notes()
            else:
                event()

    def _leave(self) -> None:
        connection = self._connection
        self._down("stopped")
        if connection is not None:
            connection.say_goodbye()

    def _down(self, why: str) -> None:
        with self._sending:
            self._connection, self._up = None, False
        self.online.clear()
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
                self._down(f"the connection is over ({reason})")

        self._events.put(down)

    def arrived(self, connection: Connection, packet: MQTTMessage) -> None:
        if connection is not self._connection:
            return
        prefix = f"devices/{self.user}/"
        if packet.topic.startswith(prefix):
            plain = DeviceMessage(packet.topic.removeprefix(prefix), bytes(packet.payload), packet.retain)
            self._offer("device", plain, _Ticket(connection, packet.mid) if packet.qos else None)
            return
        try:
            incoming = parse(self.user, packet.topic, packet.payload, qos=packet.qos, retain=packet.retain)
        except (WireError, UnicodeError) as error:
            logger.warning("a packet that breaks the contract is dropped: %s", error)
            connection.acknowledge(packet.mid, packet.qos)
            return
        if isinstance(incoming, Item):
            self._take(incoming, _Ticket(connection, packet.mid))
        elif isinstance(incoming, Receipt):
            self._later(connection, lambda: self._answered(incoming))
            self._offer("receipt", incoming)
        elif isinstance(incoming, Presence):
            self._offer("presence", incoming)
        elif isinstance(incoming, Typing):
            self._offer("typing", incoming)

    def _later(self, connection: Connection, event: Callable[[], None]) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            logger.warning("too many receipts at once: the connection ends, and all of them are told again")
            connection.cut()

    def _take(self, item: Item, ticket: _Ticket) -> None:
        with self._receiving:
            verdict = self._arrivals.take(item.n, ticket, room=not self._work.full())
            if verdict is Verdict.NEW:
                self._work.put(lambda: self._handle_item(item))
        if verdict is Verdict.HANDLED:
            ticket.connection.acknowledge(ticket.packet, 1)
        elif verdict is Verdict.REFUSED:
            logger.warning("handlers are too slow: the connection ends, and the items come again")
            ticket.connection.cut()

    def _offer(self, kind: Kind, arrived: Arrived, ticket: _Ticket | None = None) -> None:
        """A hint, or with a ticket plain MQTT that has to be acknowledged."""

        def work() -> None:
            self._call(kind, arrived, None)
            if ticket is not None and ticket.connection is self._connection:
                ticket.connection.acknowledge(ticket.packet, 1)

        if ticket is None and not self._handlers.wanted(kind):
            return
        # Only what must not be lost may take the last places: put() in `_take` never waits.
        with self._receiving:
            if not self._work.full():
                self._work.put(work)
                return
        if ticket is None:
            logger.warning("handlers are too slow: one about %s is dropped", kind)
        else:
            ticket.connection.cut()

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
        self.online.set()
        self._offer("online", None)

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

    # The worker

    def _handle(self) -> None:
        while not self.stopping.is_set():
            try:
                work = self._work.get(timeout=TICK / 5)
            except queue.Empty:
                continue
            try:
                work()
            except Exception as fault:  # noqa: BLE001 - of ours, such as a full disk: those of handlers end in `_call`
                self._give_up(fault)

    def _handle_item(self, item: Item) -> None:
        if item.kind == "system":
            friend = item.content.get("user_id")
            if item.content.get("type") in ("key_rotated", "key_wrapped") and isinstance(friend, str):
                self.keys.told(friend)
            self._call("system", item, item.n)
        else:
            self._call("message" if item.kind == "chat" else "sync", self._read(item), item.n)
        # Handled first, acknowledged then: a crash between the two costs a repeat, which is known by its n.
        with self._sending:
            self._disk.has_handled(item.n)
            self._outbox.handled(item.n)
        with self._receiving:
            ticket = self._arrivals.done(item.n)
        if ticket.connection is self._connection:
            ticket.connection.acknowledge(ticket.packet, 1)

    def _read(self, item: Item) -> Message:
        if "enc" not in item.content:
            return Message(item, item.content.get("body"))
        try:
            return Message(item, self.keys.decrypt(item))
        except (CannotDecrypt, NoLogin) as error:
            return Message(item, None, str(error))

    def _call(self, kind: Kind, arrived: Arrived, n: int | None) -> None:
        for place, function in self._handlers.fitting(kind, arrived):
            token = handling.set(None if n is None else Handling(n, place))
            try:
                self._invoke(function, arrived)
            except Exception:
                logger.exception("a handler failed on a %s; it counts as handled", kind)
            finally:
                handling.reset(token)
