"""Acknowledgements leave in the order of the PUBLISHes they answer [MQTT-4.6.0-2], [MQTT-4.6.0-3], whatever commits
first.

Pure. One `AckQueue` per connection: what waits in it is never acknowledged if the connection ends before, so the client
keeps the message and sends it again.
"""

from __future__ import annotations

from collections import deque


class AckSlot:
    """The place of one PUBLISH in the order of acknowledgements. `wire` is its PUBACK or PUBREC, empty for QoS 0.

    Made to be inherited from, so that a PUBLISH under way is its own place.
    """

    __slots__ = ("settled", "wire")

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.settled = False


class AckQueue:
    """The PUBLISHes of one connection that wait for their acknowledgement, oldest first."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[AckSlot] = deque()

    def __len__(self) -> int:
        return len(self._slots)

    def open(self, wire: bytes) -> AckSlot:
        """Takes the next place. Its acknowledgement leaves once it and all places before it are settled."""
        slot = AckSlot(wire)
        self._slots.append(slot)
        return slot

    def settle(self, slot: AckSlot, out: list[bytes]) -> None:
        """The PUBLISH is safe, or rejected: it may be acknowledged as soon as its turn comes. Settling twice is
        harmless."""
        slot.settled = True
        slots = self._slots
        while slots and slots[0].settled:
            wire = slots.popleft().wire
            if wire:
                out.append(wire)

    def join(self, slot: AckSlot) -> None:
        """`open` for a slot that the caller has made."""
        self._slots.append(slot)

    def at_once(self, wire: bytes, out: list[bytes]) -> None:
        """Acknowledges a PUBLISH that needs no waiting, in its turn."""
        if self._slots:
            self.open(wire).settled = True
        elif wire:
            out.append(wire)
