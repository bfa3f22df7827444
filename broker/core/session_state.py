"""A persistent session on its way to another node: what it is, told in portions, and made of them again.

Pure. The restored session says to its device, byte for byte, what the exported one would have said: the same packet
ids, the same order, DUP where it belongs [MQTT-4.4.0-1]. Only the bounds are those of the new node: what was under way
stays under way even if its window is smaller, and what its queue does not take is dropped by its rule.

A session may be larger than what one frame between nodes carries, so it travels in portions; which part of it stands in
which portion means nothing, but all of them are needed, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from aldis.broker.core.packets import Message
from aldis.broker.core.session import RELEASED, Exactly, Reserved, Session

PORTION = 262_144
"""Bytes: a quarter of the largest frame between nodes."""

_ENTRY = 40
"""More than the encoding puts around the text and bytes of one entry, and around the portion itself."""


class PublishSent(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A plain message at QoS 1 or 2, not yet acknowledged."""

    packet_id: int
    topic: str
    payload: bytes
    qos: int
    retain: bool


class PubrelSent(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The device has the message, PUBCOMP is outstanding."""

    packet_id: int


class ItemSent(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Inbox item `n`, not yet acknowledged: it stands in the store and comes again under this packet id."""

    packet_id: int
    n: int


class Waiting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A plain message that the device was not sent yet, at the QoS 1 or 2 at which it will be."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Taken(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A QoS 2 PUBLISH of the device, whose message is safe and whose PUBREL has not come. `answer` is the receipt that
    stands in front of each PUBREC: about what went to whom, and its payload."""

    packet_id: int
    answer: tuple[str, bytes] | None = None


UnderWay = PublishSent | PubrelSent | ItemSent
Entry = tuple[str, int] | UnderWay | Waiting | Taken


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """One portion of a session. `subscriptions` are (filter, QoS); `under_way` in the order of first sending; `queue`
    oldest first; `last_id` the packet id given last, the same in every portion."""

    last_id: int
    subscriptions: tuple[tuple[str, int], ...] = ()
    incoming: tuple[Taken, ...] = ()
    under_way: tuple[UnderWay, ...] = ()
    queue: tuple[Waiting, ...] = ()


def export(session: Session, portion: int = PORTION) -> list[SessionState]:
    """The session in at least one portion, each of at most `portion` bytes as MessagePack, or of a single entry that is
    larger alone.

    Left out is what ends with a connection or stands elsewhere: the will, the content of inbox items, and a QoS 2
    PUBLISH of the device that is not safe yet. Its repeat will count as new, and its id tells that it is not.
    """
    portions: list[SessionState] = []
    lists: tuple[list[Entry], ...] = ([], [], [], [])
    left = portion - _ENTRY
    for place, size, entry in _entries(session):
        if size > left and any(lists):
            portions.append(_portion(session, lists))
            lists = ([], [], [], [])
            left = portion - _ENTRY
        lists[place].append(entry)
        left -= size
    portions.append(_portion(session, lists))
    return portions


def _portion(session: Session, lists: Sequence[list[Entry]]) -> SessionState:
    return SessionState(session.last_id, *(tuple(entries) for entries in lists))  # type: ignore[arg-type]


def _entries(session: Session) -> Iterator[tuple[int, int, Entry]]:
    """What there is to tell: the place of its list in a portion, its size in bytes, itself."""
    for filter, qos in session.subscriptions.items():
        yield 0, _size(filter), (filter, qos)
    for packet_id, answer in (session.incoming or {}).items():
        if answer is None:
            yield 1, _ENTRY, Taken(packet_id)
        elif isinstance(answer, tuple):  # anything else is still to become safe
            peer, payload = answer
            yield 1, _size(peer, payload), Taken(packet_id, (peer, payload))
    for packet_id, flight in session.inflight.items():
        if flight is RELEASED:
            yield 2, _ENTRY, PubrelSent(packet_id)
        elif isinstance(flight, Reserved):
            yield 2, _ENTRY, ItemSent(packet_id, flight.n)
        else:
            message = flight.message if isinstance(flight, Exactly) else flight
            assert isinstance(message, Message)
            if message.n:
                yield 2, _ENTRY, ItemSent(packet_id, message.n)
            else:
                qos = 2 if isinstance(flight, Exactly) else 1
                sent = PublishSent(packet_id, message.topic, message.payload, qos, message.retain)
                yield 2, _size(message.topic, message.payload), sent
    for message, qos in session.queue or ():
        waiting = Waiting(message.topic, message.payload, qos, message.retain)
        yield 3, _size(message.topic, message.payload), waiting


def _size(text: str, payload: bytes = b"") -> int:
    return (len(text) if text.isascii() else len(text.encode())) + len(payload) + _ENTRY


def restore(session: Session, portions: Sequence[SessionState]) -> None:
    """Makes a fresh session, whose device is away, what the exported one was. Its queue keeps to its own bounds: what
    does not fit is counted as dropped. The router must be told of the subscriptions."""
    for part in portions:
        session.last_id = part.last_id
        session.subscriptions.update(part.subscriptions)
        for taken in part.incoming:
            session.begin_incoming(taken.packet_id, taken.answer)
        for flight in part.under_way:
            _take_off(session, flight)
        for waiting in part.queue:
            session.enqueue(Message(waiting.topic, waiting.payload, waiting.qos, waiting.retain), waiting.qos)


def _take_off(session: Session, flight: UnderWay) -> None:
    if isinstance(flight, PubrelSent):
        session.inflight[flight.packet_id] = RELEASED
    elif isinstance(flight, ItemSent):
        session.inflight[flight.packet_id] = Reserved(flight.n)
        if session.reserved is None:
            session.reserved = {}
        session.reserved[flight.n] = flight.packet_id
    else:
        message = Message(flight.topic, flight.payload, flight.qos, flight.retain)
        session.inflight[flight.packet_id] = message if flight.qos == 1 else Exactly(message)
