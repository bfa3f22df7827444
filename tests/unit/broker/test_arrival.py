"""The way in on asyncio's own loop and on uvloop, which read and upgrade each in their own way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network

import pytest
import uvloop

from aldis.broker.arrival import Way
from aldis.broker.tls import ServerTls
from aldis.config.entrance import Tls
from aldis.config.settings import Timeouts
from tests import wire
from tests.secure import Papers, TlsStream, proxied, secure
from tests.unit.broker.lab import ANONYMOUS, Lab, make, until

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[None]], None]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else None) as runner:
        yield runner.run  # type: ignore[misc]


async def behind(papers: Papers, scenario: Callable[[Lab], Awaitable[None]], *, tls: bool, proxy: bool) -> None:
    """The scenario with a lab that has this in front of its listener; afterwards nothing is left of any connection."""
    made = make({ANONYMOUS: {}}, None, Timeouts(connect=0.3))
    settings = Tls(certfile=papers.certfile, keyfile=papers.keyfile)
    made.ways = {"default": Way(ServerTls("k", settings) if tls else None, LOOPBACK if proxy else None)}
    await made.start()
    try:
        await scenario(Lab(made))
        await until(lambda: not made.node.connections)
    finally:
        await made.shutdown()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def conversation(papers: Papers, address: tuple[str, int], before: bytes) -> None:
    for number in range(10):
        with secure(address, papers.context(), before) as client:
            client.send(wire.connect(f"c{number}"), wire.publish("t", b"x" * 100_000, qos=1, id=7))
            client.expect(wire.ACCEPTED, wire.puback(7))
            client.subscribed(("t", 1))
            client.disconnect()


@pytest.mark.parametrize("before", [b"", proxied("203.0.113.7")], ids=["tls", "header and tls"])
def test_whole_conversations(run: Callable[[Awaitable[None]], None], papers: Papers, before: bytes) -> None:
    """CONNECT and a large PUBLISH travel with the end of the handshake."""

    async def scenario(lab: Lab) -> None:
        await asyncio.to_thread(conversation, papers, lab.address, before)

    run(behind(papers, scenario, tls=True, proxy=bool(before)))


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"no TLS at all"])
def test_who_leaves_in_the_middle_of_the_handshake(
    run: Callable[[Awaitable[None]], None], papers: Papers, said: bytes
) -> None:
    """By FIN, by RST, or by staying silent until the time is up."""

    async def scenario(lab: Lab) -> None:
        for end in (wire.TcpStream.close, wire.TcpStream.reset, None):
            stream = wire.TcpStream(lab.address)
            stream.send(said)
            await asyncio.sleep(0.05)
            if end is not None:
                end(stream)
                await until(lambda: not lab.node.connections)
            else:
                assert await asyncio.to_thread(stream.receive, 3) == b""
                stream.close()

    run(behind(papers, scenario, tls=True, proxy=False))


@pytest.mark.parametrize("tls", [False, True])
def test_who_leaves_before_the_header_is_whole(
    run: Callable[[Awaitable[None]], None], papers: Papers, tls: bool
) -> None:
    async def scenario(lab: Lab) -> None:
        header = proxied("203.0.113.7", extra=b"trailing")
        for cut in (0, 1, 15, 16, len(header) - 1):
            for end in (wire.TcpStream.close, wire.TcpStream.reset):
                stream = wire.TcpStream(lab.address)
                stream.send(header[:cut])
                await asyncio.sleep(0.02)
                end(stream)
        await asyncio.sleep(0.1)
        if not tls:
            client = await lab.dial()
            client.send(header)
            await client.connected("c")
            (connection,) = lab.node.connections
            assert connection.address == "203.0.113.7:4711"
            client.close()

    run(behind(papers, scenario, tls=tls, proxy=True))


def test_a_shutdown_ends_handshakes(run: Callable[[Awaitable[None]], None], papers: Papers) -> None:
    async def scenario() -> None:
        made = make({ANONYMOUS: {}}, None, Timeouts(connect=30))
        made.ways = {"default": Way(ServerTls("k", Tls(certfile=papers.certfile, keyfile=papers.keyfile)), None)}
        await made.start()
        silent = wire.TcpStream(Lab(made).address)
        await until(lambda: len(made.node.connections) == 1)
        await made.shutdown()
        assert await asyncio.to_thread(silent.receive, 3) == b""
        silent.close()

    run(scenario())


def test_the_certificate_is_that_of_the_moment(run: Callable[[Awaitable[None]], None], papers: Papers) -> None:
    async def scenario(lab: Lab) -> None:
        tls = lab.connector.ways["default"].tls
        assert tls is not None
        old = await asyncio.to_thread(secure, lab.address, papers.context())
        await asyncio.to_thread(old.connected, "old")
        serial = papers.renew()
        assert tls.reload()
        new = await asyncio.to_thread(TlsStream, lab.address, papers.context())
        assert new.serial == serial
        await asyncio.to_thread(old.nothing)
        new.close()
        old.close()

    run(behind(papers, scenario, tls=True, proxy=False))
