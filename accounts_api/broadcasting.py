"""System messages to everybody, in small batches that can be interrupted at any point."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
import uuid_utils

from aldis.bridge.accounts.broadcasts import Broadcasts
from aldis.bridge.accounts.records import Broadcast
from aldis.broker.ports import Postbox

logger = logging.getLogger(__name__)

BATCH = 200
"""Users in one group commit."""


class Broadcasting:
    """`begin` writes down what is to be sent; `send_some` sends it, in whichever process holds that chore. Everybody
    who was there at its beginning gets it once: the message has an id of its own for each user, so that a batch which
    was sent but not written down is not stored again."""

    def __init__(self, broadcasts: Broadcasts, postbox: Postbox, now: Callable[[], int]) -> None:
        self._broadcasts = broadcasts
        self._postbox = postbox
        self._now = now
        self.asked = asyncio.Event()

    async def begin(self, text: str, *, by: str) -> Broadcast:
        now = self._now()
        broadcast_id = str(uuid_utils.uuid7())
        notice = {"type": "broadcast", "broadcast_id": broadcast_id, "text": text}
        broadcast = Broadcast(broadcast_id, msgspec.json.encode(notice), by, now)
        await self._broadcasts.add(broadcast)
        logger.info("broadcast begun", extra={"user": by, "broadcast": broadcast_id})
        self.asked.set()
        return broadcast

    async def waiting(self) -> bool:
        """Whether there is a broadcast that has not come to everybody."""
        return await self._broadcasts.unfinished() is not None

    async def send_some(self) -> bool:
        """One batch of the oldest unfinished broadcast; false if there is none. Raises `StoreUnavailable`."""
        broadcast = await self._broadcasts.unfinished()
        if broadcast is None:
            return False
        users = await self._broadcasts.recipients(broadcast, limit=BATCH)
        await self._postbox.post_to(users, broadcast.content, id=broadcast.broadcast_id)
        over = len(users) < BATCH
        await self._broadcasts.advance(
            broadcast,
            place=users[-1] if users else broadcast.place,
            count=len(users),
            finished=self._now() if over else None,
        )
        if over:
            logger.info(
                "broadcast finished",
                extra={"broadcast": broadcast.broadcast_id, "users": broadcast.sent + len(users)},
            )
        return True
