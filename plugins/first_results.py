"""What became of a message that was sent before under the same id (promise 2)."""

from __future__ import annotations

import asyncio

from aldis.broker.journal_ports import Answer
from aldis.broker.pipeline import Publication
from aldis.broker.ports import Stored, StoreUnavailable
from aldis.plugins.services import Services


class SenderGone(Exception):
    """Whoever asked has gone before the store could answer."""


async def first_result(services: Services, publication: Publication, id: str) -> Answer | Stored | None:
    """The first result of this id from the publication's device, None if there is none. Waits while the store is
    unavailable, as long as there is somebody to be answered. Raises `SenderGone`."""
    inboxes = services.inboxes
    while True:
        try:
            return await (inboxes.acceptance or inboxes.store).find(publication.user, publication.device, id)
        except StoreUnavailable:
            if publication.connection.closed is not None:
                raise SenderGone from None
            await asyncio.sleep(services.settings.timeouts.commit_retry)
