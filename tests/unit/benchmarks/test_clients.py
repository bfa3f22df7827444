"""The load generator's clients: to which node they go, how they measure, and what they refuse to believe."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from benchmarks.bench import _places
from benchmarks.people import Receiver, Sender
from benchmarks.relay import NUMBER, Publisher, Subscriber, topic
from benchmarks.wire import Client, WireError, open_all, publish_head

ALICE = {"user": "alice", "device": "phone", "token": "t"}
BOB = {"user": "bob", "device": "phone", "token": "t"}


class Wire(asyncio.Transport):
    """What was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


def connected(client: Client) -> Wire:
    wire = Wire()
    client.connection_made(wire)
    wire.written.clear()
    return wire


def delivery(topic_name: str, packet_id: int, payload: bytes) -> bytes:
    return publish_head(topic_name, len(payload)) + packet_id.to_bytes(2, "big") + payload


def chat(n: int, id: int) -> bytes:
    payload = json.dumps({"n": n, "mid": 100 + n, "ts": 1, "id": id, "body": "x"}).encode()
    return delivery("inbox/bob/chat/alice", n, payload)


def test_one_node_has_both_ends() -> None:
    assert _places([1883], spread=False) == _places([1883], spread=True)
    assert _places([1883], spread=False) == {"sender_ports": [1883], "receiver_ports": [1883]}


def test_two_ends_are_never_on_one_node_of_several() -> None:
    assert _places([1, 2], spread=False) == {"sender_ports": [1], "receiver_ports": [2]}
    for nodes in (2, 3, 4):
        ports = list(range(nodes))
        places = _places(ports, spread=True)
        pairs = list(zip(places["sender_ports"], places["receiver_ports"], strict=True))
        assert all(sender != receiver for sender, receiver in pairs)
        assert sorted(places["sender_ports"]) == sorted(places["receiver_ports"]) == ports


async def test_clients_take_the_ports_in_turn() -> None:
    seen: Counter[int] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen[writer.get_extra_info("sockname")[1]] += 1
        await reader.read(1_000)
        writer.write(b"\x20\x02\x00\x00")
        await reader.read()
        writer.close()

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(3)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    clients = [Client(f"client-{number}") for number in range(7)]
    await open_all(clients, "127.0.0.1", ports, at_once=2)
    assert [seen[port] for port in ports] == [3, 2, 2]
    for client in clients:
        client.close()
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_an_arrival_is_measured_from_the_moment_the_message_was_due() -> None:
    sender, receiver = Sender(ALICE, "bob", 10), Receiver(BOB, "alice")
    receiver.time(sender)
    connected(sender)
    connected(receiver)
    sender.say(time.perf_counter() - 60)
    sender.say(time.perf_counter() - 30)
    receiver.data_received(chat(1, 1))
    receiver.latencies = []
    receiver.data_received(chat(2, 2))
    assert receiver.received == 2 and receiver.mid == 102
    assert receiver.latencies == [pytest.approx(30, abs=1)]


async def test_a_repeated_item_is_counted_and_not_measured() -> None:
    sender, receiver = Sender(ALICE, "bob", 10), Receiver(BOB, "alice")
    receiver.time(sender)
    connected(sender)
    connected(receiver)
    sender.say(time.perf_counter())
    receiver.latencies = []
    receiver.data_received(chat(1, 1) * 2)
    assert (receiver.received, receiver.repeats, len(receiver.latencies)) == (1, 1, 1)


async def test_a_missing_item_ends_the_run() -> None:
    receiver = Receiver(BOB, "alice")
    wire = connected(receiver)
    receiver.data_received(chat(1, 1))
    receiver.data_received(chat(3, 3))
    assert receiver.failure and "item 3 after item 1" in receiver.failure
    assert wire.aborted


def relayed(numbers: list[int], payload: int) -> bytes:
    filler = b"." * (payload - NUMBER)
    return b"".join(delivery(topic(0), number + 1, number.to_bytes(NUMBER, "big") + filler) for number in numbers)


@pytest.mark.parametrize("cut", [0, 5], ids=["whole packets", "cut packets"])
async def test_a_relayed_message_is_measured_in_whole_reads_and_cut_ones(cut: int) -> None:
    payload = 32
    publisher, subscriber = Publisher(0, 3, payload), Subscriber(0, payload)
    publisher.due = subscriber.due = []
    connected(publisher)
    connected(subscriber)
    publisher.say(time.perf_counter() - 60)
    publisher.start()  # the two that still fit into its window
    assert publisher.sent == len(publisher.due) == 3
    subscriber.latencies = []
    data = relayed([0, 1, 2], payload)
    subscriber.data_received(data[:cut])
    subscriber.data_received(data[cut:])
    assert subscriber.received == 3
    assert subscriber.latencies == pytest.approx([60, 0, 0], abs=1)


async def test_nothing_is_measured_unless_asked_for() -> None:
    publisher, subscriber = Publisher(0, 2, 32), Subscriber(0, 32)
    connected(publisher)
    connected(subscriber)
    publisher.start()
    subscriber.data_received(relayed([0, 1], 32))
    assert subscriber.received == 2 and subscriber.latencies is None and publisher.due is None


async def test_a_relayed_message_out_of_turn_is_refused() -> None:
    subscriber = Subscriber(0, 32)
    connected(subscriber)
    with pytest.raises(WireError, match="message 1 where 0 was due"):
        subscriber.arrived(topic(0).encode(), (1).to_bytes(NUMBER, "big"))
