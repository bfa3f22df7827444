"""What clients did and saw: one event each, with a monotonic time, one JSON line each.

An event that says what a client is about to do (`PUBLISHING`, `TAKING`, `READING`) is handed to the kernel before it
does so; a generator that is killed has therefore written whatever a server can know of it. The clock is the machine's,
the same for every process on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class What(StrEnum):
    """The kinds of event, and which fields carry what."""

    RUN = "run"
    """The beginning. `data`: seed, allowances in seconds (`block`, `kick`, `owner`)."""
    DEVICE = "device"
    """A device that will play. `qos` of its subscription; `data`: `clean`, how it sends."""
    FRIENDS = "friends"
    """`user` and `peer` may write to each other, confirmed."""
    FORBIDDING = "forbidding"
    """`user` is about to block or unfriend `peer`."""
    FORBIDDEN = "forbidden"
    """That is confirmed."""
    KICKING = "kicking"
    """`user` is about to revoke its `device`."""
    KICKED = "kicked"
    """That is confirmed."""
    STANDING = "standing"
    """From before this history: the device has had everything up to `n`."""
    FLOOR = "floor"
    """From before this history: devices (`kind` delivered) or the app (`kind` read) of `user` have confirmed messages
    of `peer` up to `up_to`."""
    CONNECTED = "connected"
    """CONNACK 0 on connection `conn` to `node`."""
    SUBSCRIBED = "subscribed"
    """SUBACK for the whole inbox."""
    LOST = "lost"
    """The connection `conn` has ended, or there never was one; `note` says why."""
    PUBLISHING = "publishing"
    """A chat message is handed to the library for the first time: `token` (its body), `to`, `id`, `seq`, `qos`, `sum`.
    `conn` is the connection at that moment."""
    AGAIN = "again"
    """The same message with the same id is handed over once more: after its acknowledgement, or by a restarted app."""
    ACKNOWLEDGED = "acknowledged"
    """PUBACK, or PUBCOMP at QoS 2, for `token`. QoS 0 has none."""
    GOT = "got"
    """An inbox item has come: `kind` chat, sync or system, `peer` the topic's last level, `to` its second, `n`, `mid`,
    `token`, `sum`; for sync, `note` is the sending device."""
    TAKING = "taking"
    """PUBACK or PUBREC for item `n` is about to be sent on `conn`."""
    RECEIPT = "receipt"
    """A receipt: `kind` sent, failed, delivered or read; `peer`; `id`, `mid`, `up_to`; `note` is the reason."""
    READING = "reading"
    """`user` is about to publish that it has read `peer` up to `up_to`."""
    HAS_READ = "has_read"
    """That is acknowledged."""
    FAULT = "fault"
    """`note` begins or ends (`kind`)."""
    QUIET = "quiet"
    """Nothing more is published from now on, and all faults are over."""
    EPOCHS = "epochs"
    """The store's epochs at this time: `data` {user: {device: epoch}}."""
    RESOURCES = "resources"
    """Of one process at rest: `node`, `data`: pid, rss (bytes), descriptors, tasks."""
    STORE = "store"
    """The store's rows at the end: `data`, see `tests.faults.store`."""
    END = "end"
    """All has come to rest, or the time for it is over: then `note` says what is still open."""


class Event(msgspec.Struct, omit_defaults=True):
    t: float
    what: What
    user: str = ""
    device: str = ""
    conn: int = 0
    node: str = ""
    token: str = ""
    to: str = ""
    peer: str = ""
    kind: str = ""
    n: int = 0
    mid: int = 0
    up_to: int = 0
    id: str | int | None = None
    seq: int = 0
    qos: int = 0
    sum: int = 0
    note: str = ""
    data: dict[str, Any] = {}


class Log:
    """Appends events to a file. Several threads and processes may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)

    def note(self, what: What, **fields: Any) -> Event:
        event = Event(time.monotonic(), what, **fields)
        self.write([event])
        return event

    def write(self, events: Iterable[Event]) -> None:
        # one write per event: O_APPEND keeps lines whole, and the kernel has them even if we are killed right after
        for event in events:
            os.write(self._file, self._encoder.encode(event) + b"\n")

    def turn(self, path: Path) -> None:
        """Goes on in another file."""
        file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        os.dup2(file, self._file)
        os.close(file)
        self.path = path

    def close(self) -> None:
        os.close(self._file)


def load(*paths: Path) -> list[Event]:
    """The events of these files in the order of their times. A last line that was cut off is dropped."""
    decoder = msgspec.json.Decoder(Event)
    events = [decoder.decode(line) for path in paths for line in _whole_lines(path)]
    events.sort(key=lambda event: event.t)
    return events


def save(path: Path, events: Iterable[Event]) -> None:
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for event in events:
            file.write(encoder.encode(event) + b"\n")


def _whole_lines(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield from content[: content.rfind(b"\n") + 1].splitlines()
