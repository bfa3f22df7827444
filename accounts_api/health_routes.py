"""For whoever watches the server."""

from __future__ import annotations

import asyncio

from litestar import get

from aldis.accounts_api.authentication import GivenServices
from aldis.accounts_api.bodies import Health
from aldis.accounts_api.problems import declared
from aldis.broker.ports import StoreUnavailable

TAGS = ["health"]
ANSWER_WITHIN = 3.0
"""Seconds the database and the store may take before the server says that it is not ready."""


@get("/healthz", summary="Is the process alive?", tags=TAGS)
async def healthz() -> Health:
    """Says yes as long as the event loop turns; asks nobody."""
    return Health()


@get("/readyz", summary="Can it do its work?", tags=TAGS, responses=declared(503))
async def readyz(services: GivenServices) -> Health:
    """Really reads from the accounts' database and from the message store."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await services.accounts.ready()
            # No user has an empty name, so the answer is 0, but the store had to look.
            await services.store.head("")
    except TimeoutError as error:
        raise StoreUnavailable("no answer in time") from error
    return Health()


OPEN = [healthz, readyz]
