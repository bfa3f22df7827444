"""Clients who take what others need: connections, time, memory. Others must not notice; nothing may grow."""

from __future__ import annotations

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.hostile.conftest import CONNECT_TIMEOUT, Arena, raw, until
from tests.wire import DISCONNECT, PINGRESP, Client, TcpStream, Will, connect, puback, publish, refused

pytestmark = pytest.mark.alone

HALF_OPEN = 2_000


def connections(arena: Arena) -> int:
    """Accepted and open, as the system sees it."""
    return len(psutil.Process(arena.server.process.pid).net_connections("tcp"))


def cpu(arena: Arena) -> float:
    """Seconds of CPU that the server has used."""
    times = psutil.Process(arena.server.process.pid).cpu_times()
    return float(times.user + times.system)


def test_two_thousand_half_open_connections(arena: Arena) -> None:
    """They say nothing. Others are let in and served meanwhile; after the time-out of CONNECT they are all gone."""
    before = connections(arena)
    began = time.monotonic()
    silent = [raw(arena.server.mqtt) for _ in range(HALF_OPEN)]
    try:
        for _ in range(5):
            client = arena.client()
            client.nothing()
            client.disconnect()
        arena.bystanders.check()
        assert until(lambda: connections(arena) <= before + 2, timeout=CONNECT_TIMEOUT + 8)
        assert time.monotonic() - began >= CONNECT_TIMEOUT
        for one in silent[::100]:
            assert one.recv(1) == b""
    finally:
        for one in silent:
            one.close()


def test_a_connect_one_byte_at_a_time_costs_no_more_than_its_bytes(arena: Arena) -> None:
    """200 clients at once who never come to an end: their time runs from the beginning, and the CPU stays idle."""
    wire = arena.connect("one", will=Will(f"{arena.home}/gone", bytes(100)))
    slow = [raw(arena.server.mqtt) for _ in range(200)]
    used, began = cpu(arena), time.monotonic()
    try:
        for at in range(20):
            for one in slow:
                one.sendall(wire[at : at + 1])
            time.sleep(0.02)
        passed = time.monotonic() - began
        arena.bystanders.check()
        assert cpu(arena) - used < max(1.0, 0.8 * passed)  # the bystanders' talk included
        for one in slow:
            assert one.recv(1) == b""
        assert time.monotonic() - began < CONNECT_TIMEOUT + 5
    finally:
        for one in slow:
            one.close()


def trickle(client: Client, wire: bytes) -> None:
    for at in range(len(wire)):
        client.send(wire[at : at + 1])


def test_a_publish_of_200_kib_one_byte_at_a_time_costs_no_more_than_its_bytes(lab: Arena, name: str) -> None:
    """In CPU of the server: as much as twice as many bytes do in small packets that come a byte at a time. Who looked
    at the packet again with every byte would take minutes."""

    def seconds(wire: bytes) -> float:
        client = lab.client()
        used = cpu(lab)
        trickle(client, wire)
        client.expect(puback(7))
        client.close()
        return cpu(lab) - used

    once = publish(f"x/{name}", bytes(20 * 1_024), qos=1, id=7)
    large = publish(f"x/{name}", bytes(200 * 1_024), qos=1, id=7)
    tenth = max(seconds(once), 0.1)
    assert seconds(large) < 40 * tenth
    assert seconds(large) < 20


def test_a_flood_of_wrong_passwords(embedded: Arena) -> None:
    """Answered, closed, forgotten: memory is flat and the bystanders do not wait."""
    person = embedded.person
    assert person is not None

    def attempt(number: int) -> None:
        stream = TcpStream(embedded.server.mqtt)
        with Client(stream) as client:
            client.send(connect(f"d{number}", user=person.user, password=f"wrong{number}" * 20))
            assert client.closed() == [refused(5)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(300)))
        before = embedded.server.memory()
        list(pool.map(attempt, range(300, 1_500)))
    assert embedded.server.memory() - before < 3_000_000
    assert "wrong" not in embedded.server.log.replace("wrong credentials", "")


@pytest.mark.parametrize("end", ["DISCONNECT", "FIN", "RST", "nothing read"])
def test_a_storm_of_connections_leaves_nothing_behind(arena: Arena, end: str) -> None:
    before = connections(arena)
    wire = arena.connect("one")

    def life(_: int) -> None:
        stream = TcpStream(arena.server.mqtt)
        client = Client(stream)
        client.send(wire, DISCONNECT if end == "DISCONNECT" else b"")
        if end == "RST":
            stream.reset()
        elif end != "nothing read":
            client.packet()
        client.close()

    with ThreadPoolExecutor(8) as pool:
        # a session taken over while it is being answered is closed: that, too, is an answer
        futures = [pool.submit(life, number) for number in range(400)]
        for future in futures:
            error = future.exception()
            assert error is None or isinstance(error, AssertionError | ConnectionError), error
    assert until(lambda: connections(arena) <= before), "connections are left behind"
    arena.client("another").nothing()


def test_truncated_connects_that_are_reset_leave_no_place_taken(arena: Arena) -> None:
    before = connections(arena)
    wire = arena.connect("one")[:-2]
    for _ in range(300):
        one = raw(arena.server.mqtt)
        one.sendall(wire)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    assert until(lambda: connections(arena) <= before, timeout=CONNECT_TIMEOUT - 1)


def test_a_hundred_clients_subscribed_to_everything(lab: Arena, name: str) -> None:
    """Each gets everything, in order, while the bystanders talk; one that does not read delays nobody."""
    readers = [lab.client(f"hash{number}") for number in range(100)]
    for reader in readers:
        reader.send(b"\x82\x06\x00\x01\x00\x01#\x00")
        while reader.packet()[0] != 0x90:
            pass
    lazy = [lab.client(f"lazy{number}") for number in range(5)]
    for one in lazy:
        one.send(b"\x82\x06\x00\x01\x00\x01#\x00")
    sender = lab.client("sender")
    wanted = [b"%d" % number for number in range(200)]
    for payload in wanted:
        sender.send(publish(name, payload))
    sender.nothing()

    def read(reader: Client) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < len(wanted):
            one = reader.publication()
            if one.topic == name:
                found.append(one.payload)
        return found

    for reader in readers:
        assert read(reader) == wanted


def test_a_flood_into_a_full_window_is_bounded_and_waits_for_nobody(arena: Arena, name: str) -> None:
    """A client that subscribes and never acknowledges: what it is sent is its window and its queue, no more."""
    topic = f"{arena.home}/{name}"
    deaf = arena.client("deaf").subscribed((topic, 1))
    sender = arena.client("sender")
    before = arena.server.memory()
    for start in range(1, 5_000, 100):
        sender.send(*(publish(topic, bytes(1_000), qos=1, id=id) for id in range(start, start + 100)))
        sender.expect(*map(puback, range(start, start + 100)))
    got = [one for one in deaf.settled() if one[0] >> 4 == 3]
    assert len(got) == 100
    assert arena.server.memory() - before < 12_000_000


def test_many_pings_are_answered_and_delay_nobody(arena: Arena) -> None:
    client = arena.client()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            client.send(b"\xc0\x00" * 2_000)
            for _ in range(2_000):
                assert client.packet() == PINGRESP

    thread = threading.Thread(target=flood)
    thread.start()
    arena.bystanders.check()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
