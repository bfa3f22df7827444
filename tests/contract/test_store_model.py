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
    Store,
    TooManyDevices,
)
from tests.contract.stores import BACK_ENDS, Reopen

USERS = st.sampled_from(["alice", "bob", "Bob", "çé"])
DEVICES = st.sampled_from(["phone", "tab\"let\\'", ""])
IDS = st.none() | st.sampled_from(['"a"', '"A"', "1", '"1"', '"\\u0000"', '"é"'])
NUMBERS = st.integers(-1, 40)
TOPICS = st.builds("devices/{}/{}".format, USERS, st.sampled_from(["", "a", "A", "a/b", "\x7fé"]))
PAYLOADS = st.sampled_from([b"", b"1", b"\x00'\\"])

messages = st.builds(
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
# An epoch is given as how far it lies from the current one: 0 is good, the others are fenced.
moves = st.tuples(USERS, DEVICES, st.sampled_from([0, 0, 0, -1, 1]), NUMBERS)
commits = st.tuples(
    st.just("commit"),
    st.lists(messages, max_size=8),
    st.lists(moves, max_size=4),
    st.lists(st.builds(Delivered, reader=USERS, peer=USERS, mid=NUMBERS), max_size=3),
    st.lists(st.builds(Read, reader=USERS, peer=USERS, mid=NUMBERS), max_size=3),
)
operations = st.one_of(
    commits,
    commits,
    st.tuples(st.just("claim"), USERS, DEVICES, st.integers(1, 3)),
    st.tuples(st.just("release"), USERS, DEVICES, st.sampled_from([0, -1])),
    st.tuples(st.just("forget"), USERS, DEVICES),
    st.tuples(st.just("retain"), st.lists(st.builds(RetainedMessage, TOPICS, PAYLOADS, st.integers(0, 2)), max_size=4)),
    st.tuples(st.just("reopen")),
)

ALL_USERS = ["alice", "bob", "Bob", "çé"]
ALL_DEVICES = ["phone", "tab\"let\\'", ""]
ALL_IDS = ['"a"', '"A"', "1", '"1"', '"\\u0000"', '"é"']


class Driver:
    """Applies operations to one store and says what could be observed."""

    def __init__(self, reopen: Reopen) -> None:
        self._again = reopen
        self.store: Store = reopen()
        self._clock = itertools.count(1_000)

    async def apply(self, operation: tuple[Any, ...]) -> object:
        name, *arguments = operation
        perform: Callable[..., Awaitable[object]] = getattr(self, f"_{name}")
        return await perform(*arguments)

    async def _epoch(self, user: str, device: str) -> int:
        return next((known.epoch for known in await self.store.devices(user) if known.device == device), 0)

    async def _commit(self, new: list[NewMessage], moved: list[Any], delivered: list[Any], reads: list[Any]) -> object:
        resolved = [
            CursorMove(user, device, await self._epoch(user, device) + distance, cursor, tag=index)
            for index, (user, device, distance, cursor) in enumerate(moved)
        ]
        committed: Committed = await self.store.commit(Batch(new, resolved, delivered, reads))
        raised = sorted((state.reader, state.peer, state.delivered, state.read) for state in committed.receipts)
        return committed.stored, committed.fenced, raised

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
        assert mids[user] == sorted(set(mids[user])), "mid rises with n"
        devices: Any = seen[f"devices {user}"]
        assert all(0 <= device.cursor <= len(items) for device in devices), "no cursor beyond the head"


def _take_over_mids(twin: MemoryStore, found: object) -> None:
    """A database may leave out message ids (MySQL does where a transaction was rolled back): the twin goes on where the
    database did. They must still rise, and those of one batch follow one another."""
    stored = found[0] if isinstance(found, tuple) else []
    fresh = [one.mid for one in stored if not one.repeated]
    if fresh:
        assert fresh[0] > twin._mid, "mids rise"
        twin._mid = fresh[0] - 1


async def _compare(back_end: str, sequence: list[tuple[Any, ...]], folder: Path) -> None:
    twin = MemoryStore()
    model = Driver(lambda: twin)
    real = Driver(BACK_ENDS[back_end](folder))
    await model.store.open()
    await real.store.open()
    try:
        for operation in sequence:
            found = await real.apply(operation)
            _take_over_mids(twin, found)
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
