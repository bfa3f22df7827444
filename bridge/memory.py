"""The in-memory twin of the durable store: the same promises, except that nothing outlives the process.

It is the reference for the contract suite and the back end of profiles that keep no data. Nothing is ever dropped,
so its memory grows with every message: it is not for a server that runs for long.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from aldis.bridge.given_mids import Placed, given_mids, repeat_of
from aldis.bridge.retained import owner_of
from aldis.broker.ports import (
    Batch,
    Claim,
    Committed,
    CursorMove,
    Device,
    Item,
    Kind,
    NewMessage,
    Position,
    ReceiptState,
    RetainedMessage,
    ShardLost,
    Stored,
    TooManyDevices,
)


class _Message(NamedTuple):
    """An immutable copy, so that the caller may reuse its own record."""

    mid: int
    sender: str
    device: str
    recipient: str
    kind: Kind
    content: bytes
    created: int


class MemoryStore:
    """Keeps `aldis.broker.ports.Store` in dictionaries. It never raises `StoreUnavailable`."""

    def __init__(self) -> None:
        self._mid = 0
        self._stamp = 0
        self._first: dict[tuple[str, str, str], Stored] = {}
        self._placed: dict[int, Placed] = {}
        self._shards: dict[int, int] = {}
        self._inboxes: dict[str, list[_Message]] = {}
        self._sequences: dict[tuple[str, str, str], int] = {}
        self._devices: dict[str, dict[str, Device]] = {}
        self._receipts: dict[tuple[str, str], ReceiptState] = {}
        self._changed: dict[tuple[str, str], int] = {}
        self._retained: dict[str, RetainedMessage] = {}

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """Keeps the content: a store that is opened again after `close` still has it."""

    async def commit(self, batch: Batch) -> Committed:
        if lost := [(shard, epoch) for shard, epoch in batch.shards if self._shards.get(shard) != epoch]:
            raise ShardLost(lost)
        if given_mids(batch.messages):
            self._mid = max(self._mid, *self._new_mids(batch.messages))
        stored = [self._store(message) for message in batch.messages]
        fenced = [move for move in batch.moves if not self._move(move)]
        return Committed(stored, fenced, self._raise_receipts(batch))

    def _new_mids(self, messages: list[NewMessage]) -> list[int]:
        """Of the given ones those that are going to be stored, and 0. Plays it through before anything is changed: all
        of the batch is refused, or nothing."""
        placed: dict[int, Placed] = {}
        ids: set[tuple[str, str, str]] = set()
        sequences: dict[tuple[str, str, str], int] = {}
        for message in messages:
            sender, device, recipient, id = message.sender, message.device, message.recipient, message.id
            there = self._placed.get(message.mid) or placed.get(message.mid)
            if message.seq is not None:
                counter = (sender, device, recipient)
                last = sequences.get(counter, self._sequences.get(counter, 0))
                sequences[counter] = max(last, message.seq)
                if id is None and message.seq <= last:
                    if there is not None:
                        repeat_of(message, there)
                    continue
            if id is not None and ((sender, device, id) in self._first or (sender, device, id) in ids):
                continue
            if there is not None:
                repeat_of(message, there)
                continue
            if id is not None:
                ids.add((sender, device, id))
            if message.mid:
                placed[message.mid] = Placed(sender, device, recipient, Stored(message.mid, 0, 0))
        return [0, *placed]

    def _store(self, message: NewMessage) -> Stored:
        placed = self._placed.get(message.mid)
        if message.seq is not None:
            key = (message.sender, message.device, message.recipient)
            last = self._sequences.get(key, 0)
            if message.id is None and message.seq <= last:
                return Stored(0, 0, 0, None, True) if placed is None else repeat_of(message, placed)
            self._sequences[key] = max(last, message.seq)
        if message.id is not None:
            first = self._first.get((message.sender, message.device, message.id))
            if first is not None:
                return Stored(first.mid, first.n, first.created, first.sync_n, True)
        return self._put_new(message) if placed is None else repeat_of(message, placed)

    def _draw(self) -> int:
        self._mid += 1
        return self._mid

    def _put_new(self, message: NewMessage) -> Stored:
        row = _Message(
            message.mid or self._draw(),
            message.sender,
            message.device,
            message.recipient,
            message.kind,
            bytes(message.content),
            message.created,
        )
        n = self._put(message.recipient, row)
        sync_n = self._put(message.sender, row) if message.sync and message.sender != message.recipient else None
        stored = Stored(row.mid, n, message.created, sync_n)
        self._placed[row.mid] = Placed(message.sender, message.device, message.recipient, stored)
        if message.id is not None:
            self._first[message.sender, message.device, message.id] = stored
        return Stored(row.mid, n, message.created, sync_n)

    def _put(self, user: str, row: _Message) -> int:
        inbox = self._inboxes.setdefault(user, [])
        inbox.append(row)
        return len(inbox)

    def _move(self, move: CursorMove) -> bool:
        device = self._devices.get(move.user, {}).get(move.device)
        if device is None or device.epoch != move.epoch:
            return False
        device.cursor = max(device.cursor, min(move.cursor, len(self._inboxes.get(move.user, ()))))
        return True

    def _raise_receipts(self, batch: Batch) -> list[ReceiptState]:
        self._stamp = max(time.time_ns() // 1_000_000, self._stamp + 1)
        raised: dict[tuple[str, str], None] = {}
        for delivered in batch.delivered:
            state = self._receipt(delivered.reader, delivered.peer)
            if delivered.mid > state.delivered:
                state.delivered = delivered.mid
                raised[delivered.reader, delivered.peer] = None
        for read in batch.reads:
            inbox = self._inboxes.get(read.reader)
            state = self._receipt(read.reader, read.peer)
            there = self._placed.get(read.mid)
            is_stored = there is not None and (there.recipient, there.sender) == (read.reader, read.peer)
            mid = read.mid if is_stored else min(read.mid, inbox[-1].mid) if inbox else 0
            if mid > state.read:
                state.read = mid
                raised[read.reader, read.peer] = None
        for key in raised:
            self._receipts[key] = self._receipt(*key)
            self._changed[key] = self._stamp
        return [_copy(self._receipts[key]) for key in raised]

    def _receipt(self, reader: str, peer: str) -> ReceiptState:
        return self._receipts.setdefault((reader, peer), ReceiptState(reader, peer, 0, 0))

    async def claim_shard(self, shard: int) -> int:
        epoch = self._shards[shard] = self._shards.get(shard, 0) + 1
        return epoch

    async def highest_mid(self) -> int:
        return max(self._placed, default=0)

    async def claim(self, user: str, device: str, *, now: int, limit: int) -> Claim:
        devices = self._devices.setdefault(user, {})
        known = devices.get(device)
        if known is None:
            if len(devices) >= limit:
                raise TooManyDevices(limit)
            cursor = max((other.cursor for other in devices.values()), default=0)
            # The first epoch is the time: after `forget_device` no epoch of the old life is given out again.
            devices[device] = Device(user, device, cursor, now, now)
        else:
            known.epoch += 1
            known.last_seen = now
        taken = devices[device]
        return Claim(taken.epoch, taken.cursor, len(self._inboxes.get(user, ())), known is None)

    async def release(self, user: str, device: str, *, epoch: int, last_seen: int) -> None:
        known = self._devices.get(user, {}).get(device)
        if known is not None and known.epoch == epoch:
            known.last_seen = last_seen

    async def items(self, user: str, *, after: int, limit: int) -> list[Item]:
        first = max(after, 0)
        rows = self._inboxes.get(user, [])[first : first + max(limit, 0)]
        return [
            Item(n, row.mid, row.sender, row.device, row.recipient, row.kind, row.content, row.created)
            for n, row in enumerate(rows, first + 1)
        ]

    async def head(self, user: str) -> int:
        return len(self._inboxes.get(user, ()))

    async def receipts_for(self, peer: str, *, limit: int) -> list[ReceiptState]:
        mine = [key for key in self._changed if key[1] == peer]
        mine.sort(key=lambda key: (-self._changed[key], key[0]))
        return [_copy(self._receipts[key]) for key in mine[: max(limit, 0)]]

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        return self._sequences.get((user, device, recipient), 0)

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        first = self._first.get((user, device, id))
        return None if first is None else Stored(first.mid, first.n, first.created, first.sync_n, True)

    async def devices(self, user: str) -> list[Device]:
        known = self._devices.get(user, {})
        return [
            Device(user, name, known[name].cursor, known[name].epoch, known[name].last_seen) for name in sorted(known)
        ]

    async def forget_device(self, user: str, device: str) -> bool:
        for counter in [key for key in self._sequences if key[:2] == (user, device)]:
            del self._sequences[counter]
        return self._devices.get(user, {}).pop(device, None) is not None

    async def positions(self, users: Sequence[str]) -> dict[str, Position]:
        return {
            user: Position(
                len(self._inboxes.get(user, ())),
                {device: known.epoch for device, known in self._devices.get(user, {}).items()},
            )
            for user in users
        }

    async def receipt_changes(self, peers: Sequence[str], *, since: int) -> list[ReceiptState]:
        wanted = frozenset(peers)
        return [_copy(self._receipts[key]) for key, at in self._changed.items() if key[1] in wanted and at >= since]

    async def last_seen(self, users: Sequence[str]) -> dict[str, int]:
        return {
            user: max(device.last_seen for device in devices.values())
            for user in users
            if (devices := self._devices.get(user))
        }

    async def retain(self, messages: Sequence[RetainedMessage]) -> None:
        for message in messages:
            owner_of(message.topic)
        for message in messages:
            if message.payload:
                self._retained[message.topic] = RetainedMessage(message.topic, bytes(message.payload), message.qos)
            else:
                self._retained.pop(message.topic, None)

    async def retained(self, prefix: str, *, limit: int) -> list[RetainedMessage]:
        owner_of(prefix)
        found = sorted(topic for topic in self._retained if topic.startswith(prefix))
        return [self._retained[topic] for topic in found[: max(limit, 0)]]


def _copy(state: ReceiptState) -> ReceiptState:
    return ReceiptState(state.reader, state.peer, state.delivered, state.read)
