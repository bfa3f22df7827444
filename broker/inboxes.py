"""The durable side of the connector: publishes go into the group commit, committed items go out through the feeds.

The way of one message: `submit` -> group commit -> `committed` (receipt `sent`, acknowledgement, then the feeds of
every attached device of the recipient) -> `Feeding.pump` -> the device's PUBACK -> `acknowledged` -> group commit
(cursor, delivered) -> `Receipts.committed` (receipt `delivered` to the sender). Nothing here is the only copy of
anything: what a feed does not have in memory it reads from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aldis.broker.acceptance import Acceptance
from aldis.broker.connection import Connection
from aldis.broker.core.feed import Feed
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session import Session
from aldis.broker.core.topics import overlaps
from aldis.broker.device import Device, unaware
from aldis.broker.feeding import Feeding
from aldis.broker.inbox_items import live_item, published_item, sync_item
from aldis.broker.node import Node
from aldis.broker.pipeline import Publication
from aldis.broker.ports import (
    AccessRevoked,
    Announcement,
    Batch,
    Claim,
    Committed,
    CursorMove,
    Kind,
    NewMessage,
    Position,
    Read,
    Store,
    StoreUnavailable,
    Writer,
)
from aldis.broker.receipts import Receipts

logger = logging.getLogger(__name__)

_CHAT = Kind.CHAT
"""Members of an enum are slow to look up, and this one is needed for every message."""


class Inboxes:
    """All attached devices of this node, by user. `writer` is set by the composition root before the first CONNECT."""

    def __init__(self, node: Node, store: Store, now_ms: Callable[[], int]) -> None:
        self.node = node
        self.store = store
        self.now_ms = now_ms
        self._attached: dict[str, dict[str, Device]] = {}
        self._known: dict[str, set[str]] = {}
        self._preparing: dict[str, list[set[str]]] = {}
        self._attaching: dict[Connection, asyncio.Future[None]] = {}
        self.feeding = Feeding(node, store)
        self.receipts = Receipts(node, store)
        self.acceptance: Acceptance | None = None  # where a journal accepts messages before the store has them
        self.tell_device: Callable[[str, str], Awaitable[None]] | None = None
        self.on_started: list[Callable[[Connection, list[str]], None]] = []
        node.inboxes = self

    @property
    def writer(self) -> Writer:
        """The group commit."""
        return self.feeding.writer

    @writer.setter
    def writer(self, writer: Writer) -> None:
        self.feeding.writer = writer

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
        read = Read(reader, peer, up_to)
        self.receipts.awaits(read, publication)
        self.writer.read(read)

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        """The highest `seq` from this device to this recipient that needs not come again. Raises `StoreUnavailable`."""
        if self.acceptance is not None:
            return await self.acceptance.last_seq(user, device, recipient)
        await self.writer.flush()
        return await self.store.last_seq(user, device, recipient)

    # The group commit reports

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Answers the senders, then feeds the receivers, then tells the peers of receipts. What comes from a journal
        has no publication here: its sender has had the answer (`acceptance`)."""
        touched: dict[Device, None] = {}
        attached, elsewhere = self._attached, self.node.elsewhere
        for message, stored in zip(batch.messages, committed.stored, strict=True):
            publication: Publication | None = message.tag  # type: ignore[assignment]
            if publication is not None:
                publication.committed(stored.mid, stored.created)
            if stored.repeated:
                touched.update(unaware(attached, message, stored))
                continue
            devices = attached.get(message.recipient)
            away = elsewhere is not None and elsewhere.concerns(message.recipient, stored.n)
            if devices is not None or away:
                if publication is not None:
                    item = published_item(publication, message, stored.n, stored.mid)
                else:
                    item = live_item(message, stored.n, stored.mid)
                if devices is not None:
                    for device in devices.values():
                        device.feed.offer(item)
                        touched[device] = None
                if elsewhere is not None and away:
                    elsewhere.item(message.recipient, item)
            if stored.sync_n is not None:
                self._copy(message, stored.sync_n, stored.mid, touched)
        for device in touched:
            self.feeding.pump(device)
        if elsewhere is not None:
            elsewhere.send_items()
        for move in committed.fenced:
            self._fenced(move)
        if batch.reads or committed.receipts:
            self.receipts.committed(batch, committed)
        self.receipts.answered()

    def _copy(self, message: NewMessage, n: int, mid: int, touched: dict[Device, None]) -> None:
        """The copy for the sender's other devices."""
        devices = self._attached.get(message.sender)
        elsewhere = self.node.elsewhere
        away = elsewhere is not None and elsewhere.concerns(message.sender, n)
        if devices is None and not away:
            return
        item = sync_item(message, n, mid)
        for device in () if devices is None else devices.values():
            device.feed.offer(item)
            touched[device] = None
        if elsewhere is not None and away:
            elsewhere.item(message.sender, item)

    # Other nodes report

    def woken(self, user: str, head: int, items: Iterable[Message] = ()) -> None:
        """Another node has committed something for this user: all of `items`, the last of them number `head`, or more
        than was sent along."""
        devices = self._attached.get(user)
        if devices is None:
            return
        for item in items:
            for device in devices.values():
                device.feed.offer(item)
        for device in devices.values():
            device.feed.hint(head)
            self.feeding.pump(device)

    def positioned(self, user: str, position: Position, devices: Iterable[Device]) -> None:
        """Where the user's inbox and devices stand in the store. `devices` were attached when that was asked."""
        for device in devices:
            connection = device.connection
            if connection.device is not device:
                continue
            epoch = position.epochs.get(device.session.device)
            if epoch is None and not device.session.ephemeral:
                connection.end(CloseReason.ACCESS_REVOKED, "the device was removed")
            elif epoch is not None and epoch > device.feed.epoch:
                connection.end(CloseReason.TAKEN_OVER, "another owner has claimed the device")
            elif position.head > device.feed.head:
                device.feed.hint(position.head)
                self.feeding.pump(device)
        if user in self._known:
            self._known[user].update(position.epochs)

    def device_made(self, user: str, device: str) -> None:
        """The user has a new device on another node."""
        if user in self._known:
            self._known[user].add(device)
        for made in self._preparing.get(user, ()):
            made.add(device)

    def _fenced(self, move: CursorMove) -> None:
        device = self._attached.get(move.user, {}).get(move.device)
        if device is not None and device.feed.epoch == move.epoch:
            device.connection.end(CloseReason.TAKEN_OVER, "another owner has claimed the device")

    # Devices come and go

    def attached(self) -> list[Device]:
        """The devices that take from an inbox now."""
        return [device for devices in self._attached.values() for device in devices.values()]

    async def prepare(self, user: str) -> None:
        """Learns the user's devices before the first publish: who has another one gets copies of what is sent."""
        if user in self._known:
            return
        made: set[str] = set()
        preparing = self._preparing.setdefault(user, [])
        preparing.append(made)
        try:
            devices = await self.store.devices(user)
        finally:
            preparing.remove(made)
            if not preparing:
                self._preparing.pop(user, None)
        self._known.setdefault(user, set()).update(made, (device.device for device in devices))

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self._known.pop(user, None)
        self.receipts.forget_user(user)

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
            if claim.created and self.tell_device is not None:
                # before SUBACK: whoever has seen that gets copies of what is sent from then on, on whichever node
                await self.tell_device(session.user, session.device)

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

    async def start(self, connection: Connection, filters: list[str]) -> None:
        """After the SUBACK: tells how far receipts have come, if these filters ask for them, and begins the backlog;
        then the `on_started` hooks tell what else these filters ask for."""
        device: Device | None = connection.device
        if device is not None:
            device.subscriptions_changed()
            self.feeding.pump(device)
        session = connection.session
        if session is not None and any(overlaps(filter, f"inbox/{session.user}/receipt/+") for filter in filters):
            await self.receipts.send_states(connection, session.user)
        for hook in self.on_started:
            hook(connection, filters)

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
        self.feeding.collect(device)
        self.feeding.forget(device)
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
        """The device has the item."""
        self.feeding.acknowledged(connection.device, message)

    def drained(self, connection: Connection) -> None:
        """The device can take more."""
        self.feeding.pump(connection.device)
