"""Readers that do not read, beside those who do: theirs is the loss alone, in latency, in memory and in messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.servers import Aldis, running
from tests.wire import Client, publish

pytestmark = pytest.mark.alone

READERS = 20
SIZE = 20_000
PACE = 0.005  # 4 MB/s for each reader

SETTINGS = {
    "timeouts.slow_reader": 4,
    "timeouts.acknowledge": 1,  # how often a connection is looked at
    "timeouts.max_retries": 2,
    "limits.max_write_buffer": 65_536,
    "limits.max_queued_bytes": 1_000_000,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("slow"), "lab", SETTINGS) as server:
        yield server


class Firehose:
    """Publishes all the time, in the background, and is read by one who reads."""

    def __init__(self, server: Aldis, qos: int) -> None:
        self.sent = 0
        self.came = 0
        self._qos = qos
        self._source = server.tcp().connected("firehose")
        self._reader = server.tcp().connected("reader").subscribed(("firehose", 0))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._publish, self._read)]
        for thread in self._threads:
            thread.start()

    def _publish(self) -> None:
        while not self._stop.wait(PACE):
            self._source.send(publish("firehose", bytes(SIZE), qos=self._qos, id=self.sent % 60_000 + 1))
            if self._qos:
                self._source.packet()
            self.sent += 1
        self._source.send(publish("firehose", b"end"))

    def _read(self) -> None:
        while self._reader.publication().payload != b"end":
            self.came += 1

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        assert self.came == self.sent, "who reads gets everything"
        self._source.close()
        self._reader.close()


def latencies(one: Client, other: Client, seconds: float) -> list[float]:
    """How long each message took from one bystander to the other, sorted."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        one.send(publish("talk", b"hi", qos=1, id=1))
        other.take()
        one.packet()
        found.append(time.monotonic() - began)
        time.sleep(0.002)
    return sorted(found)


def p99(found: list[float]) -> float:
    return found[len(found) * 99 // 100]


@pytest.mark.parametrize("qos", [0, 1])
def test_twenty_readers_that_do_not_read(lab: Aldis, qos: int, record_property: pytest.RecordProperty) -> None:
    """20 subscribers of a firehose never read: bystanders talk as quickly as without them, the node's memory stays
    flat, and each is closed: its buffer has been full, or nothing acknowledged, for four seconds."""
    written = len(lab.log)
    with ExitStack() as stack:
        one = stack.enter_context(lab.tcp().connected("one"))
        other = stack.enter_context(lab.tcp().connected("other").subscribed(("talk", 1)))
        hose = Firehose(lab, qos)
        stack.callback(hose.end)
        latencies(one, other, 0.5)
        without = latencies(one, other, 2.0)
        readers = [lab.tcp(receive_buffer=4_096).connected(f"slow{number}") for number in range(READERS)]
        for reader in readers:
            stack.enter_context(reader)
            reader.subscribed(("firehose", qos))
        time.sleep(0.5)  # the buffers are full
        before, began = lab.memory(), hose.sent
        beside = latencies(one, other, 2.0)
        grown = lab.memory() - before
        passed = (hose.sent - began) * SIZE * READERS
        record_property("p99 without, with, grown", (p99(without), p99(beside), grown))
        took = f"QoS {qos}: p99 {p99(without) * 1000:.1f} ms, with slow readers {p99(beside) * 1000:.1f} ms"
        print(f"{took}; {grown} bytes more, while {passed} passed them by")
        assert p99(beside) < 2 * p99(without) + 0.020
        assert passed > 20_000_000
        assert grown < 4_000_000, f"{grown} bytes more, while {passed} passed them by"
        # at QoS 1 the window may be full before the buffer is; then it is the acknowledgements that are missed
        lab.logged("connection ended: (client does not read|deliveries not acknowledged)", READERS, since=written)
        one.send(publish("talk", b"still there", qos=1, id=1))
        assert other.take().payload == b"still there"
