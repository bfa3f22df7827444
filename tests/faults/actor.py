"""One device of the generator: a paho client in a thread, that comes back whenever its connection is lost.

paho does the protocol: packet ids, acknowledgements, what is sent again after a reconnect. We look over its shoulder
when a PUBLISH comes in, because at QoS 2 it answers before it tells us.
"""

from __future__ import annotations

import json
import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tests.faults.cast import Habits
from tests.faults.history import Log, What

WINDOW = 20
"""Messages of one device that wait for their acknowledgement."""
TICK = 0.03
"""Seconds after which a device looks whether there is something to do, at the latest."""
PATIENCE = 1.5
"""Seconds for a TCP connection."""
BACK_OFF = (0.1, 1.0)
"""Seconds between attempts to connect: at first, and at most."""

Numbers = Iterator[int]


def checksum(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


class Watched(paho.Client):
    """paho, with a look at each PUBLISH before it is handled."""

    witness: Callable[[str, bytes, int], None]

    def _handle_publish(self) -> MQTTErrorCode:
        body, qos = bytes(self._in_packet["packet"]), self._in_packet["command"] >> 1 & 3
        end = 2 + int.from_bytes(body[:2], "big")
        self.witness(body[2:end].decode(), body[end + (2 if qos else 0) :], qos)
        return super()._handle_publish()


class Actor(threading.Thread):
    """Plays the habits until `over`. `publishing` says whether it may say anything new."""

    def __init__(
        self,
        habits: Habits,
        password: str,
        nodes: list[tuple[str, str, int]],
        log: Log,
        numbers: Numbers,
        keep_alive: int,
    ) -> None:
        super().__init__(name=f"{habits.user}/{habits.device}", daemon=True)
        self.habits = habits
        self.over = threading.Event()
        self.publishing = threading.Event()
        self.stalled_until = 0.0
        self.subscribed = False
        self.open: dict[int, tuple[What, dict[str, Any]]] = {}
        """packet id -> what its acknowledgement means."""
        self.failure = ""
        self._password = password
        self._nodes = nodes
        self._log = log
        self._numbers = numbers
        self._keep_alive = keep_alive
        self._chance = random.Random(habits.seed)
        self._turn = self._chance.randrange(len(nodes))
        self._who = {"user": habits.user, "device": habits.device}
        self._conn = 0
        self._client: Watched | None = None
        self._counts: dict[str, int] = {}
        self._said = 0
        self._payloads: dict[str, tuple[str, bytes]] = {}
        self._again: deque[str] = deque()
        self._taking: deque[tuple[float, int, int, int]] = deque()
        self._reading: deque[tuple[float, str, int]] = deque()
        self._read: dict[str, int] = {}
        self._known: dict[int, int] = {}
        self._next = 0.0

    @property
    def waiting(self) -> int:
        """What it still has to get rid of."""
        return len(self.open) + len(self._taking) + len(self._reading) + len(self._again)

    def run(self) -> None:
        pause = BACK_OFF[0]
        try:
            while not self.over.is_set():
                pause = BACK_OFF[0] if self._life() else min(2 * pause, BACK_OFF[1])
                self.over.wait(pause * (0.5 + self._chance.random()))
        except Exception as error:  # the generator reports it: a history made by a broken client proves nothing
            self.failure = f"{self.name}: {error!r}"
            raise

    # A connection

    def _life(self) -> bool:
        """One connection from beginning to end; whether it ever was one."""
        name, host, port = self._node()
        self._conn = next(self._numbers)
        if self._client is None or (self._chance.random() < self.habits.restarts and self.habits.send_qos < 2):
            self._restart()
        client = self._client
        assert client is not None
        self._connected = self._refused = ""
        self.subscribed = False
        self._taking.clear()
        self._known.clear()
        asked = False
        leaving = (
            time.monotonic() + self._chance.expovariate(1 / self.habits.life) if self.habits.life else float("inf")
        )
        try:
            client.connect(host, port, self._keep_alive)
            # nobody leaves by itself while all are to come to rest
            while not self.over.is_set() and (time.monotonic() < leaving or not self.publishing.is_set()):
                ended = client.loop(TICK)
                if ended:
                    self._lost(self._refused or paho.error_string(ended), name)
                    return bool(self._connected)
                if self._connected and not asked:
                    self._log.note(What.CONNECTED, conn=self._conn, node=name, **self._who)
                    asked = client.subscribe(f"inbox/{self.habits.user}/#", self.habits.qos)[0] == 0
                if self.subscribed:
                    self._play(client)
            self._leave(client, name)
        except OSError as error:
            self._lost(str(error), name)
        finally:
            self.subscribed = False
            if client.socket() is not None:
                client._sock_close()
        return bool(self._connected)

    def _node(self) -> tuple[str, str, int]:
        self._turn = self._chance.randrange(len(self._nodes)) if self.habits.wander else self._turn + 1
        return self._nodes[self._turn % len(self._nodes)]

    def _leave(self, client: Watched, node: str) -> None:
        if self._chance.random() < 0.5:
            client.disconnect()
            self._lost("it left with a word", node)
        else:
            self._lost("it left without a word", node)

    def _lost(self, why: str, node: str) -> None:
        self._log.note(What.LOST, conn=self._conn, node=node, note=why, **self._who)

    def _restart(self) -> None:
        """The app begins anew; what it has not seen acknowledged it knows from its own notes."""
        habits = self.habits
        client = Watched(
            CallbackAPIVersion.VERSION2,
            habits.device,
            clean_session=habits.clean,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.username_pw_set(habits.user, self._password)
        client.connect_timeout = PATIENCE
        client.max_inflight_messages_set(WINDOW)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.witness = self._witness
        self._client = client
        for what, fields in self.open.values():
            if what is What.ACKNOWLEDGED:
                self._again.append(fields["token"])
            else:
                self._reading.append((0.0, fields["peer"], fields["up_to"]))
        self.open.clear()

    # What paho tells

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"refused: {reason}"
        else:
            self._connected = "yes"

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = "the subscription was refused"
            raise OSError(self._refused)  # back off and come again, as an app would
        self._log.note(What.SUBSCRIBED, conn=self._conn, **self._who)
        self.subscribed = True

    def _on_publish(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        if mid in self.open:
            what, fields = self.open.pop(mid)
            self._log.note(what, conn=self._conn, **self._who, **fields)
            token = fields.get("token")
            if token is not None and self._chance.random() >= self.habits.repeats:
                self._payloads.pop(token, None)
            elif token is not None and token in self._payloads:
                self._again.append(token)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if message.qos:
            delay = self._chance.random() * self.habits.slow
            n = self._known.pop(message.mid, 0) if message.qos == 1 else 0
            self._taking.append((time.monotonic() + delay, message.mid, message.qos, n))

    def _witness(self, topic: str, payload: bytes, qos: int) -> None:
        assert self._client is not None
        _, to, kind, peer = topic.split("/")
        found = {"conn": self._conn, "kind": kind, "to": to, "peer": peer, "qos": qos, **self._who}
        document = json.loads(payload)
        if kind == "receipt":
            self._on_receipt(document, found)
        elif kind in ("chat", "sync", "system"):
            self._on_item(document, found, qos)

    def _on_receipt(self, document: dict[str, Any], found: dict[str, Any]) -> None:
        kind, reason = document["type"], document.get("reason", "")
        keep = {key: document[key] for key in ("id", "mid", "up_to") if document.get(key) is not None}
        self._log.note(What.RECEIPT, **{**found, **keep, "kind": kind, "note": reason})

    def _on_item(self, document: dict[str, Any], found: dict[str, Any], qos: int) -> None:
        n, mid = document.pop("n"), document.pop("mid")
        del document["ts"]
        if found["kind"] == "sync":
            found["note"] = document["device"]
            document = document["message"]
        if found["kind"] == "system":
            token, total = "", 0
        else:
            token, total = str(document.get("body")), checksum(document)
        self._log.note(What.GOT, n=n, mid=mid, token=token, sum=total, **found)
        assert self._client is not None
        if qos == 2:  # the PUBREC leaves right after this
            self._log.note(What.TAKING, n=n, conn=self._conn, **self._who)
        elif qos == 1:
            packet = self._client._in_packet["packet"]
            end = 2 + int.from_bytes(packet[:2], "big")
            self._known[int.from_bytes(packet[end : end + 2], "big")] = n
        if found["kind"] == "chat" and self._chance.random() < self.habits.reads:
            self._reading.append((time.monotonic() + self._chance.random() * 0.5, found["peer"], mid))

    # What it does

    def _play(self, client: Watched) -> None:
        now = time.monotonic()
        while self._taking and self._taking[0][0] <= now:
            _, packet_id, qos, n = self._taking.popleft()
            if n:
                self._log.note(What.TAKING, n=n, conn=self._conn, **self._who)
            client.ack(packet_id, qos)
        while self._reading and self._reading[0][0] <= now:
            self._say_read(client)
        while self._again and len(self.open) < WINDOW:
            token = self._again.popleft()
            self._log.note(What.AGAIN, token=token, conn=self._conn, **self._who)
            self._hand_over(client, token)
        ready = self.publishing.is_set() and not self._again and len(self.open) < WINDOW
        if ready and self.habits.rate and self._next <= now:
            self._next = now + self._chance.expovariate(self.habits.rate)
            self._say(client)
        if self.stalled_until > now:
            self.over.wait(self.stalled_until - now)

    def _say_read(self, client: Watched) -> None:
        _, peer, up_to = self._reading.popleft()
        if up_to < self._read.get(peer, 0):
            return
        self._read[peer] = up_to
        self._log.note(What.READING, peer=peer, up_to=up_to, **self._who)
        payload = json.dumps({"type": "read", "up_to": up_to}).encode()
        sent = client.publish(f"inbox/{peer}/receipt/{self.habits.user}", payload, 1)
        self.open[sent.mid] = What.HAS_READ, {"peer": peer, "up_to": up_to}

    def _say(self, client: Watched) -> None:
        habits = self.habits
        to = self._chance.choice(habits.to)
        self._counts[to] = count = self._counts.get(to, 0) + 1
        self._said += 1
        token = f"{habits.user}/{habits.device}>{to}#{count}"
        document: dict[str, Any] = {"body": token}
        if habits.sends != "bare":
            document["id"] = self._said if self._said % 2 else f"{self._said:x}-{self._chance.getrandbits(24):x}"
            document["pad"] = "x" * self._chance.choice((0, 20, 100, 100, 500, 5_000))
        if habits.sends == "seq":
            document["seq"] = count
        payload = token.encode() if habits.sends == "bare" else json.dumps(document).encode()
        self._payloads[token] = to, payload
        self._log.note(
            What.PUBLISHING,
            token=token,
            to=to,
            id=document.get("id"),
            seq=document.get("seq", 0),
            qos=habits.send_qos,
            sum=checksum(document),
            conn=self._conn,
            **self._who,
        )
        self._hand_over(client, token)

    def _hand_over(self, client: Watched, token: str) -> None:
        to, payload = self._payloads[token]
        sent = client.publish(f"inbox/{to}/chat/{self.habits.user}", payload, self.habits.send_qos)
        if self.habits.send_qos:
            self.open[sent.mid] = What.ACKNOWLEDGED, {"token": token}
        else:
            del self._payloads[token]
