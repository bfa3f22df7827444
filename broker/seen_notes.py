"""Notes, once a day, that devices which stay connected are still there: the store knows only when they came and left,
and forgets devices that were not seen for long (`history.idle_device_days`)."""

from __future__ import annotations

import asyncio
import logging

from aldis.broker.inboxes import Inboxes
from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

NOTE_EVERY = 86_400.0
"""Seconds."""
_AT_ONCE = 100
_PAUSE = 0.1


class SeenNotes:
    """Hangs on the node's tick. What cannot be written today is written tomorrow."""

    def __init__(self, inboxes: Inboxes) -> None:
        self._inboxes = inboxes
        self._next = inboxes.node.now + NOTE_EVERY

    def on_tick(self, now: float) -> None:
        if now >= self._next:
            self._next = now + NOTE_EVERY
            self._inboxes.node.spawn(self.note(), "seen")

    async def note(self) -> None:
        """Writes when each attached device was last heard; a device that has another owner by now is left alone."""
        inboxes = self._inboxes
        lasting = [device for device in inboxes.attached() if not device.session.ephemeral]
        try:
            for start in range(0, len(lasting), _AT_ONCE):
                # released together, they go into one transaction
                async with asyncio.TaskGroup() as group:
                    for device in lasting[start : start + _AT_ONCE]:
                        quiet = max(inboxes.node.now - device.connection.heard, 0.0)
                        session, last_seen = device.session, inboxes.now_ms() - int(quiet * 1_000)
                        epoch = device.feed.epoch
                        group.create_task(
                            inboxes.store.release(session.user, session.device, epoch=epoch, last_seen=last_seen)
                        )
                await asyncio.sleep(_PAUSE)
        except* StoreUnavailable:
            logger.info("connected devices could not be noted as seen")
