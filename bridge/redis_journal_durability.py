"""Whether a Redis server keeps what it has acknowledged: looked at on every new connection, so after every restart,
failover or change of address."""

from __future__ import annotations

import logging
from typing import Any

import redis
from redis.asyncio.connection import AbstractConnection

logger = logging.getLogger(__name__)

OLDEST = (7, 0)
"""Scripts that take entries out must be allowed to run when memory is full."""


class WeakServer(redis.RedisError):
    """This server would lose what the journal has acknowledged, or cannot run it."""


class Durability:
    """What a server must be set to. `flush_every_second` accepts `appendfsync everysec`, `trusted` a server that does
    not tell its settings. Without `required`, nothing: for who only takes out."""

    def __init__(self, *, required: bool = True, flush_every_second: bool = False, trusted: bool = False) -> None:
        self._required = required
        self._flush_every_second = flush_every_second
        self._trusted = trusted
        self._said: str | None = None

    async def check(self, connection: AbstractConnection) -> None:
        """Logs the new connection in, then looks. Raises `WeakServer`."""
        await connection.on_connect()
        if not self._required:
            return
        try:
            await self._check(connection)
        except WeakServer as error:
            if self._said != str(error):
                self._said = str(error)
                logger.error("the journal does not use this Redis: %s", error)
            raise

    async def _check(self, connection: AbstractConnection) -> None:
        version = await self._version(connection)
        if version < OLDEST:
            raise WeakServer(f"the journal needs Redis {OLDEST[0]} or later, this one is {'.'.join(map(str, version))}")
        try:
            found = await _ask(connection, "CONFIG", "GET", "appendonly", "appendfsync", "maxmemory-policy")
        except redis.ResponseError as error:
            if self._trusted:
                self._warn("this Redis does not tell its settings: what it acknowledges is taken to be on disk")
                return
            raise WeakServer(
                "it does not tell whether it keeps what it acknowledges (CONFIG GET is forbidden); if it does, set"
                " cluster.journal.trust_durability"
            ) from error
        texts = [str(one, "utf-8") for one in (found if isinstance(found, list) else [])]
        self._judge(dict(zip(texts[::2], texts[1::2], strict=True)))

    def _judge(self, settings: dict[str, str]) -> None:
        if settings.get("appendonly") != "yes":
            raise WeakServer("appendonly is not yes: a restart would lose every acknowledged message not yet stored")
        if settings.get("maxmemory-policy") != "noeviction":
            raise WeakServer("maxmemory-policy is not noeviction: full memory would cost acknowledged messages")
        flushing = settings.get("appendfsync")
        if flushing == "always":
            return
        if flushing != "everysec":
            raise WeakServer("appendfsync is no: a power cut would cost whatever the system had not written yet")
        if not self._flush_every_second:
            raise WeakServer(
                "appendfsync is everysec: a power cut would cost the acknowledged messages of the last second; set it"
                " to always, or accept that with cluster.journal.flush_every_second"
            )
        self._warn("appendfsync is everysec: a power cut may cost the acknowledged messages of the last second")

    def _warn(self, text: str) -> None:
        if self._said != text:
            self._said = text
            logger.warning("the journal: %s", text)

    async def _version(self, connection: AbstractConnection) -> tuple[int, ...]:
        told = str(await _ask(connection, "INFO", "server"), "utf-8")
        for line in told.splitlines():
            if line.startswith("redis_version:"):
                return tuple(int(part) for part in line.partition(":")[2].split(".")[:2])
        return OLDEST


async def _ask(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
