"""What happens at the limits: too many connections or devices, a CONNECT that does not come, readers slow or silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.people import bodies, people
from tests.servers import Aldis, running
from tests.wire import ACCEPTED, PATIENCE, RESUMED, Client, Closed, TcpStream, connect, packet, puback, published, text

pytestmark = pytest.mark.alone

NARROW = {"listeners.default.max_connections": 5, "listeners.websocket.max_connections": 2, "timeouts.connect": 1}

STRICT = {
    "timeouts.acknowledge": 0.5,
    "timeouts.max_retries": 2,
    "timeouts.hold_back": 1,
    "limits.max_devices_per_user": 3,
    "limits.max_inflight": 20,
}

SLOW = {
    "timeouts.slow_reader": 2,
    "timeouts.acknowledge": 2,  # how often a connection is looked at
    "timeouts.max_retries": 1,
    "limits.max_write_buffer": 65_536,
    "limits.live_buffer": 10,
    "limits.read_batch": 10,
    "limits.max_inflight": 1_000,  # the window is not what holds back
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """The lab profile with places for few, and for a second."""
    with running(tmp_path_factory.mktemp("narrow"), "lab", NARROW) as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("strict"), settings=STRICT) as server:
        yield server


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """Small buffers, and two seconds for a full one."""
    with running(tmp_path_factory.mktemp("slow"), settings=SLOW) as server:
        yield server


# Connections


def connected_at_last(server: Aldis, name: str) -> Client:
    """Tries until there is a place, for two seconds."""
    deadline = time.monotonic() + 2
    while True:
        client = server.tcp()
        client.send(connect(name))
        try:
            client.expect(ACCEPTED)
            return client
        except Closed:
            assert time.monotonic() < deadline, "no place is given back"
            time.sleep(0.02)


def test_one_connection_too_many_is_closed_at_once(narrow: Aldis) -> None:
    """Before and after CONNECT all count; those there go on, and a place that is given back is there again."""
    there = [narrow.tcp() for _ in range(5)]
    for number, client in enumerate(there[:3]):
        client.connected(f"there{number}")
    for _ in range(3):
        with narrow.tcp() as client:
            began = time.monotonic()
            client.send(connect("late"))
            assert client.closed() == []
            assert time.monotonic() - began < 0.9  # not the time-out of CONNECT
    narrow.logged("connection ended: too many connections")  # one line for all of them
    for client in there[:3]:
        client.nothing()
    with narrow.websocket() as other:
        other.connected("a place on another listener")
    there[4].close()
    there[4] = connected_at_last(narrow, "in its place")
    for client in there:
        client.close()


def test_nobody_takes_a_place_for_ever(narrow: Aldis) -> None:
    """Truncated CONNECTs, followed by RST or by nothing, give their places back."""
    for _ in range(20):
        stream = TcpStream(narrow.mqtt)
        stream.send(connect("client")[:-2])
        stream.reset()
    there = [connected_at_last(narrow, f"client{number}") for number in range(5)]
    for client in there:
        client.close()
    silent = [narrow.tcp() for _ in range(5)]
    there = [connected_at_last(narrow, f"client{number}") for number in range(5)]
    for client in [*silent, *there]:
        client.close()


HALF_HEARTED = {
    "nothing": [b""],
    "half a CONNECT": [connect("client")[:9]],
    "a byte now and then": [connect("client", user="u" * 100)[i : i + 1] for i in range(20)],
    "a large CONNECT without an end": [packet(0x10, text("MQTT") + bytes(200_000))[:100_000]],
}


def test_a_connect_must_be_complete_in_time(narrow: Aldis) -> None:
    """One second here, counted from the beginning, however busy the client looks."""
    began = time.monotonic()
    clients = {name: narrow.tcp() for name in HALF_HEARTED}
    for number in range(20):
        for name, client in clients.items():
            client.send(*HALF_HEARTED[name][number : number + 1])
        time.sleep(0.04)
    for client in clients.values():
        assert client.closed() == []
        assert 1.0 <= time.monotonic() - began <= 1.8
        assert "connection ended: no CONNECT in time" in narrow.end_of(client)
        client.close()


def test_the_same_over_websocket(narrow: Aldis) -> None:
    """From the first byte of HTTP to the complete CONNECT."""
    began = time.monotonic()
    half = socket.create_connection(narrow.ws, timeout=PATIENCE)
    half.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")
    with narrow.websocket() as client, half:
        assert half.recv(1_000) == b""
        assert 1.0 <= time.monotonic() - began <= 1.8
        assert client.closed() == []
        assert 1.0 <= time.monotonic() - began <= 1.8


# Devices


def test_too_many_devices(strict: Aldis) -> None:
    """Three here. The fourth is refused its inbox with 0x80, and nothing else; room is made by removing one."""
    (ada,) = people(strict, "ada")
    for name in ("one", "two", "three"):
        ada.online(name).disconnect()
    with ada.dial("four") as four:
        assert four.asked_for((f"inbox/{ada.user}/#", 1), (f"devices/{ada.user}/#", 1)) == [0x80, 0x80]
        assert four.asked_for((f"devices/{ada.user}/#", 1)) == [1]
        strict.logged(f"subscription refused.*at most 3 devices.*{ada.user}")
    ada.online("two").disconnect()  # a known one is always welcome
    ada.rest("DELETE", "/v1/devices/one", device="two")
    ada.online("four").disconnect()


def test_a_client_without_an_identifier_is_no_device(strict: Aldis) -> None:
    (ada,) = people(strict, "ada")
    for _ in range(5):
        with ada.server.tcp() as client:
            client.connected("", user=ada.user, password=ada.token("phone"))
            client.subscribed((f"inbox/{ada.user}/#", 1))
    assert [one["device_id"] for one in ada.rest("GET", "/v1/devices")] == ["phone"]


# Readers


PADDING = "x" * 60_000


def test_a_slow_reader_is_given_no_more_than_its_buffer(slow: Aldis) -> None:
    """24 MB wait for a reader that does not read: in the store, not in memory, and nobody else waits with them. After
    a few seconds its connection is closed; when it comes back and reads, it gets everything, in order."""
    ada, bob, carol = people(slow, "ada", "bob", "carol")
    with ada.online() as sender, carol.online() as other:
        for number in range(1_200):
            sender.say(carol, {"body": number, "padding": PADDING})  # fills the page cache of SQLite (64 MB)
            other.chats(number + 1)
        reader = bob.online(receive_buffer=4_096)
        before = slow.memory()
        slowest = 0.0
        for number in range(400):
            sender.say(bob, {"body": number, "padding": PADDING})
            if number % 10 == 0:
                began = time.monotonic()
                other.say(ada, {"body": number})
                sender.chats(number // 10 + 1)
                slowest = max(slowest, time.monotonic() - began)
        grown = slow.memory() - before
        assert grown < 8_000_000, f"{grown} bytes more than before"
        assert slowest < 1.0, f"a bystander waited for {slowest:.2f} s"
        with reader:
            ended = slow.end_of(reader)  # whichever is full first: its window, or its buffer and the system's
            assert "client does not read" in ended or "deliveries not acknowledged" in ended
    with bob.online() as reader:
        assert bodies(reader.chats(400, timeout=20)) == list(range(400))


def test_a_slow_reader_that_goes_on_in_time_keeps_its_connection(slow: Aldis) -> None:
    ada, bob = people(slow, "ada", "bob")
    with ada.online() as sender, bob.online(receive_buffer=4_096) as reader:
        for number in range(50):
            sender.say(bob, {"body": number, "padding": PADDING})
        time.sleep(1.2)
        assert bodies(reader.chats(50)) == list(range(50))
        assert not any(found.dup for found in reader.journal)


def test_a_slow_reader_of_plain_messages_loses_only_its_own(slow: Aldis) -> None:
    """QoS 0 is dropped for it, never buffered without bound; a reader beside it gets every one."""
    (ada,) = people(slow, "ada")
    topic = f"devices/{ada.user}/x"
    with ada.dial("source") as source, ada.dial("quick") as quick, ada.dial("slow", receive_buffer=4_096) as reader:
        for client in (quick, reader):
            client.subscribed((topic, 0))
        before = slow.memory()
        for number in range(400):
            source.published(topic, number.to_bytes(4, "big") + bytes(60_000))
            assert quick.publication().payload[:4] == number.to_bytes(4, "big")
        assert slow.memory() - before < 4_000_000
        numbers = [int.from_bytes(published(wire).payload[:4], "big") for wire in reader.settled()]
        assert numbers == sorted(numbers) and 0 < len(numbers) < 400
        source.published(topic, b"news")
        assert reader.publication().payload == b"news"


def test_a_silent_reader_is_asked_again_and_then_given_up(strict: Aldis) -> None:
    """Article 8.1: after the acknowledge time-out (0.5 s) everything open comes again with DUP, twice; then the
    connection is closed. Nothing is lost: on reconnect everything is there, and who acknowledges is left alone."""
    ada, bob = people(strict, "ada", "bob")
    with ada.online() as sender, bob.dial(clean=False) as silent:
        silent.subscribed((f"inbox/{bob.user}/chat/+", 1))
        for number in range(5):
            sender.say(bob, {"body": number})
        began = time.monotonic()
        said = [published(wire) for wire in silent.closed(5)]
        assert 1.4 <= time.monotonic() - began <= 3.5
        assert "connection ended: deliveries not acknowledged" in strict.end_of(silent)
        first = said[:5]
        assert bodies(found.document for found in first) == [0, 1, 2, 3, 4]
        assert said == first + 2 * [found._replace(dup=True) for found in first]
        sender.caught_up()
        assert sender.receipts("delivered") == []

        with bob.dial(clean=False, answer=RESUMED) as again:
            assert [again.publication() for _ in first] == [found._replace(dup=True) for found in first]
            again.send(*(puback(found.id) for found in first))
            sender.until(lambda: sender.receipts("delivered"))
            assert sender.receipts("delivered")[-1]["up_to"] == first[-1].document["mid"]
            time.sleep(1.2)
            again.nothing()


def test_a_silent_reader_with_a_clean_session(strict: Aldis) -> None:
    ada, bob = people(strict, "ada", "bob")
    with ada.online() as sender, bob.dial() as silent:
        silent.subscribed((f"inbox/{bob.user}/chat/+", 2))
        for number in range(50):  # more than the window of 20
            sender.say(bob, {"body": number})
        said = silent.closed(5)
        assert len(said) == 3 * 20
    with bob.online() as again:
        found = again.chats(50)
        assert bodies(found) == list(range(50))
        assert not any(one.dup for one in again.journal)
        assert [one["n"] for one in found] == list(range(found[0]["n"], found[0]["n"] + 50))


def test_a_reader_who_acknowledges_one_by_one_is_not_given_up(strict: Aldis) -> None:
    """Slow, but alive: each acknowledgement within the time-out keeps the connection, for longer than silence would."""
    ada, bob = people(strict, "ada", "bob")
    with ada.online() as sender, bob.dial() as tired:
        tired.subscribed((f"inbox/{bob.user}/chat/+", 1))
        for number in range(10):
            sender.say(bob, {"body": number})
        seen = []
        for _ in range(10):
            seen.append(tired.take())
            time.sleep(0.3)
        assert bodies(found.document for found in seen if not found.dup)[:5] == [0, 1, 2, 3, 4]
        tired.settled()
        assert not tired.ended


# Hold-back


def test_a_gap_in_seq_is_held_back_and_then_fails(strict: Aldis) -> None:
    """One second here. What waited is answered `gap`; when the missing one comes in time, all go out in order."""
    ada, bob = people(strict, "ada", "bob")
    with ada.online() as sender, bob.online() as receiver:
        for seq in (3, 2):
            sender.send(sender.chat_packet(bob, {"id": seq, "seq": seq, "body": seq}, id=1_000 - seq))
        sender.caught_up()
        assert sender.acknowledged == [] and sender.receipts("sent") == []
        sender.send(sender.chat_packet(bob, {"id": 1, "seq": 1, "body": 1}, id=999))
        assert bodies(receiver.chats(3)) == [1, 2, 3]
        sender.until(lambda: len(sender.acknowledged) == 3)
        assert [one["id"] for one in sender.receipts("sent")] == [1, 2, 3]
        assert sender.acknowledged == [997, 998, 999]  # PUBACKs in the order of the PUBLISHes [MQTT-4.6.0-2]

        sender.send(sender.chat_packet(bob, {"id": 5, "seq": 5, "body": 5}))
        sender.until(lambda: sender.receipts("failed"), timeout=4)
        assert sender.receipts("failed") == [{"type": "failed", "id": 5, "reason": "gap", "seq": 5}]
        assert sender.say(bob, {"id": 4, "seq": 4, "body": 4})["type"] == "sent"
        assert sender.say(bob, {"id": 5, "seq": 5, "body": 5})["type"] == "sent"
        assert bodies(receiver.chats(5)) == [1, 2, 3, 4, 5]


def test_a_gap_holds_back_a_bounded_number(strict: Aldis) -> None:
    """64 wait for the missing one; what comes on top fails at once. The acknowledgements keep their order."""
    ada, bob = people(strict, "ada", "bob")
    with ada.online() as sender, bob.online() as receiver:
        sender.say(bob, {"seq": 1, "body": 1})
        sender.send(*(sender.chat_packet(bob, {"id": seq, "seq": seq, "body": seq}, id=seq) for seq in range(3, 203)))
        sender.until(lambda: len(sender.receipts("failed")) == 200 - 64, timeout=4)
        assert {one["reason"] for one in sender.receipts("failed")} == {"hold_back_full"}
        assert sender.acknowledged == []
        sender.send(sender.chat_packet(bob, {"id": 2, "seq": 2, "body": 2}, id=2))
        sender.until(lambda: len(sender.acknowledged) == 201)
        assert sender.acknowledged == [*range(3, 203), 2]
        assert bodies(receiver.chats(66)) == list(range(1, 67))
