"""What the node counts while it works: plain integers that the hot path raises by one, read by whoever looks.

No metrics library is called for a message; `plugins/metrics.py` and `plugins/sys_topics.py` turn these into words when
they are asked. Counters only rise; what is true at one moment (sessions, inflight, backlog) is counted by `census.py`
when somebody wants to know it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from aldis.broker.core.envelope import Reason
from aldis.broker.core.reasons import CloseReason, ConnectReturn

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MESSAGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

PLAIN = "plain"
"""Kind of a publish that is no inbox message."""


class Histogram:
    """How often values fell at or below each bound; `counts` has one more place, for what was above the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, int]]:
        """Cumulative, as Prometheus wants them: (upper bound, count)."""
        found, count = [], 0
        for bound, more in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            count += more
            found.append((bound, count))
        return found


def _by_qos() -> list[int]:
    return [0, 0, 0]


class Figures:
    """The counters of one node since its start.

    `received` and `items` are by kind, then QoS. `sent` counts, by QoS, what sessions were given to send, items and
    what was `routed` of other kinds included; `receipts` those that a connection wrote itself. Sending again is not
    counted.
    """

    __slots__ = (
        "accept_seconds",
        "bytes_received",
        "bytes_sent",
        "commit_messages",
        "commit_seconds",
        "connects",
        "ended",
        "items",
        "lag",
        "opened",
        "packets_received",
        "plain",
        "receipts",
        "received",
        "refused",
        "routed",
        "sent",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.packets_received = 0
        self.received = {kind: _by_qos() for kind in ("chat", "receipt", "typing", PLAIN)}
        self.plain = self.received[PLAIN]
        self.sent = _by_qos()
        self.items = {kind: _by_qos() for kind in ("chat", "sync", "system")}
        self.routed = {"receipt": 0, "typing": 0, "presence": 0}
        self.receipts = 0
        self.refused: Counter[Reason] = Counter()
        self.connects: Counter[ConnectReturn] = Counter()
        self.opened = 0
        self.ended: Counter[CloseReason] = Counter()
        self.lag = Histogram(SECONDS)
        self.commit_seconds = Histogram(SECONDS)
        self.accept_seconds = Histogram(SECONDS)
        self.commit_messages = Histogram(MESSAGES)

    def received_on(self, levels: list[str], qos: int) -> None:
        """One PUBLISH came for the topic of these levels."""
        kind = self.received.get(levels[2]) if len(levels) == 4 and levels[0] == "inbox" else None
        (self.plain if kind is None else kind)[qos] += 1

    def committed(self, seconds: float, messages: int) -> None:
        """One group commit has been taken, after this long."""
        self.commit_seconds.observe(seconds)
        self.commit_messages.observe(messages)

    def sent_by_kind(self) -> dict[str, list[int]]:
        """Every PUBLISH sent to clients, by kind and QoS. What is no item, receipt, typing or presence is plain."""
        found = {kind: list(counts) for kind, counts in self.items.items()}
        found |= {kind: [count, 0, 0] for kind, count in self.routed.items()}
        found[PLAIN] = [total - sum(counts[qos] for counts in found.values()) for qos, total in enumerate(self.sent)]
        found["receipt"][0] += self.receipts
        return found
