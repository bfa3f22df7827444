"""Parcels between nodes over Redis pub/sub."""

from __future__ import annotations

import asyncio
import logging
import random

from aldis.bridge.framed_transfer import FramedTransfer, TransferLimits
from aldis.bridge.frames import ALL
from aldis.bridge.redis_pubsub import PubSub
from aldis.bridge.redis_server import RedisServer

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to connect: a restart of Redis takes less than the first second, and a hundred nodes
that try once a second are no burden."""

_LEAVING = 1.0
"""Seconds for the last frames to reach Redis."""

_LARGER = 4
"""Frames may be so many times larger than ours, where another node's settings differ."""


class RedisTransfer(FramedTransfer):
    """Channels are `{prefix}:to:{node}` and `{prefix}:all`; Redis must be version 6 or later, and its user may
    SUBSCRIBE and PUBLISH there.

    One connection does both, because then one heartbeat proves both. It is made anew when it breaks, and when
    heartbeats stop coming back on it: Redis that stands still, and a path that swallows what one side says, break
    nothing that TCP would notice.
    """

    def __init__(
        self,
        node: str,
        server: RedisServer,
        *,
        key: bytes,
        prefix: str = "aldis",
        limits: TransferLimits = TransferLimits(),  # noqa: B008 - immutable
    ) -> None:
        super().__init__(node, key=key, limits=limits)
        self._server = server
        self._to_one = f"{prefix}:to:".encode()
        self._to_all = f"{prefix}:all".encode()
        self._link: PubSub | None = None
        self._task: asyncio.Task[None] | None = None
        self._troubled = False

    # What `FramedTransfer` asks for

    def _start(self) -> None:
        self._task = self._loop.create_task(self._keep_linked(), name="transfer")

    async def _stop(self) -> None:
        assert self._task is not None
        if self._is_listening:
            # Our good-bye comes back after Redis has taken everything. To close earlier might reset the connection,
            # with what Redis had not read yet.
            try:
                async with asyncio.timeout(_LEAVING):
                    await self._left.wait()
            except TimeoutError:
                logger.info("Redis did not confirm that this node has left")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _tear_down(self) -> None:
        if self._link is not None:
            self._link.drop("no heartbeat came back")

    def _has_room(self) -> bool:
        return self._link is not None and self._link.has_room

    def _carry(self, frames: list[tuple[str, bytes]]) -> None:
        assert self._link is not None
        self._link.publish(
            [(self._to_all if target == ALL else self._to_one + target.encode(), data) for target, data in frames]
        )

    # The connection

    async def _keep_linked(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            link = PubSub(
                self._server,
                (self._to_one + self.node.encode(), self._to_all),
                self,
                max_message=_LARGER * self.limits.max_frame_size,
            )
            try:
                await self._attempt(link)
                if self._link is link:
                    pause = _FIRST_PAUSE
                    await link.ended.wait()
            finally:
                link.drop("this node has ended")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the nodes, hides nothing
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(self, link: PubSub) -> None:
        """Returns when the link is there, or will not be."""
        try:
            async with asyncio.timeout(self._server.connect_timeout):
                await self._server.connect(lambda: link)
                await link.begun.wait()
        except TimeoutError:
            self._trouble(f"no session within {self._server.connect_timeout:g} seconds")
        except (OSError, ValueError) as error:  # a name that is none is a ValueError
            self._trouble(str(error))

    def subscribed(self, link: PubSub) -> None:
        if self._closing is not None:
            return
        self._link = link
        if self._troubled or self._links:
            logger.info("linked to the other nodes by Redis at %s", self._server.name)
        self._troubled = False
        self._listening()

    def message(self, data: bytes) -> None:
        self._arrived(data)

    def oversized(self, size: int) -> None:
        self.figures.refused["size"] += 1
        self._refused("size")

    def refused(self, reason: str) -> None:
        if times := self._worth_saying("publish"):
            logger.error("Redis at %s refuses to publish (%d times): %s", self._server.name, times, reason)

    def writable(self) -> None:
        self._flush()

    def lost(self, link: PubSub, reason: str) -> None:
        if self._closing is None:
            self._trouble(reason)
        if self._link is link:
            self._link = None
            self._deaf()

    def _trouble(self, reason: str) -> None:
        """Once per trouble."""
        if not self._troubled:
            logger.warning("no link to the other nodes by Redis at %s: %s", self._server.name, reason)
        self._troubled = True
