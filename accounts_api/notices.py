"""Notices: what the server tells people about their accounts, as items of their inboxes. The truth is elsewhere, so one
that cannot be stored now holds up nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from aldis.broker.ports import Postbox, StoreUnavailable

logger = logging.getLogger(__name__)

POST_WITHIN = 5.0
"""Seconds a call waits for its notice to be stored; after that it is left to the store's own retries."""


async def post_notice(postbox: Postbox, user: str, notice: Mapping[str, Any]) -> None:
    async with posting(user, notice["type"]):
        await postbox.post(user, [msgspec.json.encode(notice)])


@asynccontextmanager
async def posting(user: str, kind: str) -> AsyncIterator[None]:
    """Where notices of this kind are posted that concern `user`: ends in time, and tells the log of one that could not
    be stored."""
    try:
        async with asyncio.timeout(POST_WITHIN):
            yield
    except (StoreUnavailable, TimeoutError):
        logger.warning("a notice could not be posted", extra={"user": user, "type": kind})
