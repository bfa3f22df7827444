"""A scripted MQTT server: a real socket, and a test that decides packet by packet what it answers."""

import json
import socket
from dataclasses import dataclass

import pytest

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xE0


@dataclass
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self):
        if self.kind == PUBLISH:
            start = 2 + int.from_bytes(self.body[:2], "big")
            return int.from_bytes(self.body[start : start + 2], "big")
        return int.from_bytes(self.body[:2], "big")

    @property
    def topic(self):
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()

    @property
    def document(self):
        return json.loads(self.body[4 + int.from_bytes(self.body[:2], "big") :])


class Connection:
    """The server's end of one client's connection."""

    def __init__(self, connection):
        self._socket = connection
        self._socket.settimeout(5)
        self._file = connection.makefile("rb")

    def receive(self, kind=None):
        """The next packet, None at the end of the stream; fails if it is not of `kind`."""
        head = self._file.read(1)
        if not head:
            return None
        length, shift = 0, 0
        while True:
            byte = self._file.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        packet = Packet(head[0] & 0xF0, head[0] & 0x0F, self._file.read(length))
        assert kind is None or packet.kind == kind, packet
        return packet

    def send(self, head, body):
        length, encoded = len(body), b""
        while True:
            length, digit = divmod(length, 128)
            encoded += bytes([digit | (128 if length else 0)])
            if not length:
                break
        self._socket.sendall(bytes([head]) + encoded + body)

    def greet(self, *, code=0, resumed=False, granted=1):
        """Answers CONNECT and SUBSCRIBE; returns the two packets."""
        connect = self.receive(CONNECT)
        self.send(0x20, bytes([resumed, code]))
        if code:
            return connect, None
        subscribe = self.receive(SUBSCRIBE)
        self.send(0x90, subscribe.body[:2] + bytes([granted]))
        return connect, subscribe

    def publish(self, topic, document, *, qos=0, packet_id=1):
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        name = topic.encode()
        number = packet_id.to_bytes(2, "big") if qos else b""
        self.send(PUBLISH | qos << 1, len(name).to_bytes(2, "big") + name + number + payload)

    def acknowledge(self, packet):
        self.send(PUBACK, packet.packet_id.to_bytes(2, "big"))

    def close(self):
        self._file.close()
        self._socket.close()


class ScriptedBroker:
    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._connections = []

    @property
    def address(self):
        return self._listener.getsockname()

    def accept(self):
        connection = Connection(self._listener.accept()[0])
        self._connections.append(connection)
        return connection

    def close(self):
        for connection in self._connections:
            connection.close()
        self._listener.close()


@pytest.fixture
def broker():
    broker = ScriptedBroker()
    yield broker
    broker.close()
