"""Connections that someone else accepted, through amqtt's reader and writer adapters (`Broker.external_connected`)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter

from aldis.broker.connection import Connection

_MAX_LENGTH_BYTES = 4
_CLOSE_PATIENCE = 1.0
"""Seconds that closing may take; after that, whoever accepted the connection has to let go of it."""


class AdapterTransport:
    """Reads whole packets from a reader adapter into a `Connection` and is the transport for what it writes."""

    def __init__(self, reader: ReaderAdapter, writer: WriterAdapter, connection: Connection) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = connection
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._written = asyncio.Event()
        self._undrained = 0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serves the connection until it ends."""
        peer = self._writer.get_peer_info()
        self._connection.begin(self, f"{peer[0]}:{peer[1]}" if peer else "external")
        tasks = [asyncio.ensure_future(work) for work in (self._read(), self._drain(), self._ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._connection.connection_lost(None)
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_PATIENCE):
                    await self._writer.close()

    async def _read(self) -> None:
        try:
            while True:
                await self._may_read.wait()
                packet = await self._packet()
                if not packet:
                    return
                self._connection.data_received(packet)
        except (EOFError, OSError):
            return

    async def _packet(self) -> bytes:
        """Adapters read exactly as much as they are asked for, so a packet is asked for piece by piece."""
        head = await self._reader.read(1)
        if not head:
            return b""
        length = shift = 0
        for _ in range(_MAX_LENGTH_BYTES):
            byte = await self._reader.read(1)
            head += byte
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if not byte[0] & 0x80:
                break
        if len(head) + length > self._connection.node.limits.max_packet_size:
            return head  # enough for the decoder to see that it is too large
        return head + (await self._reader.read(length) if length else b"")

    async def _drain(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            draining = self._undrained
            await self._writer.drain()
            self._undrained -= draining
            if self._connection.congested and self._undrained <= self._limit:
                self._connection.resume_writing()

    @property
    def _limit(self) -> int:
        return self._connection.node.limits.max_write_buffer

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        self._undrained += len(data)
        self._written.set()
        if self._undrained > self._limit and not self._connection.congested:
            self._connection.pause_writing()

    def close(self) -> None:
        self._ended.set()

    def abort(self) -> None:
        self._ended.set()

    def get_write_buffer_size(self) -> int:
        return self._undrained

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def get_extra_info(self, name: str) -> Any:
        """Only what is asked for: the TLS connection that whoever accepted it may have."""
        return self._writer.get_ssl_info() if name == "ssl_object" else None
