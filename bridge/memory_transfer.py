"""The in-process twin of the transfer over Redis: the same frames, numbers and heartbeats, over a wire that tests can
hold, cut, and make lose or double what is on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aldis.bridge.framed_transfer import FramedTransfer, TransferLimits
from aldis.bridge.frames import ALL

_AGAIN = 0.02
"""Seconds between two attempts to get on the wire."""


class Wire:
    """Joins transfers of one event loop. What is put on it arrives in a later turn of the loop, in order, at whoever is
    listening then."""

    def __init__(self) -> None:
        self.copies: Callable[[str, bytes], int] | None = None
        """Asked for each frame, with its target: how often it arrives. 0 loses it, 2 doubles it."""
        self._listeners: dict[MemoryTransfer, str] = {}
        self._cut: set[str] = set()
        self._is_cut = self._is_held = False
        self._held: list[tuple[str, bytes]] = []

    def put(self, target: str, data: bytes) -> None:
        """For `target`, a node or `ALL`, from anybody."""
        if self._is_held:
            self._held.append((target, data))
            return
        count = 1 if self.copies is None else self.copies(target, data)
        for _ in range(count):
            asyncio.get_running_loop().call_soon(self._deliver, target, data)

    def cut(self, *nodes: str) -> None:
        """Everybody, or these nodes, lose their link at once, and get no other until `mend`."""
        self._cut.update(nodes)
        self._is_cut = self._is_cut or not nodes
        for transfer, node in [*self._listeners.items()]:
            if self._is_cut or node in self._cut:
                transfer.unlink()

    def mend(self) -> None:
        self._is_cut = False
        self._cut.clear()

    def hold(self) -> None:
        """Nothing arrives, and nobody is told why: links look good, new ones do not come about."""
        self._is_held = True

    def release(self) -> None:
        """What was held arrives now."""
        self._is_held = False
        held, self._held = self._held, []
        for frame in held:
            self.put(*frame)

    def takes(self, transfer: MemoryTransfer) -> bool:
        """Whether the transfer is on the wire from now on."""
        if self._is_cut or self._is_held or transfer.node in self._cut:
            return False
        self._listeners[transfer] = transfer.node
        return True

    def leaves(self, transfer: MemoryTransfer) -> None:
        self._listeners.pop(transfer, None)

    def _deliver(self, target: str, data: bytes) -> None:
        for transfer, node in [*self._listeners.items()]:
            if target in (ALL, node):
                transfer.hear(data)


class MemoryTransfer(FramedTransfer):
    """Keeps `aldis.broker.cluster_ports.Transfer` inside one event loop."""

    def __init__(
        self,
        node: str,
        wire: Wire,
        *,
        key: bytes = b"in-process",
        limits: TransferLimits = TransferLimits(),  # noqa: B008 - immutable
    ) -> None:
        super().__init__(node, key=key, limits=limits)
        self._wire = wire
        self._next_attempt: asyncio.Handle | None = None

    def hear(self, data: bytes) -> None:
        self._arrived(data)

    def unlink(self) -> None:
        """The link is gone; another is looked for."""
        self._wire.leaves(self)
        self._deaf()
        if self._closing is None:
            self._next_attempt = self._loop.call_later(_AGAIN, self._attempt)

    def _start(self) -> None:
        self._next_attempt = self._loop.call_soon(self._attempt)

    def _attempt(self) -> None:
        if self._wire.takes(self):
            self._listening()
        else:
            self._next_attempt = self._loop.call_later(_AGAIN, self._attempt)

    async def _stop(self) -> None:
        if self._next_attempt is not None:
            self._next_attempt.cancel()
        # what is on the wire is in the loop's hands
        self._wire.leaves(self)

    def _tear_down(self) -> None:
        self.unlink()

    def _has_room(self) -> bool:
        return True

    def _carry(self, frames: list[tuple[str, bytes]]) -> None:
        for target, data in frames:
            self._wire.put(target, data)
