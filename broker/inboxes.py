"""The durable side of the connector: publishes go into the group commit, committed items go out through the feeds.

The way of one message: `submit` -> group commit -> `committed` (receipt `sent`, acknowledgement, then the feeds of
every attached device of the recipient) -> `_pump` -> the device's PUBACK -> `acknowledged` -> group commit (cursor,
delivered) -> `committed` (receipt `delivered` to the sender). Nothing here is the only copy of anything: what a feed
does not have in memory it reads from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from aldis.broker.connection import Connection
from aldis.broker.core.envelope import render_delivered, render_read
from aldis.broker.core.feed import Feed
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session import Session
from aldis.broker.core.topics import overlaps
from aldis.broker.device import Device, unaware
from aldis.broker.inbox_items import live_item, published_item, stored_item, sync_item
from aldis.broker.node import Node
from aldis.broker.pipeline import Publication
from aldis.broker.ports import (
    AccessRevoked,
    Announcement,
    Batch,
    Claim,
    Committed,
    CursorMove,
    Delivered,
    Kind,
    NewMessage,
    Read,
    ReceiptState,
    Store,
    StoreUnavailable,
    Writer,
)

logger = logging.getLogger(__name__)

_CHAT = Kind.CHAT
"""Members of an enum are slow to look up, and this one is needed for every message."""


class Inboxes:
    """All attached devices of this node, by user. `writer` is set by the composition root before the first CONNECT."""

    writer: Writer

    def __init__(self, node: Node, store: Store, now_ms: Callable[[], int]) -> None:
        self.node = node
        self.store = store
        self.now_ms = now_ms
        self._attached: dict[str, dict[str, Device]] = {}
        self._known: dict[str, set[str]] = {}
        self._attaching: dict[Connection, asyncio.Future[None]] = {}
        self._moved: set[Device] = set()
        self._unread: set[Device] = set()
        self._state_readings: dict[str, list[set[tuple[str, str]]]] = {}
        self._reads: dict[tuple[str, str], list[tuple[int, Publication]]] = {}
        node.inboxes = self
        node.on_tick.append(self._retry_reads)

    # In: what clients publish

    def submit(self, publication: Publication, recipient: str) -> None:
        """Hands a checked chat message to the group commit; it is acknowledged in `committed`, not before."""
        envelope = publication.envelope
        assert envelope is not None
        publication.waits()
        session = publication.session
        known = self._known.get(session.user, ())
        others = len(known) - (session.device in known)
        self.writer.append(
            NewMessage(
                session.user,
                session.device,
                recipient,
                envelope.content,
                self.now_ms(),
                _CHAT,
                envelope.id,
                envelope.seq,
                others > 0,
                publication,
            )
        )

    def read(self, reader: str, peer: str, up_to: int, publication: Publication) -> None:
        """The app of `reader` has shown everything of `peer` up to this mid; acknowledged when that is committed."""
        self._reads.setdefault((reader, peer), []).append((up_to, publication))
        self.writer.read(Read(reader, peer, up_to))

    # The group commit reports

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Answers the senders, then feeds the receivers, then tells the peers of receipts."""
        touched: dict[Device, None] = {}
        attached = self._attached
        for message, stored in zip(batch.messages, committed.stored, strict=True):
            publication: Publication | None = message.tag  # type: ignore[assignment]
            if publication is not None:
                publication.committed(stored.mid, stored.created)
            if stored.repeated:
                touched.update(unaware(attached, message, stored))
                continue
            devices = attached.get(message.recipient)
            if devices is not None:
                if publication is not None:
                    item = published_item(publication, message, stored.n, stored.mid)
                else:
                    item = live_item(message, stored.n, stored.mid)
                for device in devices.values():
                    device.feed.offer(item)
                    touched[device] = None
            if stored.sync_n is not None:
                devices = attached.get(message.sender)
                if devices is not None:
                    item = sync_item(message, stored.sync_n, stored.mid)
                    for device in devices.values():
                        device.feed.offer(item)
                        touched[device] = None
        for device in touched:
            self._pump(device)
        for move in committed.fenced:
            self._fenced(move)
        if batch.reads or committed.receipts:
            self._report_receipts(batch, committed)

    def _fenced(self, move: CursorMove) -> None:
        device = self._attached.get(move.user, {}).get(move.device)
        if device is not None and device.feed.epoch == move.epoch:
            device.connection.end(CloseReason.TAKEN_OVER, "another owner has claimed the device")

    def _report_receipts(self, batch: Batch, committed: Committed) -> None:
        delivered = {(d.reader, d.peer) for d in batch.delivered}
        read = {(r.reader, r.peer): r.mid for r in batch.reads}
        for state in committed.receipts:
            key = (state.reader, state.peer)
            if key in delivered:
                self._report(state, "delivered", render_delivered(state.delivered))
            if key in read:
                self._report(state, "read", render_read(state.read))
        for key, mid in read.items():
            waiting = self._reads.pop(key, [])
            later = [entry for entry in waiting if entry[0] > mid]
            if later:
                self._reads[key] = later
            for up_to, publication in waiting:
                if up_to <= mid:
                    publication.settle()

    def _report(self, state: ReceiptState, kind: str, payload: bytes) -> None:
        self.node.pass_on("receipt", Message(f"inbox/{state.peer}/receipt/{state.reader}", payload))
        for newer in self._state_readings.get(state.peer, ()):
            newer.add((state.reader, kind))

    # Devices come and go

    def attached(self) -> list[Device]:
        """The devices that take from an inbox now."""
        return [device for devices in self._attached.values() for device in devices.values()]

    async def prepare(self, user: str) -> None:
        """Learns the user's devices before the first publish: who has another one gets copies of what is sent."""
        if user not in self._known:
            devices = await self.store.devices(user)
            self._known.setdefault(user, set()).update(device.device for device in devices)

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self._known.pop(user, None)

    def concerns(self, session: Session) -> bool:
        """Whether any subscription of the session can match an item of its own inbox."""
        kinds = [f"inbox/{session.user}/{kind}/+" for kind in ("chat", "sync", "system")]
        return any(overlaps(filter, kind) for filter in session.subscriptions for kind in kinds)

    async def attach(self, connection: Connection) -> None:
        """Claims the device; nothing is delivered before `start`. Waits while the store is unavailable. Raises
        `TooManyDevices`."""
        session = connection.session
        if session is None or connection.device is not None:
            return
        running = self._attaching.get(connection)
        if running is None:
            # one claim for a connection: the resumed session and the first SUBSCRIBE may both ask for it
            running = self._attaching[connection] = asyncio.ensure_future(self._claim(connection, session))
            running.add_done_callback(lambda _: self._attaching.pop(connection, None))
        await asyncio.shield(running)

    async def _claim(self, connection: Connection, session: Session) -> None:
        while connection.closed is None:
            try:
                await self.writer.flush()  # a cursor move of the last connection must not be fenced by our own claim
                if session.ephemeral:
                    head = await self.store.head(session.user)
                    claim = Claim(0, head, head, created=False)
                else:
                    limit = self.node.limits.max_devices_per_user
                    claim = await self.store.claim(session.user, session.device, now=self.now_ms(), limit=limit)
                break
            except StoreUnavailable:
                await asyncio.sleep(self.node.timeouts.commit_retry)
        else:
            return
        if connection.closed is None and self.concerns(session):  # it may have unsubscribed meanwhile
            self._attach(connection, session, claim)

    def _attach(self, connection: Connection, session: Session, claim: Claim) -> None:
        feed = Feed(self.node.limits.live_buffer)
        feed.attach(epoch=claim.epoch, cursor=claim.cursor, head=claim.head)
        device = Device(connection, session, feed)
        connection.device = device
        self._attached.setdefault(session.user, {})[session.device] = device
        session.forget_items(claim.cursor)
        if claim.created:
            self._known.setdefault(session.user, set()).add(session.device)
            logger.info("new device", extra={"user": session.user, "device": session.device})

    async def start(self, connection: Connection, filters: Iterable[str]) -> None:
        """After the SUBACK: tells how far receipts have come, if these filters ask for them, and begins the backlog."""
        device: Device | None = connection.device
        if device is not None:
            device.subscriptions_changed()
            self._pump(device)
        session = connection.session
        if session is not None and any(overlaps(filter, f"inbox/{session.user}/receipt/+") for filter in filters):
            await self._send_states(connection, session.user)

    async def _send_states(self, connection: Connection, user: str) -> None:
        """How far everyone has come with what the user sent. What is reported live while this is being read is newer
        than what will be read, and a receipt never falls back."""
        newer: set[tuple[str, str]] = set()
        readings = self._state_readings.setdefault(user, [])
        readings.append(newer)
        try:
            states = await self.store.receipts_for(user, limit=self.node.limits.max_receipts_at_connect)
        except StoreUnavailable:
            logger.warning("receipts could not be read at subscribe", extra={"user": user})
            return
        finally:
            readings.remove(newer)
            if not readings:
                self._state_readings.pop(user, None)
        for state in states:
            if state.delivered and (state.reader, "delivered") not in newer:
                connection.receipt(state.reader, render_delivered(state.delivered))
            if state.read and (state.reader, "read") not in newer:
                connection.receipt(state.reader, render_read(state.read))

    def unsubscribed(self, connection: Connection) -> None:
        """Some filters are gone: perhaps the inbox is no longer wanted."""
        session = connection.session
        if session is None:
            return
        device: Device | None = connection.device
        if self.concerns(session):
            if device is not None:
                device.subscriptions_changed()
            return
        self.detach(connection)
        # What was under way stands in the inbox and will come anew; its packet ids would only narrow the window.
        session.reserve_items()
        session.forget_items()

    def detach(self, connection: Connection) -> None:
        """The device is away. What it acknowledged goes into the next commit; the rest waits in its inbox."""
        device: Device | None = connection.device
        if device is None:
            return
        connection.device = None
        self._collect(device)
        self._moved.discard(device)
        self._unread.discard(device)
        device.feed.detach()
        session = device.session
        devices = self._attached.get(session.user, {})
        if devices.get(session.device) is device:
            del devices[session.device]
            if not devices:
                del self._attached[session.user]
        if not device.session.ephemeral:
            quiet = self.node.now - connection.heard
            last_seen = self.now_ms() - int(max(quiet, 0.0) * 1_000)
            self.node.spawn(self._release(session, device.feed.epoch, last_seen), "release")

    async def _release(self, session: Session, epoch: int, last_seen: int) -> None:
        try:
            await self.store.release(session.user, session.device, epoch=epoch, last_seen=last_seen)
        except StoreUnavailable:
            # only `last_seen` is lost; the claim already wrote one
            logger.info("last seen not recorded", extra={"user": session.user, "device": session.device})

    def on_announcement(self, announcement: Announcement) -> None:
        if isinstance(announcement, AccessRevoked) and announcement.device is not None:
            self._known.get(announcement.user, set()).discard(announcement.device)

    # Out: the feeds

    def acknowledged(self, connection: Connection, message: Message) -> None:
        """The device has the item: the cursor follows, and the window has room."""
        device: Device = connection.device
        device.feed.acknowledged(message.n)
        if device.feed.moved:
            self._note_moved(device)
        if device.feed.buffer or device.feed.sent < device.feed.head:
            self._pump(device)

    def drained(self, connection: Connection) -> None:
        self._pump(connection.device)

    def _pump(self, device: Device) -> None:
        """Sends what the window takes, but no more at once than one client's buffer holds; reads on where the memory
        ends."""
        feed, session, connection = device.feed, device.session, device.connection
        self.node.touch(connection)
        buffer = feed.buffer
        allowance = self.node.limits.max_write_buffer
        figures = self.node.figures
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
                self.node.spawn(self._read_on(device, after), "read backlog")
            elif feed.settle():
                session.forget_items()
        if feed.moved:
            self._note_moved(device)

    def _go_on(self, device: Device) -> None:
        if device.connection.device is device:
            self._pump(device)

    async def _read_on(self, device: Device, after: int) -> None:
        user = device.session.user
        try:
            items = await self.store.items(user, after=after, limit=self.node.limits.read_batch)
        except Exception as error:
            device.feed.read_failed()
            if device.connection.device is device:
                self._unread.add(device)
            if not isinstance(error, StoreUnavailable):
                raise  # a defect, to be logged; the device does not wait for ever because of it
            return
        if device.connection.device is device:
            device.feed.loaded([stored_item(user, item) for item in items])
            self._pump(device)

    def _retry_reads(self, _: float) -> None:
        unread, self._unread = self._unread, set()
        for device in unread:
            self._pump(device)

    def _note_moved(self, device: Device) -> None:
        if not self._moved:
            asyncio.get_running_loop().call_later(self.node.timeouts.collect_acknowledgements, self._flush_moves)
        self._moved.add(device)

    def _flush_moves(self) -> None:
        moved, self._moved = self._moved, set()
        for device in moved:
            self._collect(device)

    def _collect(self, device: Device) -> None:
        collected = device.feed.collect()
        if collected is None:
            return
        cursor, delivered = collected
        session, writer = device.session, self.writer
        if not device.session.ephemeral:
            writer.move(CursorMove(session.user, session.device, device.feed.epoch, cursor))
        for peer, mid in delivered.items():
            writer.delivered(Delivered(session.user, peer, mid))
