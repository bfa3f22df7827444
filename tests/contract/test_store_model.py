"""Every back end does what the in-memory twin does, whatever is asked of it in whatever order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aldis.bridge.memory import MemoryStore
from aldis.broker.ports import (
    Batch,
    Committed,
    CursorMove,
    Delivered,
    NewMessage,
    Read,
    RetainedMessage,
    ShardLost,
    Store,
    TooManyDevices,
)
from tests.contract.stores import BACK_ENDS, Reopen

ALL_USERS = ["alice", "bob", "Bob", "çé"]
ALL_DEVICES = ["phone", "tab\"let\\'", ""]
ALL_IDS = ['"a"', '"A"', "1", '"1"', '"\\u0000"', '"é"']

USERS = st.sampled_from(ALL_USERS)
DEVICES = st.sampled_from(ALL_DEVICES)
IDS = st.none() | st.sampled_from(ALL_IDS)
SHARDS = st.integers(0, 1)
NUMBERS = st.integers(-1, 40)
TOPICS = st.builds("devices/{}/{}".format, USERS, st.sampled_from(["", "a", "A", "a/b", "\x7fé"]))
PAYLOADS = st.sampled_from([b"", b"1", b"\x00'\\"])


def _with_mid(message: NewMessage, mid: int) -> NewMessage:
    """Two messages of different senders or recipients are never given one mid: that is another test's."""
    owner = ALL_USERS.index(message.sender) * 12 + ALL_DEVICES.index(message.device) * 4
    message.mid = mid and mid + 2 * (owner + ALL_USERS.index(message.recipient))
    return message


fresh_messages = st.builds(
    NewMessage,
    sender=USERS,
    device=DEVICES,
    recipient=USERS,
    content=st.sampled_from([b"{}", '{"body":"ü"}'.encode(), b'{"body":"' + b"x" * 5_000 + b'"}', b""]),
    created=st.integers(0, 2**53),
    id=IDS,
    seq=st.none() | st.integers(1, 9),
    sync=st.booleans(),
)
messages = st.builds(_with_mid, fresh_messages, st.sampled_from([0, 0, 0, 100, 200, 5_000, 2**52]))
# An epoch is given as how far it lies from the current one: 0 is good, the others are fenced.
moves = st.tuples(USERS, DEVICES, st.sampled_from([0, 0, 0, -1, 1]), NUMBERS)
commits = st.tuples(
    st.just("commit"),
    st.lists(messages, max_size=8),
    st.lists(moves, max_size=4),
    st.lists(st.builds(Delivered, reader=USERS, peer=USERS, mid=NUMBERS), max_size=3),
    st.lists(st.builds(Read, reader=USERS, peer=USERS, mid=NUMBERS), max_size=3),
    st.dictionaries(SHARDS, st.sampled_from([0, 0, 0, -1])),
)
operations = st.one_of(
    commits,
    commits,
    st.tuples(st.just("claim"), USERS, DEVICES, st.integers(1, 3)),
    st.tuples(st.just("release"), USERS, DEVICES, st.sampled_from([0, -1])),
    st.tuples(st.just("forget"), USERS, DEVICES),
    st.tuples(st.just("retain"), st.lists(st.builds(RetainedMessage, TOPICS, PAYLOADS, st.integers(0, 2)), max_size=4)),
    st.tuples(st.just("claim_shard"), SHARDS),
    st.tuples(st.just("reopen")),
)


class Driver:
    """Applies operations to one store and says what could be observed."""

    def __init__(self, reopen: Reopen) -> None:
        self._again = reopen
        self.store: Store = reopen()
        self._shards: dict[int, int] = {}
        self._clock = itertools.count(1_000)

    async def apply(self, operation: tuple[Any, ...]) -> object:
        name, *arguments = operation
        perform: Callable[..., Awaitable[object]] = getattr(self, f"_{name}")
        return await perform(*arguments)

    async def _epoch(self, user: str, device: str) -> int:
        return next((known.epoch for known in await self.store.devices(user) if known.device == device), 0)

    async def _commit(
        self,
        new: list[NewMessage],
        moved: list[Any],
        delivered: list[Any],
        reads: list[Any],
        shards: dict[int, int],
    ) -> object:
        resolved = [
            CursorMove(user, device, await self._epoch(user, device) + distance, cursor, tag=index)
            for index, (user, device, distance, cursor) in enumerate(moved)
        ]
        fences = [(shard, self._shards.get(shard, 0) + distance) for shard, distance in shards.items()]
        batch = Batch(new, resolved, delivered, reads, fences)
        try:
            committed: Committed = await self.store.commit(batch)
        except ShardLost as error:
            return error.shards
        raised = sorted((state.reader, state.peer, state.delivered, state.read) for state in committed.receipts)
        return committed.stored, committed.fenced, raised

    async def _claim_shard(self, shard: int) -> object:
        epoch = self._shards[shard] = await self.store.claim_shard(shard)
        return epoch

    async def _claim(self, user: str, device: str, limit: int) -> object:
        try:
            return await self.store.claim(user, device, now=next(self._clock), limit=limit)
        except TooManyDevices as error:
            return error.limit

    async def _release(self, user: str, device: str, distance: int) -> object:
        epoch = await self._epoch(user, device) + distance
        await self.store.release(user, device, epoch=epoch, last_seen=next(self._clock))
        return None

    async def _forget(self, user: str, device: str) -> object:
        return await self.store.forget_device(user, device)

    async def _retain(self, retained: list[RetainedMessage]) -> object:
        await self.store.retain(retained)
        return None

    async def _reopen(self) -> object:
        await self.store.close()
        self.store = self._again()
        await self.store.open()
        return None

    async def observe(self) -> dict[str, object]:
        """Everything that the protocol lets one see."""
        seen: dict[str, object] = {
            "positions": await self.store.positions(ALL_USERS),
            "last seen": await self.store.last_seen(ALL_USERS),
            "highest mid": await self.store.highest_mid(),
        }
        for user in ALL_USERS:
            seen[f"items {user}"] = await self.store.items(user, after=0, limit=1_000)
            seen[f"page {user}"] = await self.store.items(user, after=2, limit=3)
            seen[f"head {user}"] = await self.store.head(user)
            seen[f"receipts {user}"] = await self.store.receipts_for(user, limit=3)
            seen[f"devices {user}"] = await self.store.devices(user)
            seen[f"retained {user}"] = await self.store.retained(f"devices/{user}/", limit=3)
            changes = await self.store.receipt_changes([user], since=0)
            seen[f"changes {user}"] = sorted((one.reader, one.delivered, one.read) for one in changes)
            for device, id in itertools.product(ALL_DEVICES, ALL_IDS):
                seen[f"find {user} {device} {id}"] = await self.store.find(user, device, id)
            for device, recipient in itertools.product(ALL_DEVICES, ALL_USERS):
                seen[f"seq {user} {device} {recipient}"] = await self.store.last_seq(user, device, recipient)
        return seen


def _check_invariants(seen: dict[str, object]) -> None:
    mids: dict[str, list[int]] = {}
    for user in ALL_USERS:
        items: Any = seen[f"items {user}"]
        assert [item.n for item in items] == list(range(1, len(items) + 1)), "n is gap-free"
        mids[user] = [item.mid for item in items]
        assert len(mids[user]) == len(set(mids[user])), "one item for a message"
        devices: Any = seen[f"devices {user}"]
        assert all(0 <= device.cursor <= len(items) for device in devices), "no cursor beyond the head"


class Twin(MemoryStore):
    """A database may leave out message ids (MySQL does where a transaction was rolled back): the twin goes on where the
    database did. They must still rise."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[int] = []

    def _draw(self) -> int:
        mid = self.drawn.pop(0)
        assert mid > self._mid, "mids rise"
        self._mid = mid
        return mid

    def take_over_mids(self, new: list[NewMessage], found: object) -> None:
        if isinstance(found, tuple):
            pairs = zip(new, found[0], strict=True)
            self.drawn = [one.mid for message, one in pairs if not (one.repeated or message.mid)]


async def _compare(back_end: str, sequence: list[tuple[Any, ...]], folder: Path) -> None:
    twin = Twin()
    model = Driver(lambda: twin)
    real = Driver(BACK_ENDS[back_end](folder))
    await model.store.open()
    await real.store.open()
    try:
        for operation in sequence:
            found = await real.apply(operation)
            if operation[0] == "commit":
                twin.take_over_mids(operation[1], found)
            assert found == await model.apply(operation), operation
        final = await real.observe()
        assert final == await model.observe()
        _check_invariants(final)
    finally:
        await real.store.close()


@pytest.mark.parametrize("back_end", [name for name in BACK_ENDS if name != "memory"])
@given(sequence=st.lists(operations, max_size=30))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_same_answers_as_the_twin(back_end: str, sequence: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(_compare(back_end, sequence, Path(folder)))
