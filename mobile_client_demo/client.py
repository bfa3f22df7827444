"""A small, complete messaging client on a stock paho client: what an app needs, and nothing of the server's code.

It acknowledges an item only after the app has it (`manual_ack`), drops repeats of n, and publishes what is left in
its outbox, under the same ids, after every reconnect. Each connection gets a fresh paho client, as after a restart
of the app: the outbox and the numbers seen are the only memory, so nothing rests on paho's own.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from aldis.mobile_client_demo.encryption import CannotDecrypt, Keyring
from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    ItemAcknowledged,
    Journal,
    Malformed,
    Missing,
    PublishAcknowledged,
    Published,
    ReadSaid,
    ReceiptArrived,
    Subscribed,
)
from aldis.mobile_client_demo.outbox import Outbox, Outgoing
from aldis.mobile_client_demo.rest import Login
from aldis.mobile_client_demo.wire import Item, Receipt, WireError, parse

KEEP_ALIVE = 30
"""Seconds between signs of life; the server waits 1.5 times as long."""


class Client:
    """One device of one user. `connect`, then `send`; what happens is in the journal and in the attributes.

    Methods are for the app's thread. No callback raises: an exception would end paho's network thread while
    `is_connected()` stays true. Every wait ends after `timeout` seconds with `Missing`.
    """

    def __init__(
        self, journal: Journal, login: Login, *, address: tuple[str, int], keys: Keyring, timeout: float
    ) -> None:
        self.user, self.device = login.user, login.device
        self.items: list[Item] = []
        """The inbox as the app sees it, in order of arrival, without repeats."""
        self.repeats: list[Item] = []
        self.outbox = Outbox(secrets.token_hex(4))
        self.login = login
        self.address = address
        """Where the next `connect` goes."""
        self._journal = journal
        self._keys, self._timeout = keys, timeout
        self._paho: mqtt.Client | None = None
        self._ready, self._resumed, self._offline_because = False, False, ""
        self._seen: set[int] = set()
        # Orders what leaves. Paho's callbacks may take it, except on_publish, which runs inside a lock of paho's.
        self._sending = threading.RLock()
        # Never held while calling paho.
        self._packets = threading.Lock()
        self._by_packet: dict[int, Outgoing | None] = {}
        self._early: set[int] = set()
        # Orders what is acknowledged.
        self._receiving = threading.RLock()
        self._holding = False
        self._held: list[tuple[int, Item]] = []
        self._die_after = 0

    @property
    def name(self) -> str:
        return f"{self.user} on {self.device}"

    @property
    def online(self) -> bool:
        return self._ready

    @property
    def resumed(self) -> bool:
        """Whether the server still had the session when this device last connected."""
        return self._resumed

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Until `happened()`; `Missing` names `what`, and the lost connection if that may be why."""
        try:
            self._journal.wait(happened, timeout=self._timeout, what=what)
        except Missing as missing:
            reason = "" if self._ready else f"; {self.name} is offline: {self._offline_because}"
            raise Missing(f"{missing}{reason}") from None

    # The connection

    def connect(self) -> None:
        """Connects with the persistent session and subscribes to the whole inbox. Returns when the subscription is
        granted; the backlog may already be arriving by then."""
        self.disconnect()
        closed = threading.Event()
        paho = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.device,
            clean_session=False,
            userdata=closed,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        paho.username_pw_set(self.user, self.login.access_token)
        paho.connect_timeout = self._timeout
        paho.on_socket_open = _without_nagle
        paho.on_connect, paho.on_subscribe, paho.on_message = self._on_connect, self._on_subscribe, self._on_message
        paho.on_publish, paho.on_disconnect = self._on_publish, self._on_disconnect
        with self._packets:
            self._by_packet, self._early = {}, set()
        with self._receiving:
            self._held = []
        self._offline_because = "it never came up"
        self._paho = paho
        try:
            paho.connect(*self.address, keepalive=KEEP_ALIVE)
        except OSError as error:
            self._end(f"no connection ({error})")
            raise Missing(f"{self.name} cannot connect: {error}") from error
        paho.loop_start()
        self.wait(lambda: self._ready or self._paho is not paho, f"no subscription for {self.name}")
        if not self._ready:
            raise Missing(f"{self.name} cannot connect: {self._offline_because}")

    def disconnect(self) -> None:
        """Says goodbye with DISCONNECT and waits until it has left. Does nothing while offline."""
        paho = self._end("it disconnected")
        if paho is not None:
            paho.disconnect()
            closed: threading.Event = paho.user_data_get()
            closed.wait(self._timeout)

    def roam(self) -> None:
        """Connects while the old connection is still open, as a phone does between two networks. Returns when the
        server has ended the old one."""
        old = self._end("it goes on elsewhere")
        self.connect()
        if old is not None:
            closed: threading.Event = old.user_data_get()
            if not closed.wait(self._timeout):
                old.disconnect()
                raise Missing(f"the old connection of {self.name} was not ended within {self._timeout:g} s")

    def cut(self) -> None:
        """Lets the network vanish: the socket closes without DISCONNECT, whatever is half done stays half done."""
        paho = self._end("the network vanished")
        connection = None if paho is None else paho.socket()
        if isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster

    def die_after(self, new_items: int) -> None:
        """Arms a cut in place of the acknowledgement of the `new_items`-th new item from now."""
        with self._receiving:
            self._die_after = new_items

    def _end(self, because: str) -> mqtt.Client | None:
        """From here on the old connection's callbacks find that they are no longer meant."""
        paho, self._paho, self._ready = self._paho, None, False
        if paho is not None:
            self._offline_because = because
            self._journal.record(Disconnected(user=self.user, device=self.device, because=because))
        return paho

    # Sending

    def write(self, to: str, text: str, *, encrypted: bool = True, ordered: bool = True) -> Outgoing:
        """A new message with its id and seq that has not left yet; `publish` sends it."""
        fields: dict[str, Any] = {"type": "text"}
        if encrypted:
            fields |= self._keys.encrypt(to, sender=self.user, text=text)
        else:
            fields["body"] = text
        return self.outbox.new(to, text, fields, ordered=ordered)

    def publish(self, message: Outgoing) -> None:
        """Sends it at QoS 1, for the first time or again; offline it waits in the outbox for the next connection."""
        with self._sending:
            self.outbox.leaving(message)
            if self._ready and self._paho is not None:
                self._hand_over(self._paho, message)

    def send(self, to: str, text: str) -> Outgoing:
        """Writes and publishes an encrypted text; the handle tells what becomes of it."""
        message = self.write(to, text)
        self.publish(message)
        return message

    def say_read(self, peer: str, up_to: int) -> None:
        """Tells `peer` that everything up to the mid `up_to` was shown."""
        with self._sending:
            if self._paho is None or not self._ready:
                raise Missing(f"{self.name} is offline: {self._offline_because}")
            self._journal.record(ReadSaid(user=self.user, device=self.device, peer=peer, up_to=up_to))
            self._hand_packet(self._paho, f"inbox/{peer}/receipt/{self.user}", {"type": "read", "up_to": up_to}, None)

    def _hand_over(self, paho: mqtt.Client, message: Outgoing) -> None:
        again, message.published = message.published > 0, message.published + 1
        self._journal.record(
            Published(user=self.user, device=self.device, to=message.to, id=message.id, seq=message.seq,
                      text=message.text, again=again)
        )  # fmt: skip
        self._hand_packet(paho, f"inbox/{message.to}/chat/{self.user}", message.content, message)

    def _hand_packet(self, paho: mqtt.Client, topic: str, content: dict[str, Any], message: Outgoing | None) -> None:
        payload = json.dumps(content, ensure_ascii=False).encode()
        packet = paho.publish(topic, payload, qos=1).mid
        with self._packets:
            early = packet in self._early
            self._early.discard(packet)
            if not early:
                self._by_packet[packet] = message
        if early and message is not None:
            self._acknowledged(message)

    # Receiving

    def text(self, item: Item) -> str | None:
        """The readable text of a chat item or sync copy, None if it is none or cannot be decrypted."""
        body = item.content.get("body")
        if "enc" not in item.content:
            return body if isinstance(body, str) else None
        friend = item.recipient if item.sender == self.user else item.sender
        try:
            return self._keys.decrypt(friend, sender=item.sender, recipient=item.recipient, content=item.content)
        except CannotDecrypt:
            return None

    def hold(self) -> None:
        """Takes items from now on without acknowledging them, like an app that is slow to store them."""
        with self._receiving:
            self._holding = True

    def release(self) -> None:
        """Acknowledges what was held, in order, and goes on as usual."""
        with self._receiving:
            held, self._held, self._holding = self._held, [], False
            for packet, item in held:
                if self._paho is not None:
                    self._acknowledge(self._paho, packet, item)

    def _take(self, paho: mqtt.Client, packet: int, item: Item) -> None:
        with self._receiving:
            repeated = item.n in self._seen
            self._seen.add(item.n)
            (self.repeats if repeated else self.items).append(item)
            self._journal.record(
                Arrived(user=self.user, device=self.device, item=item, text=self.text(item), repeated=repeated)
            )
            if self._die_after and not repeated:
                self._die_after -= 1
                if self._die_after == 0:
                    self.cut()
                    return
            if self._holding:
                self._held.append((packet, item))
            else:
                self._acknowledge(paho, packet, item)

    def _acknowledge(self, paho: mqtt.Client, packet: int, item: Item) -> None:
        self._journal.record(ItemAcknowledged(user=self.user, device=self.device, item=item))
        paho.ack(packet, 1)

    # Paho's callbacks, in its network thread. One that belongs to an earlier connection is not meant any more.

    def _on_connect(self, paho: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if paho is not self._paho:
            return
        if reason.is_failure:
            self._end(f"the server refused it ({reason})")
            return
        self._resumed = bool(flags.session_present)
        paho.subscribe(f"inbox/{self.user}/#", qos=1)

    def _on_subscribe(self, paho: mqtt.Client, _data: Any, _packet: int, reasons: list[Any], _properties: Any) -> None:
        if paho is not self._paho:
            return
        if [reason.value for reason in reasons] != [1]:
            self._end(f"the subscription was answered with {reasons} in place of QoS 1")
            paho.disconnect()
            return
        with self._sending:
            for message in self.outbox.waiting():
                self._hand_over(paho, message)
            self._ready = True
        self._journal.record(Subscribed(user=self.user, device=self.device, resumed=self._resumed))

    def _on_publish(self, paho: mqtt.Client, _data: Any, packet: int, _reason: Any, _properties: Any) -> None:
        if paho is not self._paho:
            return
        with self._packets:
            if packet not in self._by_packet:
                self._early.add(packet)  # the answer was faster than the return of publish()
                return
            message = self._by_packet.pop(packet)
        if message is not None:
            self._acknowledged(message)

    def _acknowledged(self, message: Outgoing) -> None:
        message.acknowledged = True
        self._journal.record(PublishAcknowledged(user=self.user, device=self.device, id=message.id))

    def _on_message(self, paho: mqtt.Client, _data: Any, packet: mqtt.MQTTMessage) -> None:
        if paho is not self._paho:
            return
        try:
            incoming = parse(self.user, packet.topic, packet.payload, qos=packet.qos, retain=packet.retain)
        except (WireError, UnicodeError) as error:
            self._journal.record(Malformed(user=self.user, device=self.device, problem=str(error)))
            paho.ack(packet.mid, packet.qos)
            return
        if isinstance(incoming, Item):
            self._take(paho, packet.mid, incoming)
        elif isinstance(incoming, Receipt):
            with self._sending:
                self.outbox.answer(incoming)
            self._journal.record(ReceiptArrived(user=self.user, device=self.device, receipt=incoming))

    def _on_disconnect(self, paho: mqtt.Client, closed: threading.Event, *_details: Any) -> None:
        closed.set()
        if paho is self._paho:
            self._end("the server closed the connection")


def _without_nagle(_paho: mqtt.Client, _data: Any, connection: Any) -> None:
    """Paho leaves Nagle's algorithm on: a second small packet would wait some 40 ms for the answer to the first."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
