"""The database is away for a while under steady load, with a journal: people go on sending, and nothing grows but the
journal. `make test` holds it down for ten seconds; `ALDIS_OUTAGE_SECONDS=60` for as long as that, and
`-s` prints the figures (docs/faults.md)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from scripts.cluster import Cluster
from tests.clusters import clustered, entrances
from tests.integration.test_journal import JOURNAL, Talk, arrive, figure
from tests.operating import soon
from tests.people import Device, people
from tests.wire import publish

SECONDS = float(os.environ.get("ALDIS_OUTAGE_SECONDS", "10"))
PAIRS = 8
PAUSE = 0.05
"""Between two messages of one sender: about 150 messages a second in all."""
IN_TIME = 2.0
"""Seconds after which nobody may still wait for `sent`, whatever else this machine does."""
P99 = 1.0
GROWTH = 48_000_000
"""Bytes by which a node may grow. What is sent in a minute is a fifth of that with all that Python makes of it, and
none of it belongs into a node."""

pytestmark = pytest.mark.timeout(120 + 4 * SECONDS)


@dataclass
class Sample:
    at: float
    lag: float
    length: float
    rss: list[int]


class Sampling:
    """Looks at the cluster twice a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.samples: list[Sample] = []
        self._cluster = cluster
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ending.wait(0.5):
            node = self._cluster.nodes[1]
            rss = [psutil.Process(node.pid).memory_info().rss for node in self._cluster.nodes]
            lag, length = figure(node, "lag_seconds"), figure(node, "length")
            self.samples.append(Sample(time.monotonic(), lag, length, rss))

    def __enter__(self) -> Sampling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> list[Sample]:
        return [one for one in self.samples if begin <= one.at < end]


class Listening:
    """A device that takes what comes, all the time: who is silent for too long gets everything again."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                self._device.read(0.2)

    def __enter__(self) -> Listening:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with clustered(tmp_path, settings=JOURNAL) as cluster:
        yield cluster


def test_people_go_on_sending_while_the_database_is_away(cluster: Cluster) -> None:
    first, second = entrances(cluster)
    with ExitStack() as stack:
        talks: list[tuple[Talk, Device]] = []
        for _ in range(PAIRS):
            ann, bob = people(first, "ann", "bob")
            phone = stack.enter_context(ann.online("phone", keep_alive=0))
            bob.server = second
            talks.append((Talk(phone, bob, PAUSE), stack.enter_context(bob.online("phone", keep_alive=0))))
        sampling = stack.enter_context(Sampling(cluster))
        with ExitStack() as talking:
            for talk, his in talks:
                talking.enter_context(Listening(his))
                talking.enter_context(talk)
            time.sleep(4)
            calm = sampling.samples[-1]
            cluster.mysql.stop()
            begin = time.monotonic()
            # a read receipt is for the database alone: it waits, and the log says for what
            talk, his = talks[0]
            payload = b'{"type":"read","up_to":%d}' % talk.sent[0]["mid"]
            his.send(publish(f"inbox/{talk.sender}/receipt/{his.user}", payload, qos=1, id=his.next_id()))
            time.sleep(SECONDS)
            end = time.monotonic()
            cluster.mysql.start()
            soon(lambda: figure(cluster.nodes[0], "lag_seconds") < 1)
            caught_up = time.monotonic() - end
            time.sleep(2)
        soon(lambda: figure(cluster.nodes[0], "length") == figure(cluster.nodes[1], "lag_seconds") == 0)
        for talk, his in talks:
            arrive(his, talk.sent)

    waits = sorted(wait for talk, _ in talks for at, wait in talk.waits if begin <= at < end)
    away = sampling.between(begin, end)
    grown = max(sum(one.rss) - sum(calm.rss) for one in away)
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(
        f"\naway {end - begin:.1f} s, {len(waits)} messages; sent after p50 {p50 * 1e3:.1f}, p99 {p99 * 1e3:.1f},"
        f" at most {waits[-1] * 1e3:.1f} ms; lag up to {max(one.lag for one in sampling.samples):.1f} s, length up to"
        f" {max(one.length for one in sampling.samples):.0f}; both nodes grew by {grown / 1e6:.1f} MB;"
        f" lag below a second {caught_up:.1f} s after the start of the database"
    )
    assert len(waits) > SECONDS * PAIRS / (PAUSE + IN_TIME / 4), "they did go on"
    assert waits[-1] < IN_TIME and p99 < P99
    assert away[-1].lag > 0.8 * (away[-1].at - begin) > 0, "the lag says for how long nothing was stored"
    assert [one.length for one in away] == sorted(one.length for one in away)
    assert grown < GROWTH
    assert figure(cluster.nodes[0], "poison") == 0
    said = [node.log.read_text() for node in cluster.nodes]
    assert any("messages are acknowledged by the journal" in log for log in said)
    assert not any("nothing is acknowledged" in log for log in said)
    for process in (*cluster.nodes, cluster.accounts):
        told = process.log.read_text().count("WARNING aldis.bridge.accounts.database")
        assert told <= 4, f"{process.name}: once for reads and once for writes, when it began and when it was over"
