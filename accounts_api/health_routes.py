"""For whoever watches the server."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import SkipValidation

from aldis.accounts_api.bodies import Health
from aldis.accounts_api.operations import NotForYou, NotReady, Operations
from aldis.accounts_api.problems import declared
from aldis.broker.ports import StoreUnavailable

TAGS = ["health"]
GivenOperations = NamedDependency[SkipValidation[Operations]]
ANSWER_WITHIN = 3.0
"""Seconds the database and the store may take before the server says that it is not ready."""

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_PROXIES = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers by which a proxy shows that it stands between: the address is then its own, not the caller's."""


@get("/healthz", summary="Is the process alive?", tags=TAGS)
async def healthz() -> Health:
    """Says yes as long as the event loop turns; asks nobody."""
    return Health()


@get("/readyz", summary="Can it do its work?", tags=TAGS, responses=declared(503))
async def readyz(operations: GivenOperations) -> Health:
    """Not while it starts or shuts down, while the store does not take commits, or while it is short of memory; else it
    really reads from the accounts' database and from the message store."""
    reasons = operations.not_ready()
    if reasons:
        raise NotReady("; ".join(sorted(reasons)))
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await operations.look()
    except TimeoutError as error:
        raise StoreUnavailable("no answer in time") from error
    return Health()


@get("/metrics", include_in_schema=False)
async def metrics(request: Request[Any, Any, Any], operations: GivenOperations) -> Response[bytes]:
    """Prometheus' text format; 404 where the plugin is off, 403 for who may not see them."""
    peer = request.client.host if request.client is not None else ""
    try:
        page = await operations.metrics(peer, any(name in request.headers for name in _PROXIES))
    except NotForYou as error:
        raise PermissionDeniedException(str(error)) from error
    if page is None:
        raise NotFoundException("the plugin aldis.plugins.metrics.Metrics is not loaded")
    return Response(page, media_type=_PROMETHEUS)


OPEN = [healthz, readyz, metrics]
