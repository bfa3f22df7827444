"""The way out: what the feeds of attached devices send, read from the store, and have acknowledged."""

from __future__ import annotations

import asyncio

from aldis.broker.core.packets import Message
from aldis.broker.device import Device
from aldis.broker.inbox_items import stored_item
from aldis.broker.node import Node
from aldis.broker.ownership import Ownership
from aldis.broker.ports import CursorMove, Delivered, Store, StoreUnavailable, Writer


class Feeding:
    """Moves items from the feeds to the sessions, and cursors to the group commit. `writer` is set by the composition
    root before the first CONNECT."""

    writer: Writer
    ownership: Ownership | None = None
    """Set on a node of a cluster: it delivers only while it is certain that its devices are its own."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self._moved: set[Device] = set()
        self._unread: set[Device] = set()
        node.on_tick.append(self._retry_reads)

    def forget(self, device: Device) -> None:
        """The device is away."""
        self._moved.discard(device)
        self._unread.discard(device)

    def acknowledged(self, device: Device, message: Message) -> None:
        """The device has the item: the cursor follows, and the window has room."""
        device.feed.acknowledged(message.n)
        if device.feed.moved:
            self._note_moved(device)
        if device.feed.buffer or device.feed.sent < device.feed.head:
            self.pump(device)

    def pump(self, device: Device) -> None:
        """Sends what the window takes, but no more at once than one client's buffer holds; reads on where the memory
        ends."""
        feed, session, connection = device.feed, device.session, device.connection
        self._node.touch(connection)
        if self.ownership is not None and not self.ownership.certain():
            self._unread.add(device)  # tried again with the next tick, or as soon as it is certain
            return
        buffer = feed.buffer
        allowance = self._node.limits.max_write_buffer
        figures = self._node.figures
        chats = figures.items["chat"]
        while buffer and not connection.congested:
            if len(session.inflight) >= session.max_inflight and not session.is_reserved(buffer[0].n):
                session.forget_items(buffer[0].n - 1)  # their turn has passed: sent at QoS 0, or no longer wanted
                if session.room <= 0:
                    break
            if allowance <= 0:
                # after this tick's write, which tells whether the client takes it
                asyncio.get_running_loop().call_soon(self._go_on, device)
                break
            message = feed.take()
            allowance -= len(message.payload)
            qos = device.whole if device.whole >= 0 and not message.origin else device.qos(message)
            if qos > 0:
                session.deliver_item(message, qos)
                feed.sent_one(message)
            else:
                if qos == 0:
                    session.deliver(message, 0)
                feed.pass_over()
            if qos >= 0:
                (chats if message.peer else figures.items["sync" if message.origin else "system"])[qos] += 1
        if not connection.congested:
            after = feed.read_from()
            if after is not None:
                self._node.spawn(self._read_on(device, after), "read backlog")
            elif feed.settle():
                session.forget_items()
        if feed.moved:
            self._note_moved(device)

    def _go_on(self, device: Device) -> None:
        if device.connection.device is device:
            self.pump(device)

    async def _read_on(self, device: Device, after: int) -> None:
        user = device.session.user
        try:
            items = await self._store.items(user, after=after, limit=self._node.limits.read_batch)
        except Exception as error:
            device.feed.read_failed()
            if device.connection.device is device:
                self._unread.add(device)
            if not isinstance(error, StoreUnavailable):
                raise  # a defect, to be logged; the device does not wait for ever because of it
            return
        if device.connection.device is device:
            device.feed.loaded([stored_item(user, item) for item in items])
            self.pump(device)

    def _retry_reads(self, _: float) -> None:
        self.go_on()

    def go_on(self) -> None:
        """Tries again what had to wait: for the store, or for certainty."""
        unread, self._unread = self._unread, set()
        for device in unread:
            self.pump(device)

    def _note_moved(self, device: Device) -> None:
        if not self._moved:
            asyncio.get_running_loop().call_later(self._node.timeouts.collect_acknowledgements, self._flush_moves)
        self._moved.add(device)

    def _flush_moves(self) -> None:
        moved, self._moved = self._moved, set()
        for device in moved:
            self.collect(device)

    def collect(self, device: Device) -> None:
        """Hands what the device has acknowledged to the group commit."""
        collected = device.feed.collect()
        if collected is None:
            return
        cursor, delivered = collected
        session, writer = device.session, self.writer
        if not device.session.ephemeral:
            writer.move(CursorMove(session.user, session.device, device.feed.epoch, cursor))
        for peer, mid in delivered.items():
            writer.delivered(Delivered(session.user, peer, mid))
