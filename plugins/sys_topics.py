"""The broker's own figures as retained messages under `$SYS/broker/`, where MQTT tools look for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from math import exp
from typing import Any

from amqtt.plugins.base import BasePlugin

from aldis.broker.census import Census, take_census
from aldis.broker.core.packets import Message
from aldis.plugins.services import node_of

_LOADS = {"1min": 60.0, "5min": 300.0, "15min": 900.0}


class SysTopics(BasePlugin):  # type: ignore[type-arg]
    """Publishes, every `interval` seconds, mosquitto's names for what is true here. `TopicAuthorisation` shows them to
    its admins only; a profile without it shows them to everyone.

    Not there, because Aldis does not count it: `messages/sent` (packets of every kind), `messages/stored`, `heap`.
    """

    @dataclass
    class Config:
        """Options in the profile."""

        interval: float = 10.0
        """Seconds between two rounds; 0 publishes nothing."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.check_options(self.config)
        self._node = node_of(context)
        self._begun = self._node.now
        self._next = self._node.now
        self._last: dict[str, int] = {}
        self._at = self._node.now
        self._loads: dict[str, dict[str, float]] = {}
        self._maximum = 0
        self._running = False
        self._node.on_tick.append(self._on_tick)

    @staticmethod
    def check_options(config: Config) -> None:
        """Raises `ValueError`."""
        if config.interval < 0:
            raise ValueError(f"interval must be 0 (off) or more seconds, not {config.interval}")

    def configure(self, config: Config) -> None:
        """Other options from now on (SIGHUP)."""
        self.config = config
        self._next = self._node.now

    def _on_tick(self, now: float) -> None:
        if self.config.interval and now >= self._next and not self._running:
            self._next = now + self.config.interval
            self._running = True
            self._node.spawn(self._publish(now), "$SYS")

    async def _publish(self, now: float) -> None:
        try:
            census = await take_census(self._node)
            router = self._node.router
            for topic, value in self._topics(census, now):
                payload = (f"{value:.2f}" if isinstance(value, float) else str(value)).encode()
                known = router.retained.get(f"$SYS/broker/{topic}")
                if known is None or known.payload != payload:
                    router.publish(Message(f"$SYS/broker/{topic}", payload, retain=True))
        finally:
            self._running = False

    def _topics(self, census: Census, now: float) -> Iterator[tuple[str, str | int | float]]:
        figures = self._node.figures
        clients = census.sessions_connected
        self._maximum = max(self._maximum, clients)
        counted = {
            "messages/received": figures.packets_received,
            "publish/received": sum(map(sum, figures.received.values())),
            "publish/sent": sum(map(sum, figures.sent_by_kind().values())),
            "bytes/received": figures.bytes_received,
            "bytes/sent": figures.bytes_sent,
            "sockets": figures.opened,
        }
        yield "version", f"aldis version {version('aldis')}"
        yield "uptime", f"{int(now - self._begun)} seconds"
        yield "clients/connected", clients
        yield "clients/disconnected", census.sessions_away
        yield "clients/total", clients + census.sessions_away
        yield "clients/maximum", self._maximum
        yield "messages/received", counted["messages/received"]
        yield "publish/messages/received", counted["publish/received"]
        yield "publish/messages/sent", counted["publish/sent"]
        yield "publish/messages/dropped", census.dropped
        yield "bytes/received", counted["bytes/received"]
        yield "bytes/sent", counted["bytes/sent"]
        yield "subscriptions/count", census.subscriptions
        yield "retained messages/count", census.retained
        yield from self._load(counted, now)

    def _load(self, counted: dict[str, int], now: float) -> Iterator[tuple[str, float]]:
        """Per minute, averaged over 1, 5 and 15 minutes with exponential weights, as mosquitto has it."""
        passed = now - self._at
        for name, count in counted.items():
            loads = self._loads.setdefault(name, dict.fromkeys(_LOADS, 0.0))
            if passed > 0:
                rate = (count - self._last.get(name, 0)) * 60 / passed
                for window, seconds in _LOADS.items():
                    loads[window] += (rate - loads[window]) * (1 - exp(-passed / seconds))
            for window, load in loads.items():
                yield f"load/{name}/{window}", load
        self._last, self._at = counted, now
