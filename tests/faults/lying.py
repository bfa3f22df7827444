"""Lies of a broken server, told by a proxy between stock clients and an honest one (see `tests.integration`).

Each lie names the invariant that must see through it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tests.integration import lying_proxy
from tests.integration.lying_proxy import LyingProxy, Packet

PUBACK = 4


class Liar:
    """Tells one lie, again and again. `told` counts."""

    red: str
    """The invariant that must go red."""

    def __init__(self) -> None:
        self.told = 0
        self._kept: dict[str, Packet] = {}

    def once_in(self, packets: int) -> bool:
        self._seen = getattr(self, "_seen", 0) + 1
        if self._seen % packets == 0:
            self.told += 1
            return True
        return False

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        """What the client gets instead of what the server has said."""
        return [packet]

    def up(self, device: str, packet: Packet) -> tuple[Iterable[bytes], Iterable[bytes]]:
        """What the server gets instead of what the client has said, and what the client is answered."""
        return [packet.raw], []


def _say(packet: Packet, **fields: Any) -> Packet:
    assert packet.document is not None
    return packet.saying({**packet.document, **fields})


class LosesWhatItAcknowledges(Liar):
    red = "everything_arrives"

    def up(self, device: str, packet: Packet) -> tuple[Iterable[bytes], Iterable[bytes]]:
        if packet.kind == "chat" and packet.raw[0] >> 1 & 3 == 1 and self.once_in(30):
            _, start = lying_proxy._length(packet.raw)
            name = start + 2 + int.from_bytes(packet.raw[start : start + 2], "big")
            return [], [bytes([PUBACK << 4, 2]) + packet.raw[name : name + 2]]
        return [packet.raw], []


class DoublesUnderANewNumber(Liar):
    red = "once"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        if packet.kind == "chat" and packet.document is not None and self.once_in(30):
            return [packet, _say(packet, n=packet.document["n"] + 1)]
        return [packet]


class Reorders(Liar):
    """Two items that follow each other change places, numbers and all."""

    red = "no_holes"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        if packet.kind in ("chat", "sync") and device in self._kept:
            return [packet, self._kept.pop(device)]
        if packet.kind == "chat" and self.once_in(25):
            self._kept[device] = packet
            return []
        return [packet]


class SwapsContents(Liar):
    """The server has stored two messages of one sender the wrong way round."""

    red = "one_item_per_number"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        if packet.kind == "chat" and packet.document is not None:
            before = self._kept.get(packet.topic)
            if before is not None and before.document is not None and self.once_in(10):
                own = {key: packet.document[key] for key in ("n", "mid", "ts")}
                return [packet.saying({**before.document, **own})]
            self._kept[packet.topic] = packet
        return [packet]


class ForgesDelivered(Liar):
    red = "delivered_is_true"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        if packet.kind == "receipt" and document is not None and document["type"] == "sent" and self.once_in(20):
            lie = {"type": "delivered", "up_to": document["mid"]}
            return [packet, packet.saying(lie)]
        return [packet]


class ForgesRead(Liar):
    red = "read_is_true"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        if packet.kind == "receipt" and document is not None and document["type"] == "delivered" and self.once_in(20):
            return [packet, _say(packet, type="read")]
        return [packet]


class AnswersARepeatWithAnotherMid(Liar):
    red = "one_result_per_id"

    def __init__(self) -> None:
        super().__init__()
        self._answered: set[tuple[str, str]] = set()

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        if packet.kind == "receipt" and document is not None and document["type"] == "sent":
            key = packet.topic, repr(document["id"])
            if document["id"] is not None and key in self._answered:
                self.told += 1
                return [_say(packet, mid=document["mid"] + 1_000_000)]
            self._answered.add(key)
        return [packet]


class AcknowledgesWithoutAnAnswer(Liar):
    red = "answered_before_acknowledged"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        sent = packet.kind == "receipt" and document is not None and document["type"] == "sent"
        return [] if sent and self.once_in(20) else [packet]


class ChangesMessages(Liar):
    red = "unaltered"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        if packet.kind == "chat" and self.once_in(40):
            return [_say(packet, pad="something else")]
        return [packet]


class InventsMessages(Liar):
    red = "unaltered"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        if packet.kind == "chat" and self.once_in(40):
            return [_say(packet, body="ada1/phone>bob1#100000")]
        return [packet]


class TellsStrangers(Liar):
    """What comes for one user is shown to the next one, too."""

    red = "nobody_else"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        before = self._kept.get("")
        if packet.kind == "chat":
            self._kept[""] = packet
            other = before is not None and before.topic.split("/")[1] != packet.topic.split("/")[1]
            if before is not None and other and before.raw[0] >> 1 & 3 == 0 and self.once_in(5):
                return [packet, before]
        return [packet]


class ReceiptsFall(Liar):
    red = "receipts_never_fall"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        if packet.kind == "receipt" and document is not None and document["type"] == "delivered" and self.once_in(20):
            return [packet, _say(packet, up_to=document["up_to"] - 1)]
        return [packet]


class ForgetsReceipts(Liar):
    red = "receipts_arrive"

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        document = packet.document
        if packet.kind == "receipt" and document is not None and document["type"] == "read":
            self.told += 1
            return []
        return [packet]


class Together(Liar):
    """Several liars, each told what those before it have made of a packet."""

    def __init__(self, *liars: Liar) -> None:
        super().__init__()
        self.liars = liars

    def down(self, device: str, packet: Packet) -> Iterable[Packet]:
        packets = [packet]
        for liar in self.liars:
            packets = [told for one in packets for told in liar.down(device, one)]
        return packets

    def up(self, device: str, packet: Packet) -> tuple[Iterable[bytes], Iterable[bytes]]:
        for liar in self.liars:
            said, answered = liar.up(device, packet)
            if said != [packet.raw]:
                return said, answered
        return [packet.raw], []


GANGS: list[tuple[Callable[[], Liar], ...]] = [
    (LosesWhatItAcknowledges, ForgesRead, ChangesMessages),
    (DoublesUnderANewNumber, ForgesDelivered),
    (Reorders, AnswersARepeatWithAnotherMid),
    (SwapsContents, AcknowledgesWithoutAnAnswer, ForgetsReceipts),
    (InventsMessages, ReceiptsFall),
    (TellsStrangers,),
]
"""Liars whose lies do not hide each other: a round takes some seconds."""


class TwoWayLyingProxy(LyingProxy):
    """Looks at what clients say, too."""

    def __init__(self, server: tuple[str, int], liar: Liar) -> None:
        super().__init__(server, liar.down)
        self._liar = liar

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        connect = lying_proxy._read(client)
        if connect is not None:
            server.sendall(connect)
            _, start = lying_proxy._length(connect)
            size = int.from_bytes(connect[start + 10 : start + 12], "big")
            device = connect[start + 12 : start + 12 + size].decode()
            threading.Thread(target=self._talk, args=(device, server, client), daemon=True).start()
            self._listen(device, client, server)
        lying_proxy._shut(client)
        lying_proxy._shut(server)

    def _listen(self, device: str, client: socket.socket, server: socket.socket) -> None:
        while (raw := lying_proxy._read(client)) is not None:
            with self._lock:
                said, answered = self._liar.up(device, _from_client(raw))
            try:
                for one in said:
                    server.sendall(one)
                for one in answered:
                    client.sendall(one)
            except OSError:
                return


def _from_client(raw: bytes) -> Packet:
    """A client's payload need not be JSON."""
    if raw[0] >> 4 != lying_proxy.PUBLISH:
        return Packet(raw)
    _, start = lying_proxy._length(raw)
    end = start + 2 + int.from_bytes(raw[start : start + 2], "big")
    topic = raw[start + 2 : end].decode()
    return replace(Packet(raw), topic=topic, kind=topic.split("/")[2])
