"""Behind a balancer: the PROXY header says whose connection it is, and only a trusted balancer may say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.secure import SIGNATURE, Papers, TlsStream, proxied, secure
from tests.servers import Aldis, running
from tests.wire import Client, TcpStream, WebSocketStream, connect

BALANCED = {
    "timeouts.connect": 1,
    "listeners.default.proxy_protocol": "required",
    "listeners.default.proxy_trusted": '["127.0.0.0/8"]',
    "listeners.default.max_connections": 3,
    "limits.max_connections_per_address": 2,
}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """MQTT without TLS behind a balancer on loopback: three connections, two per address."""
    with running(tmp_path_factory.mktemp("plain"), "lab", BALANCED) as server:
        yield server


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, papers: Papers) -> Iterator[Aldis]:
    """Everything over TLS behind a balancer, HTTP included."""
    places = ("listeners.default", "listeners.websocket", "http")
    settings = {f"{place}.proxy_protocol": "required" for place in places}
    settings |= {f"{place}.proxy_trusted": '["127.0.0.0/8"]' for place in places}
    with running(
        tmp_path_factory.mktemp("tls"), settings={"timeouts.connect": 1} | settings | papers.settings(*places)
    ) as server:
        yield server


def line_about(server: Aldis, address: str, *, since: int = 0) -> str:
    (line,) = server.logged(f"address='{address}'", since=since)
    return line


# Whose connection it is


@pytest.mark.parametrize(("host", "shown"), [("203.0.113.7", "203.0.113.7:4711"), ("2001:db8::7", "2001:db8::7:4711")])
def test_the_address_is_that_of_the_client(plain: Aldis, host: str, shown: str) -> None:
    since = len(plain.log)
    with plain.tcp() as client:
        client.send(proxied(host), connect("c"))  # one segment
        client.expect(b"\x20\x02\x00\x00")
        client.disconnect()
    assert "connection ended: client disconnected" in line_about(plain, shown, since=since)


def test_a_header_one_byte_at_a_time(plain: Aldis) -> None:
    since = len(plain.log)
    with plain.tcp() as client:
        for byte in proxied("203.0.113.8", extra=b"\x04\x00\x05trail") + connect("c"):
            client.send(bytes((byte,)))
            time.sleep(0.002)
        client.expect(b"\x20\x02\x00\x00")
        client.disconnect()
    line_about(plain, "203.0.113.8:4711", since=since)


def test_the_balancer_itself_may_look_whether_we_are_there(plain: Aldis) -> None:
    """LOCAL: a health check, counted as the balancer's own connection."""
    with plain.tcp() as client:
        client.send(proxied(None, extra=b"ignored"))
        client.connected("c")
        client.disconnect()
        assert "client disconnected" in plain.end_of(client)


def test_limits_are_those_of_the_real_address(plain: Aldis) -> None:
    """Two per address here: the third is refused, that of somebody else behind the same balancer is not."""

    def come(host: str) -> Client:
        client = plain.tcp()
        client.send(proxied(host, port=1), connect(f"{host} {time.monotonic()}"))
        return client

    first, second = come("203.0.113.9"), come("203.0.113.9")
    for client in (first, second):
        client.expect(b"\x20\x02\x00\x00")
    since = len(plain.log)
    with come("203.0.113.9") as third:
        assert third.closed() == []
        assert "too many connections" in line_about(plain, "203.0.113.9:1", since=since)
    with come("203.0.113.10") as other:
        other.expect(b"\x20\x02\x00\x00")
    for client in (first, second):
        client.close()


def test_the_header_comes_in_front_of_tls(tls: Aldis, papers: Papers) -> None:
    """In one segment with the ClientHello; in pieces; and the certificate is ours."""
    context = papers.context()
    for number in range(20):
        host, since = f"203.0.113.{100 + number}", len(tls.log)
        with secure(tls.mqtt, context, proxied(host)) as client:
            client.send(connect("c", user="nobody", password="wrong"))
            assert client.closed() == [b"\x20\x02\x00\x05"]
        assert "CONNECT refused" in line_about(tls, f"{host}:4711", since=since)


def test_websocket_and_rest_behind_a_balancer(tls: Aldis, papers: Papers) -> None:
    since = len(tls.log)
    stream = TlsStream(tls.ws, papers.context(), proxied("203.0.113.50"))
    stream.send(b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    stream.send(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
    stream.send(b"Sec-WebSocket-Protocol: mqtt\r\n\r\n")
    assert stream.receive(5).startswith(b"HTTP/1.1 101 ")
    stream.close()
    stream = TlsStream(tls.http, papers.context(), proxied("203.0.113.51"))
    stream.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert stream.receive(5).startswith(b"HTTP/1.1 200 ")
    assert "203.0.113.51" not in tls.log[since:]  # nothing to complain of


# Who is not let in


def test_a_stranger_may_not_say_whose_it_is(tmp_path: Path) -> None:
    settings = BALANCED | {"listeners.default.proxy_trusted": '["10.0.0.0/8", "::1/128"]'}
    with running(tmp_path, "lab", settings) as server, server.tcp() as client:
        client.send(proxied("203.0.113.7"), connect("c"))
        assert client.closed() == []
        assert "connection ended: not from a trusted balancer" in server.end_of(client)
        assert "203.0.113.7" not in server.log


MALFORMED = {
    "MQTT without a header": connect("c"),
    "version 1": b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8883\r\n",
    "a wrong version": SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    "addresses cut short": SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    "far too long": SIGNATURE + b"\x21\x11\xff\xff" + bytes(5_000),
}


@pytest.mark.alone
@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_closes_at_once(plain: Aldis, wire: bytes) -> None:
    with plain.tcp() as client:
        began = time.monotonic()
        client.send(wire)
        assert client.closed() == []
        assert time.monotonic() - began < 0.7
        assert "connection ended: bad PROXY protocol header" in plain.end_of(client)


@pytest.mark.alone
@pytest.mark.parametrize("pieces", [[], [proxied("203.0.113.7")[:20]], [b"\r", b"\n", b"\r"]])
def test_the_header_must_come_in_time(plain: Aldis, pieces: list[bytes]) -> None:
    began = time.monotonic()
    with plain.tcp() as client:
        for piece in pieces:
            client.send(piece)
            time.sleep(0.1)
        assert client.closed() == []
        assert 0.9 <= time.monotonic() - began <= 1.8
        assert "no CONNECT in time" in plain.end_of(client)


def test_who_waits_for_a_header_counts(plain: Aldis) -> None:
    """Three connections here, and their places come back."""
    silent = [plain.tcp() for _ in range(3)]
    with plain.tcp() as late:
        assert late.closed(0.8) == []
        assert "too many connections" in plain.end_of(late)
    for client in silent:
        client.closed()
        client.close()
    for _ in range(5):
        with plain.tcp() as client:
            client.send(SIGNATURE[:5])
            assert isinstance(client.stream, TcpStream)
            client.stream.reset()
    time.sleep(0.2)
    there = []
    for number in range(3):
        there.append(plain.tcp())
        there[-1].send(proxied(f"203.0.113.{20 + number}"))
        there[-1].connected(f"c{number}")
    for client in there:
        client.close()


def test_a_listener_without_a_balancer_is_as_before(plain: Aldis) -> None:
    with Client(WebSocketStream(plain.ws)) as client:
        client.connected("c")
