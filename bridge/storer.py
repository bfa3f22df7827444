"""Storers: they move what the journal has accepted into the store, each shard by one node at a time.

leases            every third of a lease:  journal.leases()   -> the shards this node holds
taking a shard    store.claim_shard()      raises its epoch: no commit of whoever had it takes effect any more
storing           journal.read -> store.commit(one batch of all these shards) -> on_stored -> journal.stored
nothing there     journal.wait

A lease is a hint that decides who works; the epoch, which the transaction checks, decides who may. Nothing is removed
from the journal before the commit is through, so whoever takes a shard over begins with what is not stored, and the
store recognises by the mid what is stored already. A node that does not reach the store for as long as a lease leaves
its shards to those that may.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from aldis.bridge.storer_pieces import Held, Piece, batch_of
from aldis.broker.journal_ports import Answer, Entry, Journal, JournalUnavailable
from aldis.broker.ports import Batch, Committed, MidTaken, NewMessage, ShardLost, Store, Stored, StoreUnavailable

logger = logging.getLogger(__name__)

READ_BYTES = 8_388_608
"""Entries of one commit, about."""

WAIT = 0.5
"""Seconds, at most, to wait for new entries: so long may a shard that was just taken wait for its turn."""

REMOVE_EVERY = 0.05
"""Seconds, at least, between two removals while there is always something to store: each costs Redis a flush. What is
not removed yet when a node dies is met again, and recognised."""

LINGERS = 4
"""Longer than the group commit: here no sender waits for an acknowledgement."""

LOOK_BACK = 20
"""Waits in vain after which a shard is read from its beginning: should the journal have lost everything, and the clock
have gone back, there may be entries before where we were."""

RENEWALS = 3
"""In the time of one lease."""

LEASES, STORING = "taking shards of the journal", "storing what the journal has accepted"

ATTEMPTS = 3
"""Of a message that the store refuses by itself, before it is set aside."""


class Storer:
    """The storers of one node. `store` is for it alone: commits of the group commit run at the same time.

    `on_stored(batch, committed)` is called in the event loop for each commit, `on_corrected(message, stored)` where the
    store knows an older result than the one the sender was told. `limit` is messages of one commit, about, `retry`
    seconds between attempts, `lease` seconds. While commits follow one another each waits for as long as the last one
    took, at most `LINGERS` times `linger` seconds, so that more messages share it.
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
        self._retry, self._limit, self._linger = 0.5, 500, 0.0
        self._held: dict[int, Held] = {}
        self._busy = False
        self._surplus = 0
        self._remove_at = 0.0
        self._removed_late = False
        self._away_since: float | None = None
        self._renew_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._troubles: set[str] = set()
        self._idle = 0

    def configure(self, *, retry: float, limit: int, linger: float = 0.0) -> None:
        """Sets what may change at any time."""
        self._retry, self._limit, self._linger = retry, limit, linger

    @property
    def shards(self) -> int:
        """How many this node stores now."""
        return sum(held.epoch > 0 for held in self._held.values())

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_leases(), name="journal leases"),
            loop.create_task(self._keep_storing(), name="storers"),
        ]

    async def stop(self, timeout: float) -> None:
        """Ends after the commit under way, which has `timeout` seconds. The shards are free then. Never raises."""
        self._stopping = True
        if not self._tasks:
            return
        renewing, storing = self._tasks
        renewing.cancel()
        if self._busy:
            await asyncio.wait([storing], timeout=timeout)
        storing.cancel()
        await asyncio.wait(self._tasks, timeout=1.0)
        with suppress(JournalUnavailable):
            await self._remove()
            await self._journal.leave(self.name)

    async def _keep_leases(self) -> None:
        while not self._stopping:
            seconds = self._lease / RENEWALS if await self._try(LEASES, self._renew) else self._retry
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._renew_now.wait()
            self._renew_now.clear()

    async def _keep_storing(self) -> None:
        while not self._stopping:
            if not await self._try(STORING, self._store_round):
                await asyncio.sleep(self._retry)

    async def _try(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except StoreUnavailable as error:
            self._away(error)
        except JournalUnavailable as error:
            self._said(what, error)
        except Exception:
            # the next attempt has its turn; what was not stored stays in the journal
            logger.exception("the storer failed")
        else:
            self._well(what)
            return True
        return False

    def _away(self, error: StoreUnavailable) -> None:
        """The store does not answer us."""
        self._said(STORING, error)
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()

    def _there(self) -> None:
        """It does."""
        if self._away_since is not None:
            self._away_since = None
            self._well(STORING)
            self._renew_now.set()

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
        away = self._away_since
        storing = away is None or asyncio.get_running_loop().time() < away + self._lease
        leases = await self._journal.leases(self.name, accepting=self._accepting, storing=storing)
        self.others = leases.accepting
        if not storing and self._held:
            logger.warning("this node leaves %d shards of the journal to others, if they reach the store", self.shards)
            self.figures["lost"] += len(self._held)
            self._held.clear()
        for shard in self._held.keys() - leases.held:
            self._lose(shard, "its lease ran out")
        for shard in leases.held - self._held.keys():
            self._held[shard] = Held(shard)
        self._surplus = leases.surplus
        if not self._busy:
            await self._give_up_surplus()
        self.renewed.set()

    async def _give_up_surplus(self) -> None:
        """Not in the middle of a commit: who takes a shard over would wait for it."""
        spare = sorted(self._held, reverse=True)[: self._surplus]
        self._surplus = 0
        for shard in spare:
            del self._held[shard]
        if spare:
            await self._journal.give_up(self.name, spare)

    def _lose(self, shard: int, why: str) -> None:
        if self._held.pop(shard, None) is not None:
            self.figures["lost"] += 1
            logger.warning("this node does not store shard %d of the journal any more: %s", shard, why)

    # Storing

    async def _store_round(self) -> None:
        """One commit of what the shards have, or a wait for the first one that has something."""
        await self._give_up_surplus()
        if self._away_since is not None and not self._held:
            await self._store.highest_mid()  # raises while it is away
            self._there()
        for held in list(self._held.values()):
            if not held.epoch:
                held.epoch = await self._store.claim_shard(held.shard)
                self._there()
                self.figures["taken"] += 1
        now = asyncio.get_running_loop().time()
        if now >= self._remove_at:
            await self._remove()
        ready: dict[int, int] = {}
        for shard, held in self._held.items():
            held.stuck = now < held.still_until
            if held.epoch and not held.stuck:
                ready[shard] = held.position
        if not ready:
            await asyncio.sleep(min(WAIT, self._retry))
            return
        found = await self._journal.read(ready, limit=self._limit, size=READ_BYTES)
        if not found:
            await self._remove()
            await self._wait(ready)
            return
        begun = asyncio.get_running_loop().time()
        self._busy = True
        try:
            await self._store_pieces(self._pieces(found))
        finally:
            self._busy = False
        if self._linger and not self._stopping:
            await asyncio.sleep(min(LINGERS * self._linger, asyncio.get_running_loop().time() - begun))

    async def _wait(self, positions: Mapping[int, int]) -> None:
        behind = await self._journal.wait(positions, WAIT)
        self._idle = 0 if behind else self._idle + 1
        if self._idle >= LOOK_BACK:
            self._idle = 0
            for held in self._held.values():
                held.position = 0

    def _pieces(self, found: Mapping[int, Sequence[Entry]]) -> list[Piece]:
        """In the order in which they were accepted, which in each shard is that of their positions."""
        pieces = []
        for shard, entries in found.items():
            held = self._held.get(shard)
            if held is not None:
                pieces += [Piece(held, entry) for entry in entries]
        pieces.sort(key=lambda piece: piece.entry.position)
        return pieces

    async def _store_pieces(self, pieces: list[Piece]) -> None:
        """All of them in one commit; where the store refuses that, in halves, so that only what is at fault is set
        aside. Within a shard nothing overtakes."""
        todo = [pieces]  # the last one is the next
        while todo and not self._stopping:
            part = [piece for piece in todo.pop() if self._goes_on(piece.held)]
            if not part:
                continue
            unreadable = next((at for at, piece in enumerate(part) if piece.message is None), None)
            if unreadable == 0:
                await self._set_aside(part[0], part[0].fault)
                todo.append(part[1:])
            elif unreadable is not None:
                todo += [part[unreadable:], part[:unreadable]]
            elif (refusal := await self._commit(part)) is not None:
                if len(part) > 1:
                    half = len(part) // 2
                    todo += [part[half:], part[:half]]
                else:
                    await self._set_aside(part[0], refusal)

    def _goes_on(self, held: Held) -> bool:
        """Whether the shard is still ours, and does not stand still."""
        return self._held.get(held.shard) is held and not held.stuck

    async def _commit(self, part: list[Piece]) -> str | None:
        """Waits for the store as long as it takes. Why it refuses these messages, None where they are stored, except
        for those whose shards are not ours any more."""
        batch = batch_of(part)
        refused = 0
        while True:
            try:
                committed = await self._store.commit(batch)
                break
            except StoreUnavailable as error:
                # the same batch again, whatever becomes of our leases meanwhile: only so the store can tell whether it
                # is there, and it refuses what is not ours any more
                self._away(error)
            except ShardLost as error:
                self._there()
                self._lose_claimed(part, error.shards)
                part[:] = [piece for piece in part if piece.held.shard not in error.shards]
                if not part:
                    return None
                batch = batch_of(part)
                continue
            except MidTaken as error:
                # after the journal has lost its memory while the clock went back; the store gives it another one
                logger.warning("a message of the journal gets another number: %s", error)
                for message in batch.messages:
                    if message.mid == error.mid:
                        message.mid = 0
                batch = batch_of(part)
                continue
            except Exception as error:  # noqa: BLE001 - whatever the store has against them, it is told to the operator
                self._there()
                refused += 1
                logger.warning("the store refuses %d messages of the journal: %s", len(part), type(error).__name__)
                if len(part) > 1 or refused >= ATTEMPTS:
                    return f"{type(error).__name__}: {error}"[:500]
            if self._stopping:
                return None
            await asyncio.sleep(self._retry)
        self._there()
        await self._stored(part, batch, committed)
        return None

    async def _stored(self, part: Sequence[Piece], batch: Batch, committed: Committed) -> None:
        for piece in part:
            piece.held.position = piece.entry.position
            piece.held.untrimmed = piece.entry
        self.figures["stored"] += len(part)
        try:
            self._on_stored(batch, committed)
        except Exception:
            logger.exception("on_stored failed; the storer goes on")
        for piece, message, stored in zip(part, batch.messages, committed.stored, strict=True):
            if stored.repeated:
                self.figures["repeats"] += 1
            if stored.mid and stored.mid != piece.entry.mid:
                await self._correct(message, stored)

    async def _correct(self, message: NewMessage, stored: Stored) -> None:
        self.figures["corrected"] += 1
        self._on_corrected(message, stored)
        if message.id is not None:
            with suppress(JournalUnavailable):  # whoever repeats it meets the store again
                answer = Answer(stored.mid, stored.created, True)
                await self._journal.correct(message.sender, message.device, message.id, answer)

    def _lose_claimed(self, part: Sequence[Piece], shards: frozenset[int]) -> None:
        for shard in sorted(shards):
            if any(piece.held is self._held.get(shard) for piece in part):
                self._lose(shard, "another node has claimed it")

    async def _remove(self) -> None:
        """What is stored by now, of all shards at once."""
        last = {shard: held.untrimmed for shard, held in self._held.items() if held.untrimmed is not None}
        if last:
            try:
                await self._journal.stored(last)
            except JournalUnavailable:
                self._removed_late = True
                raise
            self._remove_at = asyncio.get_running_loop().time() + REMOVE_EVERY
            self.figures["removed_late"] += self._removed_late * len(last)
            self._removed_late = False
            for shard, entry in last.items():
                held = self._held.get(shard)
                if held is not None and held.untrimmed is entry:
                    held.untrimmed = None

    async def _set_aside(self, piece: Piece, reason: str) -> None:
        """Where there is no room among the poisoned the shard stands still: without a trace no message is given up."""
        held, entry = piece.held, piece.entry
        if not await self._journal.set_aside(held.shard, entry, reason):
            if not held.still_until:
                logger.error(
                    "shard %d of the journal stands still, its next message cannot be stored: %s", held.shard, reason
                )
            held.stuck = True
            held.still_until = asyncio.get_running_loop().time() + self._retry
            return
        held.position = entry.position
        held.still_until = 0.0
        self.figures["poisoned"] += 1
        logger.error("message %d of the journal cannot be stored and is set aside: %s", entry.mid, reason)
