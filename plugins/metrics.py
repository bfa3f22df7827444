"""The node's figures in Prometheus' text format."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from amqtt.plugins.base import BasePlugin
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from aldis.broker.census import Census, take_census
from aldis.broker.figures import Figures, Histogram
from aldis.config.addresses import LOOPBACK, may_ask
from aldis.plugins.services import cluster_of, journal_of, node_of, writer_of


class Metrics(BasePlugin):  # type: ignore[type-arg]
    """Turns what the node counts (`broker/figures.py`) and what is true now (`broker/census.py`) into one page. Nothing
    of this runs for a message: the page is made when somebody asks for it, under `/metrics` of the HTTP server.

    The figures tell who talks how much, so they are for this machine only, or for the networks of `allow`; never for a
    request that came through a proxy, because then the address is the proxy's.
    """

    @dataclass
    class Config:
        """Options in the profile."""

        allow: list[str] = field(default_factory=lambda: [*LOOPBACK])
        """Networks that may ask. Only for addresses that nobody else can have."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._node = node_of(context)
        self._writer = writer_of(context)
        self._cluster = cluster_of(context)
        self._journal = journal_of(context)
        self.configure(self.config)
        # PluginDecisions has the plugins only after all are made
        self._plugins: Callable[[], list[Any]] = lambda: context.plugins
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    @staticmethod
    def check_options(config: Config) -> None:
        """Raises `ValueError`."""
        for network in config.allow:
            ip_network(network)

    def configure(self, config: Config) -> None:
        """Other options from now on (SIGHUP)."""
        self._networks = [ip_network(network) for network in config.allow]

    def may_ask(self, peer: str, forwarded: bool) -> bool:
        """Whether the page is for a caller at this address."""
        return may_ask(peer, forwarded, self._networks)

    async def page(self) -> bytes:
        """Everything, as of now."""
        census = await take_census(self._node)
        families = [*_counters(self._node.figures), *_gauges(census), *self._others(), *await self._of_the_journal()]
        return generate_latest(_Families(families)) + generate_latest(self._registry)

    def _others(self) -> Iterator[Metric]:
        yield _gauge("event_loop_tasks", "asyncio tasks.", len(asyncio.all_tasks()))
        yield _gauge("ready", "1 while /readyz has no reason to say no.", not self._node.not_ready_reasons)
        for plugin in self._plugins():
            if hasattr(plugin, "gauges"):
                for name, value in plugin.gauges().items():
                    yield _gauge(name, f"By {type(plugin).__name__}.", value)
        if self._writer is not None:
            yield _gauge("commit_pending", "Messages handed over and not yet committed.", self._writer.pending)
            yield _gauge("store_available", "0 while the store takes no commits.", self._writer.available)
        if self._cluster is not None:
            for name, count in self._cluster.counters().items():
                yield _counter(name, "Of the way to the other nodes; docs/operations.md.", [], [([], count)])
            for name, value in self._cluster.gauges().items():
                yield _gauge(name, "Of this node among others; docs/operations.md.", value)

    async def _of_the_journal(self) -> list[Metric]:
        if self._journal is None:
            return []
        about = "Of the journal; docs/operations.md."
        counters = [_counter(name, about, [], [([], count)]) for name, count in self._journal.counters().items()]
        gauges = [_gauge(name, about, value) for name, value in (await self._journal.gauges()).items()]
        taken = self._node.figures.accept_seconds
        return [*counters, *gauges, _histogram("accept_seconds", "Seconds an append to the journal took.", taken)]


class _Families(CollectorRegistry):
    """A registry that has collected already."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counter(name: str, help: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
    family = CounterMetricFamily(f"aldis_{name}", help, labels=labels)
    for label, value in values:
        family.add_metric(label, value)
    return family


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(f"aldis_{name}", help, value=value)


def _histogram(name: str, help: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(f"aldis_{name}", help)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family


def _by_kind(counts: dict[str, list[int]]) -> Iterator[tuple[list[str], float]]:
    for kind, by_qos in counts.items():
        for qos, count in enumerate(by_qos):
            yield [kind, str(qos)], count


def _counters(figures: Figures) -> Iterator[Metric]:
    labels = ["kind", "qos"]
    yield _counter("messages_received", "PUBLISHes from clients.", labels, _by_kind(figures.received))
    yield _counter("messages_sent", "PUBLISHes to clients, repeats left out.", labels, _by_kind(figures.sent_by_kind()))
    yield _counter("packets_received", "MQTT packets from clients.", [], [([], figures.packets_received)])
    yield _counter("received_bytes", "Bytes from clients.", [], [([], figures.bytes_received)])
    yield _counter("sent_bytes", "Bytes to clients.", [], [([], figures.bytes_sent)])
    yield _counter(
        "publishes_refused",
        "PUBLISHes that were rejected.",
        ["reason"],
        [([str(reason)], count) for reason, count in figures.refused.items()],
    )
    yield _counter(
        "connects",
        "CONNECTs answered, by CONNACK code.",
        ["code"],
        [([code.name.lower()], count) for code, count in figures.connects.items()],
    )
    yield _counter("connections_opened", "Connections accepted.", [], [([], figures.opened)])
    yield _counter(
        "connections_ended",
        "Connections ended.",
        ["reason"],
        [([str(reason)], count) for reason, count in figures.ended.items()],
    )
    yield _histogram(
        "commit_seconds", "Seconds a group commit took, from its first attempt on.", figures.commit_seconds
    )
    yield _histogram("commit_messages", "Messages in a group commit.", figures.commit_messages)
    yield _histogram("event_loop_lag_seconds", "Seconds the clock came late, once per tick.", figures.lag)


def _gauges(census: Census) -> Iterator[Metric]:
    connections = GaugeMetricFamily("aldis_connections", "Open connections.", labels=["listener"])
    for listener, count in census.connections.items():
        connections.add_metric([listener], count)
    yield connections
    sessions = GaugeMetricFamily("aldis_sessions", "MQTT sessions.", labels=["state"])
    sessions.add_metric(["connected"], census.sessions_connected)
    sessions.add_metric(["away"], census.sessions_away)
    yield sessions
    yield _gauge("sessions_persistent", "Sessions with clean session off.", census.sessions_persistent)
    yield _gauge("subscriptions", "Filters of all sessions.", census.subscriptions)
    yield _gauge("retained_messages", "Retained messages.", census.retained)
    yield _gauge("inflight", "Deliveries not yet acknowledged, reserved packet ids included.", census.inflight)
    yield _gauge("queued", "Plain messages waiting for their session.", census.queued)
    yield _gauge("queue_dropped", "Messages dropped by the full queues of the sessions there are.", census.dropped)
    yield _gauge("inbox_devices", "Devices attached to their inbox.", census.devices_attached)
    yield _gauge(
        "inbox_devices_catching_up", "Of these, devices that still read their backlog.", census.devices_catching_up
    )
    yield _gauge("inbox_backlog", "Inbox items that attached devices have not been sent yet.", census.backlog)
