"""The PROXY protocol header, version 2: any bytes in any pieces, bounded, and never a byte too many."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.proxy_protocol import MAX_BODY, SIGNATURE, ProxyHeader, ProxyHeaderError, Source

LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, TCP6, UNIX, UDP4 = 0x00, 0x11, 0x21, 0x31, 0x12


def header(command: int, family: int, body: bytes = b"", length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def v4(host: str = "203.0.113.7", port: int = 4711) -> bytes:
    return IPv4Address(host).packed + IPv4Address("10.0.0.1").packed + struct.pack("!HH", port, 8883)


def v6(host: str = "2001:db8::7", port: int = 4711) -> bytes:
    return IPv6Address(host).packed + IPv6Address("::1").packed + struct.pack("!HH", port, 8883)


def read(wire: bytes, sizes: list[int] | None = None) -> tuple[ProxyHeader, bytes]:
    """As a socket is read: never more than is wanted, in pieces of these sizes. What is left comes back."""
    found, position, pieces = ProxyHeader(), 0, list(sizes or [])
    while not found.complete and position < len(wire):
        size = min(pieces.pop(0) if pieces else found.wanted, found.wanted, len(wire) - position)
        found.feed(wire[position : position + size])
        position += size
    return found, wire[position:]


@pytest.mark.parametrize(
    ("wire", "source"),
    [
        (header(PROXY, TCP4, v4()), Source("203.0.113.7", 4711)),
        (header(PROXY, TCP6, v6()), Source("2001:db8::7", 4711)),
        (header(PROXY, TCP6, v6("::ffff:203.0.113.7", 65_535)), Source("203.0.113.7", 65_535)),
        (header(PROXY, UNIX, bytes(216)), None),
        (header(PROXY, UNSPECIFIED), None),
        (header(PROXY, UNSPECIFIED, b"whatever"), None),
        (header(LOCAL, UNSPECIFIED), None),
        (header(LOCAL, TCP4, v4()), None),  # the addresses of LOCAL are discarded
        (header(LOCAL, 0xFF, b"x"), None),  # and so is its family
        (header(PROXY, TCP4, v4() + b"\x04\x00\x02hi" + b"\xee" * 500), Source("203.0.113.7", 4711)),
        (header(PROXY, TCP4, v4() + bytes(MAX_BODY - 12)), Source("203.0.113.7", 4711)),
    ],
)
def test_whose_connection_it_is(wire: bytes, source: Source | None) -> None:
    found, rest = read(wire + b"\x16\x03\x01 the hello behind it")
    assert found.complete
    assert found.source == source
    assert rest == b"\x16\x03\x01 the hello behind it"


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8883\r\n", "no PROXY protocol v2 header"),
        (b"\x10\x0c\x00\x04MQTT", "no PROXY protocol v2 header"),
        (b"\x16\x03\x01\x02\x00", "no PROXY protocol v2 header"),
        (header(0x11, TCP4, v4()), "version 1"),
        (header(0x31, TCP4, v4()), "version 3"),
        (header(0x22, TCP4, v4()), "unknown command 2"),
        (header(PROXY, 0x41, bytes(300)), "unknown address family 0x41"),
        (header(PROXY, UDP4, v4()), "unknown address family 0x12"),
        (header(PROXY, TCP4, v4()[:-1]), "cut short"),
        (header(PROXY, TCP6, v4()), "cut short"),
        (header(PROXY, UNIX, bytes(215)), "cut short"),
        (header(PROXY, TCP4, v4(), length=MAX_BODY + 1), f"a header of {MAX_BODY + 1} bytes"),
        (header(LOCAL, UNSPECIFIED, length=65_535), "a header of 65535 bytes"),
    ],
)
def test_what_is_no_such_header(wire: bytes, complaint: str) -> None:
    for sizes in ([], [1] * len(wire)):
        with pytest.raises(ProxyHeaderError, match=complaint):
            read(wire, sizes)


def test_a_stranger_is_known_by_the_first_wrong_byte() -> None:
    for index in range(len(SIGNATURE)):
        found = ProxyHeader()
        found.feed(SIGNATURE[:index])
        with pytest.raises(ProxyHeaderError):
            found.feed(bytes((SIGNATURE[index] ^ 0x20,)))


def test_never_more_than_it_wants() -> None:
    with pytest.raises(ValueError, match="more than was wanted"):
        ProxyHeader().feed(header(PROXY, TCP4, v4()))


@given(wire=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: SIGNATURE + tail), data=st.data())
def test_any_bytes_in_any_pieces(wire: bytes, data: st.DataObject) -> None:
    """Complete, waiting or refused: the same however the bytes are cut, and what it keeps is bounded."""

    def outcome(sizes: list[int]) -> object:
        try:
            found, rest = read(wire, sizes)
        except ProxyHeaderError as error:
            return str(error)
        assert 0 <= found.wanted <= 16 + MAX_BODY
        return found.complete, found.source, rest

    assert outcome(data.draw(st.lists(st.integers(1, 40), max_size=50))) == outcome([])


@given(
    host=st.ip_addresses(),
    port=st.integers(0, 65_535),
    extra=st.binary(max_size=MAX_BODY - 36),
    behind=st.binary(max_size=50),
    sizes=st.lists(st.integers(1, 100), max_size=100),
)
def test_any_address_comes_back(
    host: IPv4Address | IPv6Address, port: int, extra: bytes, behind: bytes, sizes: list[int]
) -> None:
    body = (v4 if host.version == 4 else v6)(str(host), port)
    found, rest = read(header(PROXY, TCP4 if host.version == 4 else TCP6, body + extra) + behind, sizes)
    plain = host.ipv4_mapped or host if isinstance(host, IPv6Address) else host
    assert found.source == Source(str(plain), port)
    assert rest == behind
