"""Retained messages below `devices/{user}/`, kept in the store, and in the memory of this node while it needs them.

    publish     Router.retain -> admits, changed -> Unwritten -> (collected for a moment) -> Store.retain
    SUBSCRIBE   ready -> Store.retained, once for all of the user's devices -> Router.retained
    elsewhere   changed_elsewhere: memory only, the publishing node writes

A user's changes are written only when what the store has of the user was read: so the bound of what one user may have
holds, and there is one rule for who wins: what has changed in memory since, or a moment before, the reading began. When
the user's last connection has been gone for a moment and everything is written, memory forgets the user.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aldis.broker.core.occasional import Occasional
from aldis.broker.core.packets import Message
from aldis.broker.core.unwritten import Unwritten
from aldis.broker.ports import RetainedMessage, Store, StoreUnavailable
from aldis.broker.router import Subscriber
from aldis.broker.subscribing import send_retained

if TYPE_CHECKING:
    from aldis.broker.node import Node

logger = logging.getLogger(__name__)

_READERS = 4
"""Users whose retained messages are read at once."""

_BATCH, _BATCH_BYTES = 500, 1_048_576
"""Changes and bytes in one transaction: few milliseconds, for which messages may have to wait."""

_MOMENT = 5.0
"""Seconds for which a change counts as recent: longer than any node takes to write it, and any parcel to arrive."""

_LONGEST_USER = 64


class _Owner:
    """What is known of one user's retained messages. `topics` are those that the store has, or is to have; None until
    they were read. `changed`: when each topic that changed lately did so, and whether on this node. `doubted`: when
    something was missed that memory should have; None if nothing was."""

    __slots__ = ("changed", "doubted", "late", "read", "topics")

    def __init__(self) -> None:
        self.topics: set[str] | None = None
        self.doubted: float | None = None
        self.read: asyncio.Event | None = None  # while it is being read, or waits for that
        self.changed: dict[str, tuple[float, bool]] = {}
        self.late: dict[Subscriber, dict[str, int]] = {}


class RetainedKeeper:
    """Made, then `start`, then `stop`; once. Keeps `aldis.broker.router.Keeper`."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self._owners: dict[str, _Owner] = {}
        self._leaving: OrderedDict[str, float] = OrderedDict()
        self._unwritten = Unwritten()
        self._to_read: OrderedDict[str, _Owner] = OrderedDict()
        self._readers: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._said = Occasional()
        node.retained_keeper = self
        node.router.keeper = self
        node.on_tick.append(self._forget)

    def start(self) -> None:
        self._writer = asyncio.get_running_loop().create_task(self._write_on(), name="write retained messages")

    async def stop(self) -> None:
        """Writes what is not written yet; who has no patience cancels it, and that much is lost."""
        self._stopping.set()
        self._wake.set()
        try:
            if self._writer is not None:
                await self._writer
        finally:
            for task in self._readers:
                task.cancel()
            if len(self._unwritten):
                logger.warning("%d changes of retained messages were not written", len(self._unwritten))

    # What changes

    def admits(self, message: Message) -> bool:
        """Whether the message may be retained: false for one topic too many of its owner."""
        owner = self._owners.get(owner_of(message.topic))
        if owner is None or owner.topics is None or not message.payload or message.topic in owner.topics:
            return True
        return len(owner.topics) < self._node.limits.max_retained_per_user

    def changed(self, message: Message) -> None:
        """This is its topic's retained message now, in memory; or there is none, if it is empty."""
        topic, user = message.topic, owner_of(message.topic)
        if not user:
            return
        owner = self._owner(user)
        if owner.topics is not None:
            # an empty one is written even if nothing seems to be there: another node may have put it there just now
            (owner.topics.add if message.payload else owner.topics.discard)(topic)
        elif owner.read is None:
            self._begin_reading(user, owner)
        self._note_change(owner, topic, here=True)
        self._unwritten.note(user, Message(topic, message.payload, message.qos))
        limits = self._node.limits
        dropped = self._unwritten.bound(limits.max_unwritten_retained, limits.max_unwritten_retained_bytes)
        if dropped:
            self._say("changes of retained messages were dropped: the store does not take them")
        self._wake.set()

    def changed_elsewhere(self, topic: str, payload: bytes, qos: int) -> None:
        """Another node has taken this retained message, and writes it. To be told before it is routed here."""
        user = owner_of(topic)
        if not user:
            return
        owner = self._owner(user)
        self._note_change(owner, topic, here=False)
        if owner.topics is not None:
            (owner.topics.add if payload else owner.topics.discard)(topic)
        message = Message(topic, payload, qos)
        if not self._node.router.retained.keep(message):
            owner.doubted = self._node.now
        if topic in self._unwritten.of(user):
            # ours is older, but might reach the store after theirs
            self._unwritten.note(user, message)
            self._wake.set()

    def recent(self, user: str) -> list[RetainedMessage]:
        """What a node that begins to hold devices of this user may have missed: changes made here that are not written
        yet, or were written only just now."""
        owner = self._owners.get(user)
        if owner is None:
            return []
        since = self._node.now - _MOMENT
        topics = {topic for topic, (when, here) in owner.changed.items() if here and when >= since}
        kept = self._node.router.retained
        found = [(topic, kept.get(topic)) for topic in (*topics, *(self._unwritten.of(user).keys() - topics))]
        return [RetainedMessage(topic, m.payload if m else b"", m.qos if m else 0) for topic, m in found]

    def doubt(self) -> None:
        """Something from other nodes was missed: what is in memory is read again before it is sent to anyone new."""
        for owner in self._owners.values():
            owner.doubted = self._node.now

    def _note_change(self, owner: _Owner, topic: str, *, here: bool) -> None:
        changed = owner.changed
        changed.pop(topic, None)
        changed[topic] = self._node.now, here
        if len(changed) > 2 * self._node.limits.max_retained_per_user:
            del changed[next(iter(changed))]

    def _owner(self, user: str) -> _Owner:
        owner = self._owners.get(user)
        if owner is None:
            owner = self._owners[user] = _Owner()
        if not self._node.decisions.present(user):
            self.left(user)
        return owner

    def _say(self, what: str, **extra: object) -> None:
        times = self._said.note(what, self._node.now)
        if times:
            logger.warning(what, extra={"times": times, "unwritten": len(self._unwritten), **extra})

    # Into the store

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._pause(self._node.timeouts.collect_retained)
            while batch := self._unwritten.take(self._may_write, _BATCH, _BATCH_BYTES):
                await self._write(batch)
            if self._stopping.is_set() and not len(self._unwritten):
                return

    async def _pause(self, seconds: float) -> None:
        """Shorter if it is time to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _may_write(self, user: str) -> bool:
        return self._owners[user].topics is not None

    async def _write(self, batch: Iterable[Message]) -> None:
        try:
            await self._store.retain([RetainedMessage(one.topic, one.payload, one.qos) for one in batch])
        except StoreUnavailable as error:
            self._unwritten.put_back()
            self._say("the store takes no retained messages; they are kept and tried again", error=str(error))
            await asyncio.sleep(self._node.timeouts.commit_retry)
        except Exception:
            logger.exception("retained messages could not be written and are given up")
            self._unwritten.written()
        else:
            self._unwritten.written()

    # Out of the store

    async def ready(self, user: str) -> bool:
        """Returns when memory has the user's retained messages. False: the store did not give them in time
        (`timeouts.read_retained`); it is asked on, and whoever said `later` gets them then."""
        owner = self._owner(user)
        if owner.read is None:
            if owner.topics is not None and owner.doubted is None:
                return True
            self._begin_reading(user, owner)
        assert owner.read is not None
        try:
            async with asyncio.timeout(self._node.timeouts.read_retained):
                await owner.read.wait()
        except TimeoutError:
            self._say("retained messages could not be read in time; subscriptions get them later")
            return False
        return True

    def later(self, user: str, subscriber: Subscriber, filter: str, qos: int) -> None:
        """This subscription gets what is read, as soon as it is."""
        owner = self._owners.get(user)
        if owner is not None and owner.read is not None:
            owner.late.setdefault(subscriber, {})[filter] = qos

    def _begin_reading(self, user: str, owner: _Owner) -> None:
        owner.read = asyncio.Event()
        self._to_read[user] = owner
        if len(self._readers) < _READERS:
            task = asyncio.get_running_loop().create_task(self._read_on(), name="read retained messages")
            self._readers.add(task)
            task.add_done_callback(self._readers.discard)

    async def _read_on(self) -> None:
        while self._to_read:
            user, owner = self._to_read.popitem(last=False)
            began = self._node.now
            limit = self._node.limits.max_retained_per_user
            try:
                found = await self._store.retained(f"devices/{user}/", limit=limit)
            except Exception as error:
                self._to_read[user] = owner
                if not isinstance(error, StoreUnavailable):
                    logger.exception("retained messages could not be read")
                await asyncio.sleep(self._node.timeouts.commit_retry)
            else:
                self._merge(user, owner, found, began)

    def _merge(self, user: str, owner: _Owner, found: list[RetainedMessage], began: float) -> None:
        """Memory becomes what was read, but for what has changed meanwhile, or so lately that the store may not have
        had it. The latter not in doubt: then what memory has may be older than the store. But doubt lasts for a moment,
        in which each reading is followed by another."""
        since = began if owner.doubted is not None else began - _MOMENT
        retained, unwritten = self._node.router.retained, self._unwritten.of(user)
        newer = {topic for topic, (when, _) in owner.changed.items() if when >= since} | unwritten.keys()
        here = {topic for topic, _ in retained.match(f"devices/{user}/#") if topic in newer}
        for topic in [topic for topic, _ in retained.match(f"devices/{user}/#") if topic not in newer]:
            retained.keep(Message(topic, b""))
        added: list[Message] = []
        complete = True
        for row in found:
            if row.topic not in newer:
                message = Message(row.topic, row.payload, row.qos, retain=True)
                if retained.keep(message):
                    added.append(message)
                else:
                    complete = False
        owner.topics = {row.topic for row in found if row.topic not in newer} | here
        if owner.doubted is not None and owner.doubted + _MOMENT < began:
            owner.doubted = None
        if not complete:
            owner.doubted = self._node.now
            self._say("retained messages of the store do not fit into memory", user=user)
        self._trim(user, owner, {row.topic for row in found})
        self._read_done(owner, added)

    def _trim(self, user: str, owner: _Owner, stored: set[str]) -> None:
        """What was retained before it was known how many there are: what is too much is not written."""
        assert owner.topics is not None
        for message in reversed(self._unwritten.waiting(user)):
            if len(owner.topics) <= self._node.limits.max_retained_per_user:
                return
            if message.topic in owner.topics and message.topic not in stored:
                owner.topics.discard(message.topic)
                self._unwritten.drop(user, message.topic)
                self._node.router.retained.keep(Message(message.topic, b""))
                if self._node.router.on_not_retained is not None:
                    self._node.router.on_not_retained(message)

    def _read_done(self, owner: _Owner, added: list[Message]) -> None:
        assert owner.read is not None
        owner.read.set()
        owner.read = None
        self._wake.set()
        late, owner.late = owner.late, {}
        if late:
            self._node.spawn(
                self._send_late(late, frozenset(message.topic for message in added)), "late retained messages"
            )

    async def _send_late(self, late: dict[Subscriber, dict[str, int]], topics: frozenset[str]) -> None:
        for subscriber, filters in late.items():
            for filter, qos in filters.items():
                if filter in subscriber.session.subscriptions:
                    await send_retained(self._node, subscriber, filter, qos, topics)

    # Out of memory

    def left(self, user: str) -> None:
        """The user's last connection is gone."""
        if user in self._owners:
            self._leaving[user] = self._node.now
            self._leaving.move_to_end(user)

    def _forget(self, now: float) -> None:
        for user in self._due(now):
            del self._leaving[user]
            if self._node.decisions.present(user):
                continue
            if self._owners[user].read is not None or self._unwritten.concerns(user):
                self._leaving[user] = now
                continue
            del self._owners[user]
            self._clear(user)

    def _due(self, now: float) -> list[str]:
        due: list[str] = []
        for user, since in self._leaving.items():
            if since + _MOMENT > now:
                break
            due.append(user)
        return due

    def _clear(self, user: str) -> None:
        retained = self._node.router.retained
        for topic in [topic for topic, _ in retained.match(f"devices/{user}/#")]:
            retained.keep(Message(topic, b""))


def owner_of(topic: str) -> str:
    """The user below whom the topic lies; empty for one that is not kept in the store."""
    if not topic.startswith("devices/"):
        return ""
    owner, slash, _ = topic[8:].partition("/")
    return owner if slash and len(owner) <= _LONGEST_USER else ""
