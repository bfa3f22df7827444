"""Hostile WebSocket clients, over real sockets."""

from __future__ import annotations

import socket
import time

import pytest

from tests.hostile.conftest import CONNECT_TIMEOUT, Arena, raw
from tests.hostile.recipes import frame, handshake
from tests.wire import ACCEPTED, PINGREQ, PINGRESP, connect, publish

BINARY, TEXT, CLOSE, PING, PONG, CONTINUED = 2, 1, 8, 9, 10, 0


class Peer:
    """A TCP connection that has shaken hands, and then sends what it likes."""

    def __init__(self, arena: Arena, subprotocol: bytes = b"mqtt", behind: bytes = b"") -> None:
        self.socket = raw(arena.server.ws)
        self.socket.sendall(handshake(subprotocol) + behind)
        self._read = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def answer(self) -> bytes:
        """The server's answer to the request."""
        while b"\r\n\r\n" not in self._read:
            data = self.socket.recv(65_536)
            if not data:
                break
            self._read += data
        answer, _, self._read = self._read.partition(b"\r\n\r\n")
        return answer

    def shaken(self) -> Peer:
        assert self.answer().startswith(b"HTTP/1.1 101 ")
        return self

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def take(self, size: int) -> bytes:
        while len(self._read) < size:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError(self._read)
            self._read += data
        found, self._read = self._read[:size], self._read[size:]
        return found

    def mqtt(self, size: int) -> bytes:
        """The next bytes of MQTT, in as many short frames as the server likes."""
        found = b""
        while len(found) < size:
            first, length = self.take(2)
            assert first == 0x82
            found += self.take(length)
        return found

    def expect(self, *frames: bytes) -> None:
        for wanted in frames:
            assert self.take(len(wanted)) == wanted

    def ended(self) -> bytes:
        """Waits for the end of the connection; what was said before it."""
        try:
            while data := self.socket.recv(65_536):
                self._read += data
        except ConnectionError:
            pass
        return self._read


def told(mqtt: bytes) -> bytes:
    """A short frame as the server sends it."""
    return bytes((0x82, len(mqtt))) + mqtt


def connected(arena: Arena) -> Peer:
    peer = Peer(arena).shaken()
    peer.send(frame(BINARY, arena.connect("one")))
    peer.expect(told(ACCEPTED))
    return peer


ENDS = {
    "a text frame": (frame(TEXT, PINGREQ), 1003),
    "a frame without its mask": (frame(BINARY, PINGREQ, masked=False), 1002),
    "reserved bits": (frame(BINARY, PINGREQ, reserved=4), 1002),
    "an unknown opcode": (frame(11, b""), 1002),
    "a continuation of nothing": (frame(CONTINUED, PINGREQ), 1002),
    "a new message within a message": (frame(BINARY, b"\xc0", final=False) + frame(BINARY, PINGREQ), 1002),
    "a fragmented ping": (frame(PING, b"x", final=False), 1002),
    "a ping of 126 bytes": (frame(PING, bytes(126)), 1002),
    "a frame of 4 GiB": (b"\x82\xff" + (2**32).to_bytes(8, "big") + bytes(4), 1009),
    "a frame of 2**63 - 1 bytes": (b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4), 1009),
    "a frame of 2**64 - 1 bytes": (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1009),
    "a fragmented message without end": (
        frame(BINARY, bytes(200_000), final=False) + frame(CONTINUED, bytes(200_000), final=False),
        None,
    ),
    "malformed MQTT": (frame(BINARY, b"\x00\x00"), 1000),
}


@pytest.mark.parametrize(("bad", "code"), ENDS.values(), ids=ENDS)
def test_a_bad_frame_ends_its_connection(arena: Arena, bad: bytes, code: int | None) -> None:
    """With the code of RFC 6455, and nothing behind it is read."""
    with connected(arena) as peer:
        try:
            peer.send(bad, frame(BINARY, PINGREQ))
        except ConnectionError:
            return
        said = peer.ended()
        assert told(PINGRESP) not in said
        if code is not None:
            assert said[0] == 0x88 and int.from_bytes(said[2:4], "big") == code


@pytest.mark.parametrize("subprotocol", [b"chat", b"mqttv3.1", b"MQTT", b"xmqtt"])
def test_a_wrong_subprotocol_is_refused_and_nothing_behind_it_is_read(
    lab: Arena, name: str, subprotocol: bytes
) -> None:
    """Even if its MQTT came in the same segment as the request."""
    watcher = lab.client("watcher").subscribed((name, 0))
    behind = frame(BINARY, connect("one") + publish(name, b"smuggled"))
    with Peer(lab, subprotocol, behind) as peer:
        assert peer.answer().startswith(b"HTTP/1.1 400 ")
        peer.ended()
    watcher.nothing()


BEHIND = {
    "a broken frame": frame(3, b""),
    "a frame without its mask": frame(BINARY, PINGREQ, masked=False),
    "a ping and a broken frame": frame(PING, b"x") + frame(3, b""),
    "a text frame": frame(TEXT, b"x"),
    "a giant frame": b"\x82\xff" + b"\x7f" * 8,
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_a_broken_frame_right_behind_the_request_ends_the_connection_without_a_trace(lab: Arena, behind: bytes) -> None:
    """A fuzzer's finding: it used to raise within the server."""
    with Peer(lab, behind=behind) as peer:
        assert not peer.ended().startswith(b"HTTP/1.1 400")


def test_a_ping_right_behind_the_request_is_answered_after_it(lab: Arena) -> None:
    with Peer(lab, behind=frame(PING, b"early")) as peer:
        assert peer.answer().startswith(b"HTTP/1.1 101 ")
        peer.expect(b"\x8a\x05early")


def test_fragments_of_one_byte_make_a_packet(arena: Arena) -> None:
    with Peer(arena).shaken() as peer:
        mqtt = arena.connect("one") + PINGREQ
        pieces = [frame(CONTINUED, mqtt[i : i + 1], final=False) for i in range(1, len(mqtt))]
        peer.send(frame(BINARY, mqtt[:1], final=False), *pieces, frame(CONTINUED, b""))
        assert peer.mqtt(len(ACCEPTED + PINGRESP)) == ACCEPTED + PINGRESP


def test_empty_fragments_are_nothing(lab: Arena) -> None:
    with connected(lab) as peer:
        peer.send(frame(BINARY, b"", final=False), *[frame(CONTINUED, b"", final=False)] * 5_000)
        peer.send(frame(CONTINUED, PINGREQ))
        peer.expect(told(PINGRESP))


def test_a_flood_of_pings_that_nobody_reads_is_bounded(arena: Arena) -> None:
    """Each is answered; who does not read the answers is not read from any more."""
    with connected(arena) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        before = arena.server.memory()
        flood = frame(PING, bytes(125)) * 1_000
        peer.socket.settimeout(0.3)
        sent = 0
        try:
            while sent < 400:
                peer.socket.sendall(flood)
                sent += 1
        except TimeoutError:
            pass
        assert sent < 400, "50 MB of pings were taken from a client that reads none of the answers"
        assert arena.server.memory() - before < 8_000_000
        arena.bystanders.check()


def test_a_flood_of_pings_whose_answers_are_read_goes_through(arena: Arena) -> None:
    with connected(arena) as peer:
        peer.send(frame(PING, b"x") * 1_000, frame(PONG, b"") * 1_000, frame(BINARY, PINGREQ))
        peer.expect(b"\x8a\x01x" * 1_000, told(PINGRESP))


def test_a_handshake_that_never_ends(lab: Arena) -> None:
    """Not by time, nor by size."""
    endless = raw(lab.server.ws)
    began = time.monotonic()
    endless.sendall(b"GET /mqtt HTTP/1.1\r\n")
    try:
        for number in range(500):
            endless.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1_000))
        assert endless.recv(1) == b""
    except ConnectionError:
        pass
    assert time.monotonic() - began < CONNECT_TIMEOUT
    endless.close()


def test_a_close_is_answered_and_what_came_before_it_counts(lab: Arena, name: str) -> None:
    watcher = lab.client("watcher").subscribed((name, 0))
    with connected(lab) as peer:
        peer.send(frame(BINARY, publish(name, b"last")), frame(CLOSE, b"\x03\xe8"))
        assert peer.ended() == b"\x88\x02\x03\xe8"
    assert watcher.take().payload == b"last"
