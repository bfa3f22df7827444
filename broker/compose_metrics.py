"""The composition root's part for the figures of the accounts side, in a process with a node or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

from aldis.broker.compose_store import StartFailed
from aldis.config.addresses import LOOPBACK, may_ask
from aldis.config.settings import METRICS

if TYPE_CHECKING:
    from aldis.accounts_api.metrics_page import MetricsPage
    from aldis.accounts_api.services import Services


def measured(
    app: Any,
    services: Services,
    *,
    alone: bool,
    around: Callable[[], Mapping[str, float]] = dict,
    counted: Callable[[], Mapping[str, float]] = dict,
) -> tuple[Any, MetricsPage]:
    """The application, with its calls counted, and the page that tells of it; see `MetricsPage`."""
    from aldis.accounts_api.figures import CallFigures, Measured
    from aldis.accounts_api.metrics_page import MetricsPage

    calls = CallFigures()
    return Measured(app, calls), MetricsPage(calls, services, alone=alone, around=around, counted=counted)


class MetricsDoor:
    """Who may see the figures of a process without a node: as the plugin `aldis.plugins.metrics.Metrics` has it in the
    profile, which is not loaded there. Shut until `configure`."""

    def __init__(self) -> None:
        self._networks: list[IPv4Network | IPv6Network] | None = None

    def configure(self, plugins: Mapping[str, Mapping[str, Any]]) -> None:
        """These options from now on. Raises `StartFailed` for some that the plugin would not take."""
        options = plugins.get(METRICS)
        networks = None
        if options is not None:
            try:
                allow = options.get("allow", LOOPBACK)
                unknown = [name for name in options if name != "allow"]
                if unknown or isinstance(allow, str):
                    raise ValueError(f"unknown: {', '.join(unknown)}" if unknown else "allow must be a list")
                networks = [ip_network(network) for network in allow]
            except (TypeError, ValueError) as error:
                raise StartFailed(f"plugins.{METRICS}: {error}") from error
        self._networks = networks

    async def page(self, page: Callable[[], bytes], peer: str, forwarded: bool) -> bytes | None:
        """None where the plugin is not in the profile. Raises `NotForYou`."""
        from aldis.accounts_api.operations import NotForYou

        if self._networks is None:
            return None
        if not may_ask(peer, forwarded, self._networks):
            raise NotForYou("the metrics are for this machine, and for the networks that the plugin allows")
        return page()


def of_the_process() -> dict[str, float]:
    """Gauges that a node's own page has."""
    return {"event_loop_tasks": len(asyncio.all_tasks())}
