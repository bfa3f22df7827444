"""The sending half of a transfer: parcels wait in order, become frames, and each frame takes a number. Pure."""

from __future__ import annotations

from collections import deque

import msgspec

from aldis.bridge.frames import ALL, Beat, Draft, Note, Seal, TransferFigures
from aldis.broker.cluster_ports import AnyParcel, WakeUp

MAX_TARGETS = 256
"""Nodes whose last number is remembered. It is many more than there are at a time; names may come and go."""

SMALLEST_FRAME = 1_024
"""Bytes. A smaller `max_frame_size` is refused: the head of a frame alone has some two hundred."""

_HEAD = 256
_NOTE = 32
_ENTRY = 11  # of `stands`, beside the name


class _Batch:
    """What will be one frame."""

    __slots__ = ("notes", "parcels", "room", "size", "target")

    def __init__(self, target: str, room: int) -> None:
        self.target = target
        self.room = room
        self.size = 0
        self.parcels: list[msgspec.Raw] = []
        self.notes: list[Note] = []


class Outbound:
    """Frames to one node keep the order of `add`, and so do those to it and those to all among each other: a parcel for
    all closes what is being filled for single nodes, and the other way round.

    No frame is larger than `max_frame_size` bytes, and not more than `max_waiting_bytes` wait, all targets together.
    A parcel that is dropped uses up a number, so its receiver finds something missing.
    """

    def __init__(
        self,
        node: str,
        incarnation: int,
        seal: Seal,
        figures: TransferFigures,
        *,
        max_frame_size: int,
        max_waiting_bytes: int,
    ) -> None:
        if max_frame_size < SMALLEST_FRAME:
            raise ValueError(f"a frame must be allowed at least {SMALLEST_FRAME} bytes")
        self.told = 0
        """The last number to all."""
        self.waiting_bytes = 0
        self._node = node
        self._incarnation = incarnation
        self._seal = seal
        self._figures = figures
        self._max_frame_size = max_frame_size
        self._max_waiting_bytes = max_waiting_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._numbers: dict[str, int] = {}  # by node, that used longest ago first
        self._names_size = 0
        self._floor = 0
        self._waiting: deque[_Batch] = deque()
        self._filling: dict[str, _Batch] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, target: str, parcel: AnyParcel) -> None:
        """Never raises: what cannot be encoded is dropped like what is too large."""
        try:
            raw = self._encode(parcel)
            room = self._room(target)
            if len(raw) > room and isinstance(parcel, WakeUp) and parcel.items:
                # the hint alone is worth sending: the receiver reads the items from the store
                raw = self._encode(WakeUp(parcel.user, parcel.head))
                self._figures.emptied += 1
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
            self._lose(target)
            return
        if len(raw) > room or self.waiting_bytes + len(raw) > self._max_waiting_bytes:
            self._lose(target)
            return
        self._fill(target, len(raw)).parcels.append(msgspec.Raw(raw))

    def note(self, target: str, note: Note) -> None:
        if self.waiting_bytes + _NOTE <= self._max_waiting_bytes:
            self._fill(target, _NOTE).notes.append(note)

    def next(self, now: int) -> tuple[str, bytes] | None:
        """Target and bytes of the frame that is to be sent first; None if nothing waits."""
        if not self._waiting:
            return None
        batch = self._waiting.popleft()
        if self._filling.get(batch.target) is batch:
            del self._filling[batch.target]
        self.waiting_bytes -= batch.size
        self._figures.parcels_sent += len(batch.parcels)
        return batch.target, self._frame(batch.target, now, batch.parcels, [*batch.notes])

    def at_once(self, note: Note, now: int) -> bytes:
        """A frame to all that goes ahead of whatever waits: a heartbeat, a good-bye."""
        return self._frame(ALL, now, [], [note])

    def beat(self, moment: float, now: int) -> bytes:
        return self.at_once(Beat(moment), now)

    def drop_waiting(self) -> None:
        """Nothing waits any more; everybody for whom something did finds a number missing."""
        for batch in self._waiting:
            self._figures.dropped += len(batch.parcels)
            self._take_number(batch.target)
        self._waiting.clear()
        self._filling.clear()
        self.waiting_bytes = 0

    def _fill(self, target: str, size: int) -> _Batch:
        batch = self._filling.get(target)
        if batch is None or batch.size + size > batch.room:
            if target == ALL:
                self._filling.clear()
            else:
                self._filling.pop(ALL, None)
            batch = self._filling[target] = _Batch(target, self._room(target))
            self._waiting.append(batch)
        batch.size += size
        self.waiting_bytes += size
        return batch

    def _room(self, target: str) -> int:
        """For the parcels of one frame, in bytes."""
        names = self._names_size if target == ALL else 0
        return max(0, self._max_frame_size - _HEAD - names)

    def _frame(self, target: str, now: int, parcels: list[msgspec.Raw], notes: list[Note]) -> bytes:
        number = self._take_number(target)
        stands = self._numbers if target == ALL else {ALL: self.told}
        data = self._seal.closed(Draft(self._node, self._incarnation, target, number, stands, now, parcels, notes))
        self._figures.frames_sent += 1
        self._figures.bytes_sent += len(data)
        return data

    def _lose(self, target: str) -> None:
        self._figures.dropped += 1
        self._take_number(target)

    def _take_number(self, target: str) -> int:
        if target == ALL:
            self.told += 1
            return self.told
        last = self._numbers.pop(target, None)
        if last is None:
            last = self._floor
            self._names_size += len(target.encode()) + _ENTRY
        self._numbers[target] = last + 1
        if len(self._numbers) > MAX_TARGETS:
            # Should the forgotten one come back, its numbers must not begin below what it has seen of this process.
            forgotten = next(iter(self._numbers))
            self._floor = max(self._floor, self._numbers.pop(forgotten))
            self._names_size -= len(forgotten.encode()) + _ENTRY
        return last + 1
