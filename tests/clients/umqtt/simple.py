"""The calls of MicroPython's `umqtt.simple` that docs/clients.md uses, for CPython, over a real socket."""

import select
import socket
import struct


class MQTTException(Exception):
    pass


class MQTTClient:
    def __init__(self, client_id, server, port=0, user=None, password=None, keepalive=0):
        self._id, self._address, self._keepalive = client_id, (server, port), keepalive
        self._user, self._password = user, password
        self._will = None
        self._packet = 0

    def set_callback(self, callback):
        self._callback = callback

    def set_last_will(self, topic, msg, retain=False, qos=0):
        self._will = (topic, msg, retain, qos)

    def connect(self, clean_session=True):
        self._socket = socket.create_connection(self._address)
        flags, body = 0xC0 | clean_session << 1, _text(self._id)
        if self._will:
            topic, message, retain, qos = self._will
            flags |= 4 | qos << 3 | retain << 5
            body += _text(topic) + _text(message)
        body += _text(self._user) + _text(self._password)
        self._send(0x10, _text("MQTT") + struct.pack(">BBH", 4, flags, self._keepalive) + body)
        answer = self._read(4)
        if answer[3]:
            raise MQTTException(answer[3])
        return answer[2] & 1

    def ping(self):
        self._send(0xC0, b"")

    def publish(self, topic, msg, retain=False, qos=0):
        packet = self._next() if qos else b""
        payload = msg if isinstance(msg, bytes) else msg.encode()
        self._send(0x30 | qos << 1 | retain, _text(topic) + packet + payload)
        while qos and self.wait_msg() != (0x40, packet):
            pass

    def subscribe(self, topic, qos=0):
        packet = self._next()
        self._send(0x82, packet + _text(topic) + bytes([qos]))
        while (answer := self.wait_msg()) is None or answer[0] != 0x90:
            pass
        if answer[1][2] == 0x80:
            raise MQTTException(0x80)

    def check_msg(self):
        if select.select([self._socket], [], [], 0)[0]:
            self.wait_msg()

    def wait_msg(self):
        head = self._read(1)[0]
        length = shift = 0
        while True:
            digit = self._read(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        body = self._read(length)
        if head & 0xF0 != 0x30:
            return head, body
        end = 2 + struct.unpack_from(">H", body)[0]
        qos = head >> 1 & 3
        self._callback(body[2:end], body[end + 2 * bool(qos) :])
        if qos:
            self._send(0x40, body[end : end + 2])
        return None

    def _next(self):
        self._packet = self._packet % 65_535 + 1
        return struct.pack(">H", self._packet)

    def _send(self, head, body):
        length, encoded = len(body), b""
        while True:
            length, digit = divmod(length, 128)
            encoded += bytes([digit | (128 if length else 0)])
            if not length:
                break
        self._socket.sendall(bytes([head]) + encoded + body)

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise OSError(-1)
            data += part
        return data


def _text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(data)) + data
