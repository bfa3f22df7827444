"""What the REST API counts of its calls. Labels have few values: routes as the API declares them, never paths as they
are sent; methods and statuses of HTTP."""

from __future__ import annotations

import time
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "other"
"""In place of what no route of ours is called, and of methods that there are not: who makes up paths makes no
labels."""
UNANSWERED = "none"
"""In place of a status where the client was gone before there was one."""


class CallFigures:
    """A few additions for each call; the page is made when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "aldis_rest_calls", "Calls answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "aldis_rest_call_seconds",
            "Seconds from the head of a call to the end of its answer; files take as long as they take.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._running = Gauge("aldis_rest_calls_running", "Calls under way.", registry=self.registry)

    def begun(self) -> None:
        self._running.inc()

    def ended(self, method: str, route: str, status: str, seconds: float) -> None:
        """One call; `route` is its template, empty where there is none."""
        route = route or UNKNOWN
        self._running.dec()
        self._calls.labels(method if method in METHODS else UNKNOWN, route, status).inc()
        self._seconds.labels(route).observe(seconds)


class Measured:
    """The application, with each of its calls counted: around everything, so that errors and unknown paths count."""

    def __init__(self, app: ASGIApp, figures: CallFigures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        status = UNANSWERED

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        begun = time.perf_counter()
        self._figures.begun()
        try:
            await self._app(scope, receive, noting)
        finally:
            known = cast("dict[str, Any]", scope)  # a path that there is not has no template
            route = str(known.get("path_template") or "")
            self._figures.ended(str(known["method"]), route, status, time.perf_counter() - begun)
