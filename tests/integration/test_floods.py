"""Floods against `aldis up` with small budgets: of connections, of wrong passwords, of messages; and too little memory.

What happens at each limit in detail is held by `tests/unit/broker/test_door.py` and `test_bounds.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.people import Bystanders, bodies, people
from tests.servers import Aldis, RestError, running
from tests.wire import Client, TcpStream, connect, refused

pytestmark = pytest.mark.alone

SETTINGS = {
    "limits.connection_burst_per_address": 60,
    "limits.connections_per_second_per_address": 40,
    "limits.failed_connect_burst_per_address": 20,
    "limits.failed_connects_per_minute_per_address": 600,
    "limits.failed_connect_burst_per_user": 5,
    "limits.failed_connects_per_minute_per_user": 6,
    "limits.publish_burst": 50,
    "limits.publishes_per_second": 100,
}


@pytest.fixture(scope="module")
def thrifty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("thrifty"), settings=SETTINGS) as server:
        yield server


def dial_from(server: Aldis, host: str) -> Client:
    """From another address of this machine: all of 127.0.0.0/8 is ours."""
    return Client(TcpStream(server.mqtt, source=host))


def test_a_flood_of_connections_is_turned_away_and_logged_once(thrifty: Aldis) -> None:
    bystanders, written = Bystanders(thrifty), len(thrifty.log)
    answered = 0
    for _ in range(400):
        with dial_from(thrifty, "127.0.0.7") as client:
            client.send(connect("c", user="nobody", password=""))
            answered += bool(client.closed())
    assert 60 <= answered < 200
    thrifty.logged("connection ended: too many connections in a short time", since=written)
    assert thrifty.log.count("127.0.0.7", written) <= 25  # 20 that failed, and one line for each flood
    bystanders.check()
    bystanders.end()


def test_a_flood_of_wrong_passwords_locks_out_neither_the_user_nor_the_node(thrifty: Aldis) -> None:
    """From the guesser's address nobody is heard for a while, and the answer is 3: come back later. From her own
    address, which has not failed, the user connects as ever. An answer unread costs the node next to nothing."""
    (ada,) = people(thrifty, "ada")
    right = ada.token("phone")

    def attempt(host: str, password: str) -> bytes:
        with dial_from(thrifty, host) as client:
            client.send(connect("phone", user=ada.user, password=password))
            return client.packet()

    answers = [attempt("127.0.0.8", "wrong") for _ in range(40)]
    assert answers[:5] == [refused(5)] * 5
    assert answers[5:] == [refused(3)] * 35
    assert attempt("127.0.0.8", right) == refused(3)
    assert attempt("127.0.0.9", right) == b"\x20\x02\x00\x00"


def test_a_user_who_publishes_too_much_is_slowed_down_and_then_told(thrifty: Aldis) -> None:
    """50 at once and 100 a second: what a patient client sends is all taken, in order, only later. Who sends everything
    at once is told `rate` about what was beyond a second burst; the others' conversation goes on."""
    bystanders = Bystanders(thrifty)
    ada, bob = people(thrifty, "ada", "bob")
    with ada.online() as sender, bob.online() as receiver:
        began = time.monotonic()
        for number in range(150):
            assert sender.say(bob, {"body": number})["type"] == "sent"
        assert 0.7 < time.monotonic() - began < 5
        time.sleep(0.6)
        sender.send(*(sender.chat_packet(bob, {"id": number, "body": number}) for number in range(150, 450)))
        sender.until(lambda: len(sender.acknowledged) == 300)
        failed = sender.receipts("failed")
        assert {one["reason"] for one in failed} == {"rate"}
        assert 150 <= len(failed) <= 200
        taken = 300 - len(failed)
        assert bodies(receiver.chats(150 + taken)) == list(range(150 + taken))
        assert [one["id"] for one in failed] == list(range(150 + taken, 450))
    bystanders.check()
    bystanders.end()


def test_above_the_memory_mark_the_node_is_not_ready(tmp_path: Path) -> None:
    """It takes nobody new, and says so; those there are served on."""
    with running(tmp_path / "look") as server:
        used = psutil.Process(server.process.pid).memory_info().rss
    with running(tmp_path / "mark", settings={"limits.memory_high_water": used + 60_000_000}) as server:
        bystanders = Bystanders(server)
        (ada,) = people(server, "ada")
        assert server.rest("GET", "/readyz")
        with ada.dial("filler") as filler:
            for number in range(1_300):
                filler.published(f"devices/{ada.user}/{number}", bytes(60_000), retain=True)
            server.logged("memory above the high-water mark")
            with pytest.raises(RestError, match="high-water mark") as caught:
                server.rest("GET", "/readyz")
            assert caught.value.status == 503
            with server.tcp() as late:
                late.send(connect("late", user=ada.user, password=ada.token("late")))
                assert late.closed() == []
            filler.published(f"devices/{ada.user}/0", b"x")
        bystanders.check()
        bystanders.end()
