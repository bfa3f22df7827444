"""Stands between a client and an honest MQTT server and changes what the server says, as a broken server would."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

PUBLISH = 3


@dataclass(frozen=True)
class Packet:
    """One packet on its way to a client. `kind` is chat, receipt, sync … for a PUBLISH of an inbox, else empty."""

    raw: bytes
    topic: str = ""
    kind: str = ""
    document: dict[str, Any] | None = None

    def saying(self, document: dict[str, Any]) -> Packet:
        """The same PUBLISH with another payload."""
        _, start = _length(self.raw)
        name = 2 + int.from_bytes(self.raw[start : start + 2], "big")
        header = self.raw[start : start + name + (2 if self.raw[0] & 0x06 else 0)]
        body = header + json.dumps(document).encode()
        return replace(self, raw=self.raw[:1] + _encoded(len(body)) + body, document=document)


Lie = Callable[[str, Packet], Iterable[Packet]]
"""Takes the device (client id) and a packet for it, and gives what the device gets instead."""


class LyingProxy:
    """Listens on a free port while it is entered; each connection is passed on to `server`. The devices in `kept` do
    not hear of it when the server ends their connection."""

    def __init__(self, server: tuple[str, int], lie: Lie, kept: Container[str] = ()) -> None:
        self._server, self._lie, self._kept = server, lie, kept
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def __enter__(self) -> LyingProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._open.append(self._listener)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            _shut(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        connect = _read(client)
        if connect is not None:
            server.sendall(connect)
            _, start = _length(connect)
            size = int.from_bytes(connect[start + 10 : start + 12], "big")
            device = connect[start + 12 : start + 12 + size].decode()
            threading.Thread(target=self._talk, args=(device, server, client), daemon=True).start()
            _copy(client, server)
        _shut(client)
        _shut(server)

    def _talk(self, device: str, server: socket.socket, client: socket.socket) -> None:
        while (raw := _read(server)) is not None:
            with self._lock:
                told = list(self._lie(device, _packet(raw)))
            try:
                for packet in told:
                    client.sendall(packet.raw)
            except OSError:
                break
        if device not in self._kept:
            _shut(client)
        _shut(server)


def _packet(raw: bytes) -> Packet:
    if raw[0] >> 4 != PUBLISH:
        return Packet(raw)
    _, start = _length(raw)
    end = start + 2 + int.from_bytes(raw[start : start + 2], "big")
    topic = raw[start + 2 : end].decode()
    return Packet(raw, topic, topic.split("/")[2], json.loads(raw[end + (2 if raw[0] & 0x06 else 0) :]))


def _read(source: socket.socket) -> bytes | None:
    """One whole packet, None at the end."""
    raw = b""
    while len(raw) < 2 or raw[-1] & 0x80:
        if not (byte := _receive(source, 1)):
            return None
        raw += byte
    length, _ = _length(raw)
    while length:
        if not (part := _receive(source, length)):
            return None
        raw += part
        length -= len(part)
    return raw


def _length(raw: bytes) -> tuple[int, int]:
    """The remaining length, and where the rest starts."""
    length, place = 0, 1
    while True:
        length |= (raw[place] & 0x7F) << 7 * (place - 1)
        place += 1
        if raw[place - 1] < 0x80:
            return length, place


def _encoded(length: int) -> bytes:
    encoded = b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (0x80 if length else 0)])
        if not length:
            return encoded


def _receive(source: socket.socket, size: int) -> bytes:
    try:
        return source.recv(size)
    except OSError:
        return b""


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while data := _receive(source, 65536):
        try:
            sink.sendall(data)
        except OSError:
            return


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
    connection.close()
