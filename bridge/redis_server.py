"""How to reach a Redis server: its address, TLS, and connections that cannot hang.

redis-py bounds each read and write, but not the whole way to a session, which has several of them; and what it tries
again by itself depends on how a client was made. The clients of this program are all made here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout

from aldis.bridge.client_tls import tls_context

T = TypeVar("T", bound=asyncio.BaseProtocol)

KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds, number: an idle connection whose other end vanished is noticed after 25 s, and no firewall forgets
one that lives. That is why no PING goes ahead of a command."""


@dataclass(frozen=True)
class RedisServer:
    """Where Redis is. `url` is `redis://user:password@host:port/number`, the same with `rediss://` (TLS), or
    `unix:///path?db=number`. It is a secret, as is `password`, which wins over the one in the URL.

    `connect_timeout`, in seconds, is for the whole way to a session, log-in included; `answer_timeout` for the answer
    to one command. `tls` is for `rediss://`; without it the system's authorities are trusted.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 2.0
    answer_timeout: float = 2.0
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """For logs and errors: without user and password."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return f"{unquote(parts.path)} {self._database}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
        return f"{host}:{parts.port or 6379}/{self._database}"

    def client(
        self,
        *,
        size: int = 4,
        retries: int = 0,
        client_name: str = "aldis",
        on_connect: Callable[[AbstractConnection], Awaitable[None]] | None = None,
    ) -> Redis:
        """A client with a pool of its own, of `size` connections made when they are needed; who finds none free waits
        for `answer_timeout` at most, then gets a `redis.ConnectionError`. Answers are bytes. To be ended by `aclose`.

        `retries` is how often a command is sent again when its connection breaks. It is 0 as long as nobody says that
        the command may take effect twice. A connection that is seen to be closed is replaced before it is used.

        `on_connect` makes a session of each new connection, within the same time: it calls `connection.on_connect()`,
        looks at what it likes, and raises a `redis.RedisError` if the connection is not to be used.
        """
        connection_class, address = self._address()
        pool = BlockingConnectionPool(
            max_connections=size,
            timeout=self.answer_timeout,
            connection_class=connection_class,
            **address,
            db=self._database,
            username=unquote(urlsplit(self.url).username or "") or None,
            password=self._password,
            client_name=client_name,
            # RESP2 needs no greeting; and this, too, keeps it from asking for what only Redis Enterprise has
            protocol=2,
            connect_bound=self.connect_timeout,
            socket_connect_timeout=self.connect_timeout,
            socket_timeout=self.answer_timeout,
            retry=Retry(NoBackoff(), retries),
            redis_connect_func=on_connect,
        )
        return Redis.from_pool(pool)

    async def connect(self, make: Callable[[], T]) -> T:
        """A bare connection that speaks what `make` makes, yet to be logged in (`greeting`). Raises `OSError`, in
        its time: it is the caller's to bound."""
        _, address = self._address()
        loop = asyncio.get_running_loop()
        if "path" in address:
            return (await loop.create_unix_connection(make, address["path"]))[1]
        transport, protocol = await loop.create_connection(
            make, address["host"], address["port"], ssl=address.get("tls")
        )
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in address["socket_keepalive_options"].items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        return protocol

    @property
    def greeting(self) -> tuple[bytes, ...]:
        """The command that logs a bare connection in, for RESP3 (Redis 6 and later). A secret."""
        words = ["HELLO", "3"]
        if self._password is not None:
            words += ["AUTH", unquote(urlsplit(self.url).username or "") or "default", self._password]
        return tuple(word.encode() for word in words)

    @property
    def _database(self) -> int:
        parts = urlsplit(self.url)
        number = parse_qs(parts.query).get("db", [""])[-1]
        return int(number or (parts.path.strip("/") if parts.scheme != "unix" else "") or 0)

    @property
    def _password(self) -> str | None:
        return self.password or unquote(urlsplit(self.url).password or "") or None

    def _address(self) -> tuple[type[AbstractConnection], dict[str, Any]]:
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return _BoundedSocketFile, {"path": unquote(parts.path)}
        options = {
            getattr(socket, option): value for option, value in KEEP_ALIVE.items() if hasattr(socket, option)
        }  # not every system has all of them
        address = {
            "host": parts.hostname or "localhost",
            "port": parts.port or 6379,
            "socket_keepalive": True,
            "socket_keepalive_options": options,
        }
        if parts.scheme == "rediss":
            return _BoundedTls, {**address, "tls": self.tls or tls_context(None)}
        if parts.scheme != "redis":
            raise ValueError("the address of Redis must begin with redis://, rediss:// or unix://")
        return _Bounded, address


class _BoundedSession(AbstractConnection):
    """A connection with one bound on everything until the session is there: log-in and the choice of the database
    are commands, each with a time-out of its own."""

    def __init__(self, *, connect_bound: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._connect_bound = connect_bound

    async def connect_check_health(self, *arguments: Any, **named: Any) -> None:
        if self.is_connected:
            return
        try:
            async with asyncio.timeout(self._connect_bound):
                await super().connect_check_health(*arguments, **named)
        except TimeoutError as error:
            await self.disconnect(nowait=True)
            raise RedisTimeout(f"no session within {self._connect_bound:g} seconds") from error

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        # uvloop answers a write to what the server has closed with a RuntimeError, which nobody takes for trouble
        if self._writer is None or self._writer.transport.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")
        await super()._send_packed_command(command)


class _Bounded(_BoundedSession, Connection):
    """TCP."""


class _BoundedSocketFile(_BoundedSession, UnixDomainSocketConnection):
    """A socket in the file system."""


class _BoundedTls(_Bounded):
    """TLS with our context, made once: redis-py's own makes one for each connection, which takes milliseconds."""

    def __init__(self, *, tls: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls}
