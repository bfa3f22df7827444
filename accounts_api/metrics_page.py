"""The accounts side as Prometheus reads it: calls, passwords, files, the database, announcements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aldis.accounts_api.figures import CallFigures
from aldis.accounts_api.services import Services
from aldis.bridge.accounts.database import READS, WRITES


class MetricsPage(Collector):
    """`around` are gauges of the process that serves the API, by name. `alone`: no other page of this process tells of
    its memory, CPU and descriptors."""

    def __init__(
        self,
        calls: CallFigures,
        services: Services,
        *,
        alone: bool,
        around: Callable[[], Mapping[str, float]] = dict,
        counted: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._services = services
        self._around = around
        self._counted = counted
        self._registry = calls.registry
        self._registry.register(self)
        if alone:
            ProcessCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def page(self) -> bytes:
        """Everything, as of now, in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        passwords = self._services.passwords
        yield _gauge("passwords_running", "Passwords being hashed.", passwords.running)
        yield _gauge("passwords_waiting", "Passwords waiting to be hashed.", passwords.waiting)
        yield _counter("passwords_refused", "Calls turned away because too many waited.", passwords.refused)
        announcer = self._services.announcer
        about = "Announcements that not every node has confirmed in time; it finds them in the log."
        yield _counter("announcements_unconfirmed", about, announcer.unconfirmed)
        yield from self._database()
        yield from self._files()
        for name, value in self._around().items():
            yield _gauge(name, "docs/operations.md", value)
        for name, value in self._counted().items():
            yield _counter(name, "docs/operations.md", value)

    def _database(self) -> Iterator[Metric]:
        state = self._services.accounts.database_state()
        up = GaugeMetricFamily("aldis_accounts_database_available", "0 while they fail.", labels=["what"])
        failures = CounterMetricFamily("aldis_accounts_database_failures", "Calls of it that failed.", labels=["what"])
        for what in (READS, WRITES):
            up.add_metric([what], what not in state.away)
            failures.add_metric([what], state.failures[what])
        yield up
        yield failures
        yield _gauge("accounts_database_connections", "Connections in use.", state.in_use)
        yield _gauge("accounts_database_connections_allowed", "Connections at most.", state.allowed)

    def _files(self) -> Iterator[Metric]:
        filing = self._services.filing
        if filing is None:
            return
        yield _counter("files_received_bytes", "Bytes of files taken from clients.", filing.received)
        yield _counter("files_sent_bytes", "Bytes of files given to clients.", filing.sent)
        running = GaugeMetricFamily("aldis_files_transfers", "Transfers under way.", labels=["what"])
        running.add_metric(["upload"], filing.uploads.running)
        running.add_metric(["download"], filing.downloads.running)
        yield running
        ended = CounterMetricFamily("aldis_files_uploads", "Uploads that ended.", labels=["result"])
        ended.add_metric(["stored"], filing.stored)
        ended.add_metric(["failed"], filing.failed)
        yield ended


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(f"aldis_{name}", help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(f"aldis_{name}", help, value=value)
