"""Storers: they move what the journal has accepted into the store, shard by shard, each shard by one node at a time.

leases            every third of a lease:  journal.leases()   -> the shards this node holds
taking a shard    store.claim_shard()      raises its epoch: no commit of whoever had it takes effect any more
storing           journal.wait -> journal.read -> store.commit(batch of one shard) -> on_stored -> journal.stored

A lease is a hint that decides who works; the epoch, which the transaction checks, decides who may. Nothing is removed
from the journal before the commit is through, so whoever takes a shard over begins with what is not stored, and the
store recognises by the mid what is stored already.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from aldis.bridge.journal_entries import UnreadableEntry, decode_entry
from aldis.broker.journal_ports import Answer, Entry, Journal, JournalUnavailable
from aldis.broker.ports import Batch, Committed, MidTaken, NewMessage, ShardLost, Store, Stored, StoreUnavailable

logger = logging.getLogger(__name__)

READ_BYTES = 8_388_608
"""Entries of one commit, about."""

WAIT = 0.5
"""Seconds, at most, to wait for new entries: so long may a shard that was just taken wait for its turn."""

LOOK_BACK = 20
"""Waits in vain after which a shard is read from its beginning: should the journal have lost everything, and the clock
have gone back, there may be entries before where we were."""

RENEWALS = 3
"""In the time of one lease."""

LEASES, STORING = "taking shards of the journal", "storing what the journal has accepted"

ATTEMPTS = 3
"""Of a message that the store refuses by itself, before it is set aside."""


class _Held:
    """A shard of ours: its epoch once it is claimed, how far we have stored, what could not be removed yet, and until
    when (loop time) it stands still because of an entry that can neither be stored nor set aside."""

    __slots__ = ("epoch", "position", "still_until", "untrimmed")

    def __init__(self) -> None:
        self.epoch = 0
        self.position = 0
        self.still_until = 0.0
        self.untrimmed: Entry | None = None


class _Lost(Exception):
    """The shard is not ours any more."""


class _Stuck(Exception):
    """An entry can neither be stored nor set aside."""


class Storer:
    """The storers of one node. `store` is for it alone: commits of the group commit run at the same time.

    `on_stored(batch, committed)` is called in the event loop for each commit, `on_corrected(message, stored)` where the
    store knows an older result than the one the sender was told. `limit` is messages of one commit, `retry` seconds
    between attempts, `lease` seconds.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        accepting: bool,
        lease: float,
        on_stored: Callable[[Batch, Committed], None],
        on_corrected: Callable[[NewMessage, Stored], None],
    ) -> None:
        self.name = secrets.token_hex(8)
        self.figures: Counter[str] = Counter(
            dict.fromkeys(("stored", "repeats", "corrected", "poisoned", "taken", "lost", "removed_late"), 0)
        )
        self.others = 0
        """Other nodes that accept into the journal, as of the last renewal."""
        self.renewed = asyncio.Event()
        """Set once leases were taken for the first time."""
        self._journal = journal
        self._store = store
        self._accepting = accepting
        self._lease = lease
        self._on_stored = on_stored
        self._on_corrected = on_corrected
        self._retry, self._limit = 0.5, 500
        self._held: dict[int, _Held] = {}
        self._busy: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._troubles: set[str] = set()
        self._idle = 0

    def configure(self, *, retry: float, limit: int) -> None:
        """Sets what may change at any time."""
        self._retry, self._limit = retry, limit

    @property
    def shards(self) -> int:
        """How many this node stores now."""
        return sum(held.epoch > 0 for held in self._held.values())

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep(LEASES, self._renew, self._lease / RENEWALS), name="journal leases"),
            loop.create_task(self._keep(STORING, self._store_round, 0.0), name="storers"),
        ]

    async def stop(self, timeout: float) -> None:
        """Ends after the commit under way, which has `timeout` seconds. The shards are free then. Never raises."""
        self._stopping = True
        if not self._tasks:
            return
        renewing, storing = self._tasks
        renewing.cancel()
        if self._busy is not None:
            await asyncio.wait([storing], timeout=timeout)
        storing.cancel()
        await asyncio.wait(self._tasks, timeout=1.0)
        with suppress(JournalUnavailable):
            await self._journal.leave(self.name)

    async def _keep(self, what: str, work: Callable[[], Awaitable[None]], pause: float) -> None:
        while not self._stopping:
            try:
                await work()
                self._well(what)
                seconds = pause
            except (JournalUnavailable, StoreUnavailable) as error:
                self._said(what, error)
                seconds = self._retry
            except Exception:
                # the other shards, and the next attempt, have their turn; what was not stored stays in the journal
                logger.exception("the storer failed")
                seconds = self._retry
            if seconds:
                await asyncio.sleep(seconds)

    def _said(self, what: str, error: Exception) -> None:
        """Once per trouble."""
        if what not in self._troubles:
            logger.warning("%s is held up: %s", what, error)
        self._troubles.add(what)

    def _well(self, what: str) -> None:
        if what in self._troubles:
            self._troubles.discard(what)
            logger.info("%s goes on", what)

    # Leases

    async def _renew(self) -> None:
        leases = await self._journal.leases(self.name, accepting=self._accepting)
        self.others = leases.accepting
        for shard in self._held.keys() - leases.held:
            self._lose(shard, "its lease ran out")
        for shard in leases.held - self._held.keys():
            self._held[shard] = _Held()
        if leases.surplus:
            spare = sorted(self._held.keys() - {self._busy}, reverse=True)[: leases.surplus]
            for shard in spare:
                del self._held[shard]
            await self._journal.give_up(self.name, spare)
        self.renewed.set()

    def _lose(self, shard: int, why: str) -> None:
        if self._held.pop(shard, None) is not None:
            self.figures["lost"] += 1
            logger.warning("this node does not store shard %d of the journal any more: %s", shard, why)

    # Storing

    async def _store_round(self) -> None:
        """One commit for each shard that has something, or a wait for the first one that has."""
        for shard, held in list(self._held.items()):
            if not held.epoch:
                held.epoch = await self._store.claim_shard(shard)
                self.figures["taken"] += 1
        self.figures["removed_late"] += await self._remove()
        now = asyncio.get_running_loop().time()
        positions = {
            shard: held.position for shard, held in self._held.items() if held.epoch and held.still_until <= now
        }
        if not positions:
            await asyncio.sleep(min(WAIT, self._retry))
            return
        behind = await self._journal.wait(positions, WAIT)
        self._idle = 0 if behind else self._idle + 1
        if self._idle >= LOOK_BACK:
            self._idle = 0
            for held in self._held.values():
                held.position = 0
        for shard in behind:
            mine = self._held.get(shard)
            if self._stopping or mine is None or not mine.epoch:
                continue
            self._busy = shard
            try:
                entries = await self._journal.read(shard, after=mine.position, limit=self._limit, size=READ_BYTES)
                await self._store_entries(shard, mine, entries)
            except _Lost:
                if self._held.get(shard) is mine and not self._stopping:
                    self._lose(shard, "another node has claimed it")
            except _Stuck as stuck:
                if not mine.still_until:
                    logger.error(
                        "shard %d of the journal stands still, its next message cannot be stored: %s", shard, stuck
                    )
                mine.still_until = asyncio.get_running_loop().time() + self._retry
            else:
                mine.still_until = 0.0
            finally:
                self._busy = None
        await self._remove()

    async def _store_entries(self, shard: int, held: _Held, entries: Sequence[Entry]) -> None:
        """All of them in one commit; where the store refuses that, in halves, so that only what is at fault is set
        aside. Nothing overtakes."""
        if not entries:
            return
        messages: list[NewMessage] = []
        for entry in entries:
            try:
                message = decode_entry(entry.data)
            except UnreadableEntry as error:
                await self._store_entries(shard, held, entries[: len(messages)])
                await self._set_aside(shard, held, entry, str(error))
                await self._store_entries(shard, held, entries[len(messages) + 1 :])
                return
            message.mid = entry.mid
            messages.append(message)
        refusal = await self._commit(shard, held, messages)
        if refusal is None:
            held.position = entries[-1].position
            held.untrimmed = entries[-1]
        elif len(entries) > 1:
            half = len(entries) // 2
            await self._store_entries(shard, held, entries[:half])
            await self._store_entries(shard, held, entries[half:])
        else:
            await self._set_aside(shard, held, entries[0], refusal)

    async def _commit(self, shard: int, held: _Held, messages: list[NewMessage]) -> str | None:
        """Waits for the store as long as it takes. Why it refuses these messages, None where they are stored. Raises
        `_Lost`."""
        batch = Batch(messages, shard=(shard, held.epoch))
        told = [message.mid for message in messages]
        refused = 0
        while True:
            try:
                committed = await self._store.commit(batch)
                break
            except StoreUnavailable as error:
                self._said(STORING, error)
            except ShardLost as error:
                raise _Lost from error
            except MidTaken as error:
                # after the journal has lost its memory while the clock went back; the store gives it another one
                batch = Batch([_without(message, error.mid) for message in messages], shard=batch.shard)
                messages = batch.messages
                logger.warning("a message of the journal gets another number: %s", error)
                continue
            except Exception as error:  # noqa: BLE001 - whatever the store has against them, it is told to the operator
                refused += 1
                logger.warning("the store refuses %d messages of the journal: %s", len(messages), type(error).__name__)
                if len(messages) > 1 or refused >= ATTEMPTS:
                    return f"{type(error).__name__}: {error}"[:500]
            if self._stopping or self._held.get(shard) is not held:
                raise _Lost
            await asyncio.sleep(self._retry)
        self._well(STORING)
        self.figures["stored"] += len(messages)
        try:
            self._on_stored(batch, committed)
        except Exception:
            logger.exception("on_stored failed; the storer goes on")
        for message, mid, stored in zip(messages, told, committed.stored, strict=True):
            if stored.repeated:
                self.figures["repeats"] += 1
            if stored.mid and stored.mid != mid:
                await self._correct(message, stored)
        return None

    async def _correct(self, message: NewMessage, stored: Stored) -> None:
        self.figures["corrected"] += 1
        self._on_corrected(message, stored)
        if message.id is not None:
            with suppress(JournalUnavailable):  # whoever repeats it meets the store again
                answer = Answer(stored.mid, stored.created, True)
                await self._journal.correct(message.sender, message.device, message.id, answer)

    async def _remove(self) -> int:
        """What is stored by now, of all shards at once; how many shards had something."""
        last = {shard: held.untrimmed for shard, held in self._held.items() if held.untrimmed is not None}
        if last:
            await self._journal.stored(last)
            for shard, entry in last.items():
                held = self._held.get(shard)
                if held is not None and held.untrimmed is entry:
                    held.untrimmed = None
        return len(last)

    async def _set_aside(self, shard: int, held: _Held, entry: Entry, reason: str) -> None:
        """Raises `_Stuck` where there is no room among the poisoned: without a trace no message is given up."""
        if not await self._journal.set_aside(shard, entry, reason):
            raise _Stuck(reason)
        held.position = entry.position
        self.figures["poisoned"] += 1
        logger.error("message %d of the journal cannot be stored and is set aside: %s", entry.mid, reason)


def _without(message: NewMessage, mid: int) -> NewMessage:
    if message.mid == mid:
        message.mid = 0
    return message
