"""The way in for connections that do not begin with MQTT or HTTP: a balancer's header first, or TLS, or both.

    accepted ─► PROXY header ─► the door: is this address welcome? ─► TLS handshake ─► MQTT, WebSocket or HTTP

A plain listener has none of this. Where there is TLS it is begun by `loop.start_tls`, so that a connection counts, and
its time runs, from the moment it is accepted; asyncio and uvloop themselves would show it to us only after the
handshake. The header is read byte-exact (`asyncio.BufferedProtocol`), so that the ClientHello behind it, even in the
same segment, is still in the socket when the handshake wants it. Where there is no header, uvloop may read once before
it can be told not to; those bytes are handed to the handshake."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from aldis.broker.core.proxy_protocol import ProxyHeader, ProxyHeaderError
from aldis.broker.core.reasons import CloseReason

if TYPE_CHECKING:
    from aldis.broker.listener import Listener
    from aldis.broker.tls import ServerTls
    from aldis.config.entrance import Network

_FIRST_READ = 4_096
SHUTDOWN_PATIENCE = 2.0
"""Seconds that closing a TLS connection waits for the client's own goodbye; most clients never say it."""


class Newcomer(Protocol):
    """Whoever comes in: the protocol of an MQTT, WebSocket or HTTP connection."""

    @property
    def closed(self) -> CloseReason | None:
        """Not None once it was ended, by itself or by its deadline."""

    def accepted(self, transport: asyncio.Transport, address: str) -> None:
        """The address is known, whoever is there has until the deadline; nothing can be sent or read yet."""

    def entered(self, transport: asyncio.Transport) -> None:
        """The way is through: makes itself the protocol of `transport`."""

    def refused(self, transport: asyncio.Transport, address: str, reason: CloseReason, detail: str = "") -> None:
        """In place of `accepted`: closes the transport and says so."""

    def end(self, reason: CloseReason, detail: str = "") -> None:
        """After `accepted`: ends it and says so."""


class Way(NamedTuple):
    """What stands between a listener and its protocol. `trusted` is None where no balancer is expected."""

    tls: ServerTls | None
    trusted: tuple[Network, ...] | None


class Gate(NamedTuple):
    """A way, and what every arrival there needs."""

    way: Way
    listener: Listener
    patience: Callable[[], float]
    """Seconds for a header, and for a handshake, as they are set now."""
    spawn: Callable[[Coroutine[Any, Any, None], str], None]


class Arrival(asyncio.BufferedProtocol):
    """One connection on its way in. Forgotten as soon as it is."""

    def __init__(self, gate: Gate, newcomer: Newcomer) -> None:
        self._gate = gate
        self._newcomer = newcomer
        self._transport: asyncio.Transport
        self._peer = ""
        self._header: ProxyHeader | None = None
        self._buffer = bytearray(_FIRST_READ)
        self._hello = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = address_of(transport)
        trusted = self._gate.way.trusted
        if trusted is None:
            self._transport.pause_reading()
            self._enter(self._peer)
        elif not self._gate.listener.acquire():
            self._newcomer.refused(self._transport, self._peer, CloseReason.TOO_MANY_CONNECTIONS)
        elif not _within(transport.get_extra_info("peername"), trusted):
            self._refuse(CloseReason.UNTRUSTED_BALANCER)
        else:
            self._header = ProxyHeader()
            self._buffer = bytearray(self._header.wanted)
            self._deadline = asyncio.get_running_loop().call_later(self._gate.patience(), self._too_late)

    # The header

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for what is still missing of the header, and not for a byte behind it."""
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        header = self._header
        if header is None:
            self._hello += self._buffer[:nbytes]
            self._transport.pause_reading()  # in `connection_made` uvloop does not heed it
            return
        try:
            header.feed(self._buffer[:nbytes])
        except ProxyHeaderError as error:
            self._refuse(CloseReason.BAD_PROXY_HEADER, str(error))
            return
        if not header.complete:
            self._buffer = bytearray(header.wanted)
            return
        self._transport.pause_reading()
        self._give_place_back()
        source = header.source
        self._enter(self._peer if source is None else f"{source.host}:{source.port}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._header is not None:
            self._refuse(CloseReason.CLIENT_VANISHED, str(exc) if exc else "")

    def _too_late(self) -> None:
        self._refuse(CloseReason.CONNECT_TIMEOUT, "no PROXY header")

    def _refuse(self, reason: CloseReason, detail: str = "") -> None:
        self._give_place_back()
        self._newcomer.refused(self._transport, self._peer, reason, detail)

    def _give_place_back(self) -> None:
        """From here on the newcomer itself counts, as the address that it really has."""
        self._header = None
        self._gate.listener.release()
        if self._deadline is not None:
            self._deadline.cancel()

    # Through the door, and TLS

    def _enter(self, address: str) -> None:
        newcomer, tls = self._newcomer, self._gate.way.tls
        newcomer.accepted(self._transport, address)
        if newcomer.closed is not None:
            return
        if tls is None:
            newcomer.entered(self._transport)
            self._transport.resume_reading()
        else:
            self._gate.spawn(self._handshake(tls.context), "TLS handshake")

    async def _handshake(self, context: ssl.SSLContext) -> None:
        newcomer, early = self._newcomer, _Early()
        try:
            transport = await self._upgrade(early, context)
        except ssl.SSLError as error:
            newcomer.end(CloseReason.TLS_FAILED, (error.reason or type(error).__name__).replace("_", " ").lower())
            return
        except ConnectionAbortedError:
            newcomer.end(CloseReason.CONNECT_TIMEOUT, "TLS handshake not finished")
            return
        except OSError as error:
            newcomer.end(CloseReason.CLIENT_VANISHED, str(error))
            return
        # a peer that has left in the middle of the handshake does not make start_tls raise
        if transport is None or transport.get_extra_info("ssl_object") is None or early.lost:
            newcomer.end(CloseReason.CLIENT_VANISHED)
        elif newcomer.closed is not None:
            transport.abort()
        else:
            newcomer.entered(transport)
            protocol = cast("asyncio.Protocol", transport.get_protocol())
            for data in early.received:
                protocol.data_received(data)

    async def _upgrade(self, early: _Early, context: ssl.SSLContext) -> asyncio.Transport | None:
        upgrade = asyncio.ensure_future(
            asyncio.get_running_loop().start_tls(
                self._transport,
                early,
                context,
                server_side=True,
                ssl_handshake_timeout=self._gate.patience(),
                ssl_shutdown_timeout=SHUTDOWN_PATIENCE,
            )
        )
        # After one turn of the loop the TLS machine is the protocol of the transport, after two it knows it, and in the
        # same turn, before anything more is read, it gets what was read already.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        size = len(self._hello)
        if size and not upgrade.done():
            machine = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
            memoryview(machine.get_buffer(size))[:size] = self._hello
            machine.buffer_updated(size)
        return await upgrade


class _Early(asyncio.Protocol):
    """Keeps what the client says in the same breath as the end of its handshake: at most what one read brings."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.received.append(bytes(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def address_of(transport: asyncio.BaseTransport) -> str:
    """The other end, as HOST:PORT."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "local")


def _within(peer: object, networks: tuple[Network, ...]) -> bool:
    if not isinstance(peer, tuple):
        return False
    address = ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
