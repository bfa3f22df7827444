"""Scripts run in Redis, in bounded time, or a quick refusal while Redis is known to be away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import redis

from aldis.bridge.redis_script import Script
from aldis.bridge.redis_server import RedisServer
from aldis.broker.cluster_ports import StatusUnavailable

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""One would do: a script takes Redis a millisecond at most. More keep one slow answer from holding up the others."""


class RedisLink:
    """Runs scripts. Whoever meets a failure pays the time-out once: from then on `run` refuses at once, until `probe`
    has succeeded, which somebody must call now and then. `failed` is set at each failure. `bound` is the time-out of
    one script, in seconds."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._client = server.client(size=CONNECTIONS)
        # Beside the time-outs of each step, for all of them: a connection to wait for, a session, the answer.
        self.bound = server.connect_timeout + server.answer_timeout
        self._trouble: str | None = "it was never reached"
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.failed = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._trouble is None

    async def run(self, script: Script, arguments: Sequence[str | bytes | int]) -> Any:
        """The answer. Raises `StatusUnavailable`; the script may have run, or may run yet."""
        if self._trouble is not None:
            raise self._unavailable()
        return await self.probe(script, arguments)

    async def probe(self, script: Script, arguments: Sequence[str | bytes | int]) -> Any:
        """As `run`, but tries in any case, and so finds out whether Redis is there again."""
        self._running += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self.bound):
                answer = await self._ask(script, arguments)
        except (redis.RedisError, OSError, TimeoutError) as error:
            words = str(error) or type(error).__name__
            if self._trouble is None:
                logger.warning("user status: Redis at %s fails: %s", self._server.name, words)
            self._trouble = words
            self.failed.set()
            raise self._unavailable() from error
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
        if self._trouble is not None:
            logger.info("user status: Redis at %s is there", self._server.name)
            self._trouble = None
        return answer

    async def forget_connections(self) -> None:
        """Idle ones are closed: the name of the server may mean another machine now."""
        try:
            await self._client.connection_pool.disconnect(inuse_connections=False)
        except (redis.RedisError, OSError, TimeoutError) as error:
            logger.debug("user status: closing a connection: %s", error)

    async def idle(self) -> None:
        """Returns when nothing is under way, which is bounded."""
        await self._idle.wait()

    async def close(self) -> None:
        """Never raises."""
        self._trouble = "closed"
        await self._idle.wait()
        try:
            await self._client.aclose()
        except (redis.RedisError, OSError, TimeoutError) as error:
            logger.debug("user status: closing a connection: %s", error)

    async def _ask(self, script: Script, arguments: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._client.execute_command(  # type: ignore[no-untyped-call]
                "EVALSHA", script.sha, 0, *arguments
            )
        except redis.exceptions.NoScriptError:  # the first time, and after a restart
            return await self._client.execute_command(  # type: ignore[no-untyped-call]
                "EVAL", script.source, 0, *arguments
            )

    def _unavailable(self) -> StatusUnavailable:
        return StatusUnavailable(f"Redis at {self._server.name}: {self._trouble}")
