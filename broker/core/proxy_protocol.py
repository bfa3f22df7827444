"""The PROXY protocol, version 2: a balancer says in front of each connection whose it is.

Sixteen bytes, then as many as their last two say: two addresses, then values that are passed over. Read from the
specification by HAProxy, sections 2.2 to 2.2.7.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_BODY = 4_096
"""Bytes after the first sixteen. Addresses take at most 216; certificates and the like that a balancer may add come to
one or two thousand."""

_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _STREAM_4, _STREAM_6, _STREAM_UNIX = 0x00, 0x11, 0x21, 0x31
_FAMILIES = {_UNSPECIFIED: 0, _STREAM_4: 12, _STREAM_6: 36, _STREAM_UNIX: 216}
"""Bytes of the addresses, by family and transport. Datagrams have no business here."""


class ProxyHeaderError(Exception):
    """What came is no header of version 2, or one that we do not take; the connection is of no use."""


class Source(NamedTuple):
    """Whose connection it is, as the balancer saw it."""

    host: str
    port: int


class ProxyHeader:
    """Takes bytes as they come, never more than `wanted`, so that what follows the header is left where it is.

    `complete` once `wanted` is 0. Then `source` is the client, or None where the header names none: the balancer itself
    (LOCAL, a health check) or an address that is no IP address; the connection then counts as the balancer's own.
    """

    __slots__ = ("_received", "source", "wanted")

    def __init__(self) -> None:
        self._received = bytearray()
        self.wanted = _FIXED
        self.source: Source | None = None

    @property
    def complete(self) -> bool:
        return self.wanted == 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Raises `ProxyHeaderError` as soon as it is certain, and `ValueError` for more bytes than wanted."""
        if len(data) > self.wanted:
            raise ValueError("more than was wanted")
        received = self._received
        received += data
        self.wanted -= len(data)
        if received[: len(SIGNATURE)] != SIGNATURE[: len(received)]:
            raise ProxyHeaderError("no PROXY protocol v2 header")
        if self.wanted:
            return
        if len(received) == _FIXED:
            self.wanted = _body_length(received)
        if not self.wanted:
            self.source = _source(received)


def _body_length(fixed: bytearray) -> int:
    command, family = fixed[12], fixed[13]
    length = int.from_bytes(fixed[14:16], "big")
    if command >> 4 != 2:
        raise ProxyHeaderError(f"version {command >> 4} of the PROXY protocol")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"unknown command {command & 0x0F}")
    if length > MAX_BODY:
        raise ProxyHeaderError(f"a header of {length} bytes")
    if command == _PROXY:
        if family not in _FAMILIES:
            raise ProxyHeaderError(f"unknown address family 0x{family:02x}")
        if length < _FAMILIES[family]:
            raise ProxyHeaderError("addresses cut short")
    return length


def _source(header: bytearray) -> Source | None:
    command, family = header[12], header[13]
    if command == _LOCAL:
        return None
    if family == _STREAM_4:
        host, port = struct.unpack_from("!4s4xH", header, _FIXED)
        return Source(str(IPv4Address(host)), port)
    if family == _STREAM_6:
        host, port = struct.unpack_from("!16s16xH", header, _FIXED)
        address = IPv6Address(host)
        return Source(str(address.ipv4_mapped or address), port)
    return None
