"""The MQTT control packets as plain records (MQTT 3.1.1 chapter 3)."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class ProtocolLevel(IntEnum):
    """Protocol level byte of CONNECT. 3 is MQTT 3.1 (name `MQIsdp`), which older microcontrollers still speak."""

    MQTT_3_1 = 3
    MQTT_3_1_1 = 4


class Message(msgspec.Struct, gc=False):
    """A PUBLISH, coming in or going out.

    `head` is the encoded packet up to the packet id as it goes out at QoS 1 without DUP and RETAIN, `whole` the encoded
    packet at QoS 0; each is encoded once however many receivers there are (empty until then). The rest is set on inbox
    items only: `n` the number in the inbox (0: a plain message), `mid` the message's id, `peer` whose delivered receipt
    an acknowledgement moves (empty: nobody's), `origin` the device that must not get this copy of its own send.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    head: bytes = b""
    whole: bytes = b""
    n: int = 0
    mid: int = 0
    peer: str = ""
    origin: str = ""


class Will(msgspec.Struct, frozen=True):
    """What to publish when the connection ends without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Connect(msgspec.Struct, frozen=True):
    """CONNECT. `supported` is false for a protocol level that must be refused with return code 1."""

    client_id: str
    clean: bool
    keep_alive: int
    level: int
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    supported: bool = True


class Puback(msgspec.Struct, gc=False):
    packet_id: int


class Pubrec(msgspec.Struct, gc=False):
    packet_id: int


class Pubrel(msgspec.Struct, gc=False):
    packet_id: int


class Pubcomp(msgspec.Struct, gc=False):
    packet_id: int


class Subscribe(msgspec.Struct, frozen=True):
    """SUBSCRIBE: (filter, requested QoS) in the client's order. Filters are UTF-8 checked, not yet valid filters."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    packet_id: int
    filters: tuple[str, ...]


class Pingreq(msgspec.Struct, frozen=True):
    pass


class Disconnect(msgspec.Struct, frozen=True):
    pass


Packet = Message | Connect | Puback | Pubrec | Pubrel | Pubcomp | Subscribe | Unsubscribe | Pingreq | Disconnect
"""Everything a client may send."""
