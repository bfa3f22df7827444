"""The clients of the soak: few of them well behaved. Each role runs until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.servers import HOST
from benchmarks.wire import DISCONNECT, packet, text

Account = dict[str, str]
TOPICS = 20
"""Topics of one user. Few, so that what the server remembers of topics is complete within the first minute."""

done: Counter[str] = Counter()
"""What has happened, for the report."""


def connect(account: Account, *, clean: bool, will: bool) -> bytes:
    user = account["user"]
    flags = 0xC0 | clean << 1 | (0x0C if will else 0)
    body = text("MQTT") + bytes((4, flags)) + struct.pack("!H", 30) + text(account["device"])
    if will:
        body += text(f"devices/{user}/will") + text("gone")
    return packet(0x10, body + text(user) + text(account["token"]))


def subscribe(id: int, *filters: str, qos: int = 1) -> bytes:
    return packet(0x82, id.to_bytes(2, "big") + b"".join(text(one) + bytes((qos,)) for one in filters))


def unsubscribe(id: int, *filters: str) -> bytes:
    return packet(0xA2, id.to_bytes(2, "big") + b"".join(map(text, filters)))


def publish(topic: str, payload: bytes, *, qos: int = 0, id: int = 0, retain: bool = False) -> bytes:
    return packet(0x30 | qos << 1 | retain, text(topic) + (id.to_bytes(2, "big") if qos else b"") + payload)


class Refused(Exception):
    """CONNACK with another code than 0."""


class Link:
    """One connection that acknowledges what comes and counts it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._id = 0
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, port: int, account: Account, *, clean: bool, will: bool = False) -> Link:
        link = cls(*await asyncio.open_connection(HOST, port))
        link._writer.write(connect(account, clean=clean, will=will))
        answer = await link._reader.readexactly(4)
        if answer[3]:
            link._writer.close()
            raise Refused(str(answer[3]))
        link._pump = asyncio.create_task(link._read())
        return link

    def next_id(self) -> int:
        self._id = self._id % 60_000 + 1
        return self._id

    def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                first = (await self._reader.readexactly(1))[0]
                length = shift = 0
                while True:
                    byte = (await self._reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                self._answer(first, await self._reader.readexactly(length))

    def _answer(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == 3:
            done["received"] += 1
            qos, end = first >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
            if qos:
                self.send((b"\x40\x02" if qos == 1 else b"\x50\x02") + body[end : end + 2])
        elif kind == 5:
            self.send(b"\x62\x02" + body[:2])
        elif kind == 6:
            self.send(b"\x70\x02" + body[:2])
        elif kind in (4, 7):
            done["acknowledged"] += 1

    async def close(self, how: str) -> None:
        """`politely` with DISCONNECT, `silently` with FIN, `rudely` with RST."""
        if how == "politely":
            self.send(DISCONNECT)
        elif how == "rudely":
            raw: socket.socket = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._pump is not None:
            self._pump.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def chatter(port: int, me: Account, other: Account) -> None:
    """Stays, writes twenty messages a second, takes what comes."""
    link = await Link.open(port, me, clean=True)
    link.send(subscribe(link.next_id(), f"inbox/{me['user']}/#"))
    number = random.getrandbits(40)
    while True:
        number += 1
        id, body = link.next_id(), json.dumps({"id": number, "body": "x" * 100}).encode()
        link.send(publish(f"inbox/{other['user']}/chat/{me['user']}", body, qos=1, id=id))
        if number % 50 == 0:
            link.send(publish(f"inbox/{other['user']}/typing/{me['user']}", b"{}"), b"\xc0\x00")
        done["chats"] += 1
        await asyncio.sleep(0.05)


async def flapper(port: int, me: Account, other: Account) -> None:
    """Comes and goes: clean or persistent, with or without a will, in each of the three ways to leave."""
    user = me["user"]
    while True:
        link = await Link.open(port, me, clean=random.random() < 0.5, will=random.random() < 0.5)
        filters = [f"devices/{user}/{random.randrange(TOPICS)}/+" for _ in range(3)]
        link.send(subscribe(link.next_id(), f"inbox/{user}/#", *filters, qos=random.randrange(3)))
        for number in range(random.randrange(12)):
            topic = f"devices/{user}/{random.randrange(TOPICS)}/value"
            qos = random.randrange(3)
            link.send(publish(topic, b"v" * 60, qos=qos, id=link.next_id(), retain=number % 3 == 0))
            chat = json.dumps({"id": random.getrandbits(50), "body": "hello"}).encode()
            link.send(publish(f"inbox/{other['user']}/chat/{user}", chat, qos=qos, id=link.next_id()))
        link.send(unsubscribe(link.next_id(), *filters[: random.randrange(1, 4)]))
        await asyncio.sleep(random.random() * 0.3)
        await link.close(random.choice(("politely", "silently", "rudely")))
        done["flaps"] += 1
        await asyncio.sleep(random.random() * 0.1)


async def slow_reader(port: int, me: Account, _other: Account) -> None:
    """Asks for more than it reads, then goes."""
    user = me["user"]
    while True:
        link = await Link.open(port, me, clean=True)
        if link._pump is not None:
            link._pump.cancel()
        link.send(subscribe(link.next_id(), f"devices/{user}/#"))
        for _ in range(60):
            link.send(publish(f"devices/{user}/flood", bytes(10_000), qos=random.randrange(2), id=link.next_id()))
        await asyncio.sleep(3)
        await link.close("rudely")
        done["slow readers"] += 1


async def stranger(port: int, someone: Account, _other: Account) -> None:
    """Wrong passwords, silence, nonsense, half a packet."""
    wrong = someone | {"token": "wrong"}
    while True:
        await asyncio.sleep(0.1)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, Refused):
            await Link.open(port, wrong, clean=True)
        done["failed logins"] += 1
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            good = connect(someone, clean=True, will=True)
            writer.write(random.choice((b"", b"GET / HTTP/1.1\r\n\r\n", good[:9], b"\x30\x05hello", b"\xff" * 50)))
            await asyncio.sleep(0.05)
            writer.close()


async def enduring(role: Callable[[int, Account, Account], Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """The role again whenever its connection breaks; a defect of the role itself ends the soak."""
    while True:
        try:
            await role(*arguments)
        except (OSError, asyncio.IncompleteReadError, Refused) as error:
            done[f"{role.__name__} interrupted: {type(error).__name__}"] += 1
            await asyncio.sleep(0.2)
