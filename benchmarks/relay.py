"""Load for the relay scenarios: pairs of clients, one publishes on a topic of its own, one subscribes to it."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.meter import Meter, latencies, percentile, until
from benchmarks.pacing import pace
from benchmarks.wire import PUBACK, WINDOW_IDS, Client, WireError, open_all, publish_head

NUMBER = 8
"""Bytes at the start of each payload that number the messages of a pair, so that a loss or a repeat shows."""

ACKNOWLEDGEMENTS = b"".join(PUBACK + packet_id.to_bytes(2, "big") for packet_id in range(1, WINDOW_IDS + 1))
"""Every PUBACK in the order in which a publisher must get them."""


class Publisher(Client):
    """Keeps `window` publishes unacknowledged while it runs."""

    def __init__(self, pair: int, window: int, payload: int) -> None:
        super().__init__(f"publisher-{pair}")
        self.running = False
        self.sent = 0
        self.done = 0
        self.due: list[float] | None = None
        """If it is asked for: for each number the moment at which it was published or due."""
        self._window = window
        self._head = publish_head(topic(pair), payload)
        self._filler = b"." * (payload - NUMBER)

    def start(self) -> None:
        self.running = True
        self.transport.write(b"".join(self.next_packets()))

    def acknowledged(self, packet_id: int) -> None:
        if packet_id != self.done % WINDOW_IDS + 1:  # [MQTT-4.6.0-2]
            raise WireError(f"PUBACK {packet_id} where {self.done % WINDOW_IDS + 1} was due")
        self.done += 1

    def next_packets(self) -> Sequence[bytes]:
        if not self.running:
            return ()
        first, self.sent = self.sent, self.done + self._window
        if self.due is not None:
            self.due += [time.perf_counter()] * (self.sent - first)
        return [self._publish(number) for number in range(first, self.sent)]

    def say(self, due: float) -> None:
        """Publishes one message now."""
        if self.due is not None:
            self.due.append(due)
        self.transport.write(self._publish(self.sent))
        self.sent += 1

    def _publish(self, number: int) -> bytes:
        packet_id = (number % WINDOW_IDS + 1).to_bytes(2, "big")
        return self._head + packet_id + number.to_bytes(NUMBER, "big") + self._filler

    def _read(self, data: bytes, out: list[bytes]) -> int:
        # The usual read is nothing but the acknowledgements that are due: compared at once instead of one by one.
        start = self.done % WINDOW_IDS * 4
        if len(data) & 3 == 0 and ACKNOWLEDGEMENTS[start : start + len(data)] == data:
            self.done += len(data) >> 2
            return len(data)
        return super()._read(data, out)


class Subscriber(Client):
    """Counts what comes, and insists on each number once and in order."""

    def __init__(self, pair: int, payload: int) -> None:
        super().__init__(f"subscriber-{pair}", topic_filter=topic(pair))
        self.received = 0
        self.due: Sequence[float] | None = None
        """The publisher's, if times are asked for."""
        self.latencies: list[float] | None = None
        """Seconds from the publish (from its due time, if paced) to the arrival, while a list is here."""
        self._head = publish_head(topic(pair), payload)
        self._delivery = struct.Struct(f">{len(self._head)}s2sQ{payload - NUMBER}x")

    def arrived(self, topic: bytes, payload: bytes) -> None:
        number = int.from_bytes(payload[:NUMBER], "big")
        if number != self.received:
            raise WireError(f"message {number} where {self.received} was due")
        self.received += 1
        self._note(1)

    def _read(self, data: bytes, out: list[bytes]) -> int:
        # The usual read is whole deliveries of one size: cut by `struct` instead of byte by byte.
        if len(data) % self._delivery.size or not data.startswith(self._head):
            return super()._read(data, out)
        for head, packet_id, number in self._delivery.iter_unpack(data):
            if head != self._head or number != self.received:
                raise WireError(f"message {number} where {self.received} was due")
            self.received += 1
            out.append(PUBACK + packet_id)
        self._note(len(data) // self._delivery.size)
        return len(data)

    def _note(self, count: int) -> None:
        """The last `count` messages have come now."""
        if self.latencies is not None and self.due is not None:
            now = time.perf_counter()
            self.latencies += [now - due for due in self.due[self.received - count : self.received]]


def topic(pair: int) -> str:
    return f"bench/relay/{pair}"


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """A measured stretch with full windows and, with `rate` (messages a second) or `share` (of the rate of the first),
    another one at that pace (`paced`). With `timed`, both have the times to the arrival at the subscriber.
    `problems` is empty when every message arrived once and was acknowledged."""
    idle = [Client(f"idle-{i}", topic_filter=f"bench/idle/{i}") for i in range(spec["idle"])]
    subscribers = [Subscriber(pair, spec["payload"]) for pair in range(spec["pairs"])]
    publishers = [Publisher(pair, spec["window"], spec["payload"]) for pair in range(spec["pairs"])]
    if spec.get("timed"):
        for publisher, subscriber in zip(publishers, subscribers, strict=True):
            publisher.due = subscriber.due = []
    await open_all([*subscribers, *idle], spec["host"], spec["receiver_ports"])
    await open_all(publishers, spec["host"], spec["sender_ports"])
    await asyncio.sleep(spec.get("settle", 0))
    patience = spec.get("patience", 15)
    clients: list[Client] = [*idle, *subscribers, *publishers]
    meter = Meter(spec["processes"], lambda: sum(subscriber.received for subscriber in subscribers))
    for publisher in publishers:
        publisher.start()
    result = await _measured(meter, subscribers, spec)
    for publisher in publishers:
        publisher.running = False
    problems = await _verify(clients, publishers, subscribers, patience)
    rate = spec.get("rate") or spec.get("share", 0) * result["rate"]
    if rate and not problems:
        lateness: list[float] = []
        pacing = asyncio.create_task(pace(publishers, rate, lateness))
        result["paced"] = await _measured(meter, subscribers, spec)
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)
        result["paced"]["generator_late_p99_ms"] = percentile(lateness, 0.99) * 1000
        problems = await _verify(clients, publishers, subscribers, patience)
    for client in clients:
        client.close()
    return result | {"problems": problems}


async def _measured(meter: Meter, subscribers: Sequence[Subscriber], spec: dict[str, Any]) -> dict[str, Any]:
    arrived: list[float] = []
    await asyncio.sleep(spec["warmup"])
    for subscriber in subscribers:
        subscriber.latencies = arrived if spec.get("timed") else None
    result = await meter.stretch(0, spec["seconds"])
    for subscriber in subscribers:
        subscriber.latencies = None
    return result | (latencies("arrived", arrived) if arrived else {})


async def _verify(
    clients: Sequence[Client], publishers: Sequence[Publisher], subscribers: Sequence[Subscriber], patience: float
) -> list[str]:
    """Waits for the last message and acknowledgement, at most `patience` seconds, and says what is missing."""

    def complete(publisher: Publisher, subscriber: Subscriber) -> bool:
        return publisher.sent == publisher.done == subscriber.received

    pairs = list(zip(publishers, subscribers, strict=True))
    await until(lambda: all(complete(*pair) for pair in pairs) or any(client.failure for client in clients), patience)
    problems = [client.failure for client in clients if client.failure]
    for publisher, subscriber in pairs:
        if not complete(publisher, subscriber):
            counts = f"{publisher.sent} sent, {publisher.done} acknowledged, {subscriber.received} received"
            problems.append(f"{publisher.label}: {counts}")
    return problems
