"""What breaks the protocol closes the connection, unanswered [MQTT-4.8.0-1]; what came before it has been handled."""

import pytest

from tests.conformance.conftest import Dial
from tests.servers import Aldis
from tests.wire import (
    PINGREQ,
    PINGRESP,
    Client,
    connect,
    packet,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    suback,
    subscribe,
    text,
    unsuback,
    unsubscribe,
)

AFTER_CONNECT = {
    "2.2.1 type 0": b"\x00\x00",
    "2.2.1 type 15": b"\xf0\x00",
    "2.2.1 CONNACK from a client": b"\x20\x02\x00\x00",
    "2.2.1 SUBACK from a client": suback(1, 0),
    "2.2.1 UNSUBACK from a client": unsuback(1),
    "2.2.1 PINGRESP from a client": PINGRESP,
    "2.2.2-2 PUBACK flags": b"\x41" + puback(1)[1:],
    "2.2.2-2 PUBREC flags": b"\x52" + pubrec(1)[1:],
    "3.6.1-1 PUBREL flags": b"\x60" + pubrel(1)[1:],
    "2.2.2-2 PUBCOMP flags": b"\x78" + pubcomp(1)[1:],
    "3.8.1-1 SUBSCRIBE flags": b"\x80" + subscribe(1, ("a", 0))[1:],
    "3.10.1-1 UNSUBSCRIBE flags": b"\xa0" + unsubscribe(1, "a")[1:],
    "2.2.2-2 PINGREQ flags": b"\xc1\x00",
    "3.14.1-1 DISCONNECT flags": b"\xe2\x00",
    "2.2.3 remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "2.3.1-1 PUBLISH 1 with packet id 0": publish("a", qos=1, id=0),
    "2.3.1-1 PUBLISH 2 with packet id 0": publish("a", qos=2, id=0),
    "2.3.1-1 PUBACK with packet id 0": puback(0),
    "2.3.1-1 PUBREC with packet id 0": pubrec(0),
    "2.3.1-1 PUBREL with packet id 0": pubrel(0),
    "2.3.1-1 PUBCOMP with packet id 0": pubcomp(0),
    "2.3.1-1 SUBSCRIBE with packet id 0": subscribe(0, ("a", 0)),
    "2.3.1-1 UNSUBSCRIBE with packet id 0": unsubscribe(0, "a"),
    "3.3.1-4 QoS 3": packet(0x36, text("a") + b"\0\1x"),
    "3.3.1-2 DUP with QoS 0": publish("a", dup=True),
    "3.3.2 PUBLISH without a topic": packet(0x30, b"\x00"),
    "3.3.2 PUBLISH with a topic longer than itself": packet(0x30, b"\x00\x09abc"),
    "3.3.2 PUBLISH 1 without a packet id": packet(0x32, text("a")),
    "3.3.2 PUBLISH 1 with half a packet id": packet(0x32, text("a") + b"\0"),
    "3.4 PUBACK too short": packet(0x40, b"\1"),
    "3.4 PUBACK too long": packet(0x40, b"\0\1\0"),
    "3.6 PUBREL empty": packet(0x62, b""),
    "3.8.3-3 SUBSCRIBE without a filter": packet(0x82, b"\0\1"),
    "3.8.3-4 SUBSCRIBE with QoS 3": subscribe(1, ("a", 3)),
    "3.8.3-4 SUBSCRIBE with reserved bits": subscribe(1, ("a", 0x81)),
    "3.8.3 SUBSCRIBE without its QoS": packet(0x82, b"\0\1" + text("a")),
    "3.8.3 SUBSCRIBE with a filter longer than itself": packet(0x82, b"\0\1\0\x09a\0"),
    "3.8.3 SUBSCRIBE good and then cut": packet(0x82, b"\0\1" + text("a") + b"\0\0"),
    "3.10.3-2 UNSUBSCRIBE without a filter": packet(0xA2, b"\0\1"),
    "3.10.3 UNSUBSCRIBE cut": packet(0xA2, b"\0\1\0\x05a"),
    "3.12 PINGREQ with a body": packet(0xC0, b"x"),
    "3.14 DISCONNECT with a body": packet(0xE0, b"x"),
}


@pytest.mark.parametrize("bad", AFTER_CONNECT.values(), ids=AFTER_CONNECT)
def test_mqtt_4_8_0_1_after_connect(lab: Aldis, dial: Dial, unique: str, bad: bytes) -> None:
    """The good packet before it is answered, the good one after it is not."""
    client = dial().connected(unique)
    client.send(PINGREQ, bad, PINGREQ)
    assert client.closed() == [PINGRESP]
    lab.logged(f"connection ended: malformed packet.*{unique}")


def with_flags(flags: int, *fields: bytes) -> bytes:
    return packet(0x10, text("MQTT") + bytes((4, flags, 0, 0)) + b"".join(fields))


ME = text("client")

IN_CONNECT = {
    "3.1.2-3 reserved flag": with_flags(0x03, ME),
    "3.1.2-11 will QoS without a will": with_flags(0x0A, ME),
    "3.1.2-15 will retain without a will": with_flags(0x22, ME),
    "3.1.2-14 will QoS 3": with_flags(0x1E, ME, text("t"), text("m")),
    "3.1.2-22 password without a user name": with_flags(0x42, ME, text("secret")),
    "3.1.2-19 user name flag without a user name": with_flags(0x82, ME),
    "3.1.2-21 password flag without a password": with_flags(0xC2, ME, text("user")),
    "3.1.2-9 will flag without a will": with_flags(0x06, ME),
    "3.1.2-9 will topic without a will message": with_flags(0x06, ME, text("t")),
    "3.1.2-18 a user name without its flag": with_flags(0x02, ME, text("user")),
    "3.1.3-1 no client identifier": with_flags(0x02),
    "3.1.3-1 client identifier cut": with_flags(0x02, b"\0\x09abc"),
    "2.2.2-2 CONNECT flags": b"\x11" + connect("client")[1:],
    "3.1.1 nothing": b"\x10\x00",
    "3.1.1 only a name": packet(0x10, text("MQTT")),
    "3.1.2 no keep alive": packet(0x10, text("MQTT") + b"\x04\x02\x00"),
    "no MQTT at all": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nUser-Agent: somebody\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(100),
}


@pytest.mark.parametrize("bad", IN_CONNECT.values(), ids=IN_CONNECT)
def test_mqtt_4_8_0_1_in_connect(dial: Dial, bad: bytes) -> None:
    client = dial()
    client.send(bad, PINGREQ)
    assert client.closed() == []


def test_mqtt_4_8_0_1_the_packets_before_it_have_their_effect(dial: Dial, unique: str) -> None:
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 1))
    client = dial().connected(unique)
    client.send(publish(unique, b"good", qos=1, id=1), b"\x00\x00", publish(unique, b"late", qos=1, id=2))
    assert client.closed() == [puback(1)]
    assert watcher.take().payload == b"good"
    watcher.nothing()


def test_the_others_do_not_notice(lab: Aldis, dial: Dial, unique: str) -> None:
    """A conversation goes on while everything above is thrown at the server from many connections."""
    watcher = dial().connected(f"{unique}-watcher").subscribed((unique, 1))
    sender = dial().connected(f"{unique}-sender")
    for number, bad in enumerate([*AFTER_CONNECT.values(), *IN_CONNECT.values()]):
        client = Client(lab.mqtt)
        client.send(connect("") if number < len(AFTER_CONNECT) else b"", bad)
        sender.published(unique, str(number).encode())
        assert watcher.take().payload == str(number).encode()
        client.close()
