"""Connections that someone else accepted, through amqtt's reader and writer adapters (`Broker.external_connected`)."""

from __future__ import annotations

import asyncio

from amqtt.adapters import ReaderAdapter, WriterAdapter

from aldis.broker.connection import Connection

_MAX_LENGTH_BYTES = 4


class AdapterTransport:
    """Reads whole packets from a reader adapter into a `Connection` and is the transport for what it writes."""

    def __init__(self, reader: ReaderAdapter, writer: WriterAdapter, connection: Connection) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = connection
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._written = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Serves the connection until it ends."""
        peer = self._writer.get_peer_info()
        self._connection.begin(self, f"{peer[0]}:{peer[1]}" if peer else "external")
        writing = asyncio.ensure_future(self._drain())
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            self._connection.connection_lost(None)
            self._closing = True
            self._written.set()
            await asyncio.gather(reading, writing, return_exceptions=True)
            await self._writer.close()

    async def _read(self) -> None:
        try:
            while not self._closing:
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
        while not self._closing:
            await self._written.wait()
            self._written.clear()
            await self._writer.drain()

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        self._written.set()

    def close(self) -> None:
        self._closing = True
        self._written.set()

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()
