"""The two ends of a chat, as the load generator plays them: one user who writes and one who receives.

Both check what they are told: ids, numbers and receipts. What does not fit ends the run as invalid.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from benchmarks.wire import PINGREQ, WINDOW_IDS, Client, WireError, publish_head

PAYLOAD = 128
"""Bytes of one chat payload, the JSON around it included."""


class _Arrival(msgspec.Struct):
    """Of an inbox item, what is checked; anything that is not an inbox item has no `n`."""

    n: int = 0
    mid: int = 0
    id: int = 0


class _Receipt(msgspec.Struct):
    type: str
    id: int = 0
    mid: int = 0
    up_to: int = 0
    reason: str = ""


_arrival = msgspec.json.Decoder(_Arrival).decode
_receipt = msgspec.json.Decoder(_Receipt).decode


class Person(Client):
    """A user on one device, with a token, subscribed to the whole inbox (unless told not to)."""

    def __init__(self, account: dict[str, str], *, listening: bool = True) -> None:
        user = account["user"]
        topic_filter = f"inbox/{user}/#" if listening else None
        super().__init__(account["device"], topic_filter=topic_filter, user=user, password=account["token"])
        self.user = user


class Receiver(Person):
    """Takes chat messages of one peer; `received` counts them, `mid` is the newest."""

    def __init__(self, account: dict[str, str], peer: str, *, expected: int = 0, already: int = 0) -> None:
        super().__init__(account)
        self.received = already
        self.repeats = 0
        self.mid = 0
        self.latencies: list[float] | None = None
        """Seconds from the publish (from its due time, if paced) to the arrival, while a list is here."""
        self._due: Sequence[float] = ()
        self._n = 0
        self._expected = expected
        self._topic = f"inbox/{self.user}/chat/{peer}".encode()

    def time(self, sender: Sender) -> None:
        """Arrivals are measured from what `sender` notes: both ends share a clock."""
        self._due = sender.due

    def arrived(self, topic: bytes, payload: bytes) -> None:
        item = _arrival(payload) if topic == self._topic or b"/system/" in topic else _Arrival()
        if not item.n:
            return
        if item.n <= self._n:
            self.repeats += 1  # allowed: at least once, repeats of n are dropped by the receiver
            return
        if self._n and item.n != self._n + 1:
            raise WireError(f"item {item.n} after item {self._n}")
        self._n = item.n
        if topic == self._topic:
            if item.id != self.received + 1:
                raise WireError(f"message {item.id} where {self.received + 1} was due")
            self.received, self.mid = item.id, item.mid
            if self.latencies is not None:
                self.latencies.append(time.perf_counter() - self._due[item.id])

    def next_packets(self) -> Sequence[bytes]:
        """Asks for a sign of life right after the acknowledgement of the last expected message."""
        if self._expected and self.received >= self._expected:
            self._expected = 0
            return (PINGREQ,)
        return ()


class Sender(Person):
    """Writes to one peer: with up to `window` unacknowledged messages while `running`, or one by one with `say`."""

    def __init__(self, account: dict[str, str], peer: str, window: int, *, listening: bool = True) -> None:
        super().__init__(account, listening=listening)
        self.running = False
        self.sequenced = False
        """Messages carry `seq` too, so that the server's ordering has to follow them."""
        self.sent = 0
        self.done = 0
        self.confirmed = 0
        self.delivered = 0
        self.latencies: list[float] | None = None
        """Seconds from the publish (from its due time, if paced) to the `sent` receipt, while a list is here."""
        self.limit = 0
        """Messages after which it stops by itself; 0 for none."""
        self._window = window
        self._sequence = 0
        self.due = [0.0]
        """For each id the moment at which it was published or due, on the clock of `time.perf_counter`."""
        self._head = publish_head(f"inbox/{peer}/chat/{self.user}", PAYLOAD)
        self._filler = b"." * PAYLOAD
        self._receipts = f"inbox/{self.user}/receipt/{peer}".encode()

    def start(self) -> None:
        self.running = True
        self.transport.write(b"".join(self.next_packets()))

    def say(self, due: float) -> None:
        """Publishes one message now, whose time counts from when it was due."""
        self.transport.write(self._publish(due))

    def acknowledged(self, packet_id: int) -> None:
        if packet_id != self.done % WINDOW_IDS + 1:  # [MQTT-4.6.0-2]
            raise WireError(f"PUBACK {packet_id} where {self.done % WINDOW_IDS + 1} was due")
        self.done += 1

    def arrived(self, topic: bytes, payload: bytes) -> None:
        if topic != self._receipts:
            return
        receipt = _receipt(payload)
        if receipt.type == "sent":
            if receipt.id != self.confirmed + 1:
                raise WireError(f"receipt for {receipt.id} where {self.confirmed + 1} was due")
            self.confirmed = receipt.id
            if self.latencies is not None:
                self.latencies.append(time.perf_counter() - self.due[receipt.id])
        elif receipt.type == "delivered":
            self.delivered = max(self.delivered, receipt.up_to)
        else:
            raise WireError(f"receipt {receipt.type} for {receipt.id}: {receipt.reason}")

    def next_packets(self) -> Sequence[bytes]:
        if not self.running:
            return ()
        count = self.done + self._window - self.sent
        if self.limit:
            count = min(count, self.limit - self.sent)
        now = time.perf_counter()
        return [self._publish(now) for _ in range(count)]

    def _publish(self, due: float) -> bytes:
        packet_id = self.sent % WINDOW_IDS + 1
        self.sent += 1
        self.due.append(due)
        if self.sequenced:
            self._sequence += 1
            start = b'{"id":%d,"seq":%d,"body":"' % (self.sent, self._sequence)
        else:
            start = b'{"id":%d,"body":"' % self.sent
        return b"".join(
            (self._head, packet_id.to_bytes(2, "big"), start, self._filler[: PAYLOAD - len(start) - 2], b'"}')
        )
