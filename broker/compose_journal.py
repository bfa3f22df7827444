"""The composition root's part for the journal: who accepts into it, who stores what is in it, who only empties it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_entries import UnreadableEntry, decode_entry
from aldis.bridge.journal_writer import JournalWriter
from aldis.bridge.redis_journal import RedisJournal
from aldis.bridge.redis_journal_durability import Durability
from aldis.bridge.storer import Storer
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.acceptance import Acceptance
from aldis.broker.compose_cluster import redis_server
from aldis.broker.compose_store import StartFailed, open_store
from aldis.broker.inboxes import Inboxes
from aldis.broker.journal_ports import JournalRefused, JournalUnavailable
from aldis.broker.ports import Store

if TYPE_CHECKING:
    from aldis.config.cluster import Cluster as ClusterSettings
    from aldis.config.limits import Limits, Timeouts
    from aldis.config.settings import Settings

logger = logging.getLogger(__name__)

GOES_ON = "messages are acknowledged by the journal, and neither delivered nor read until it is back"
"""What it means that the store takes nothing."""

_LOOK_EVERY = 0.5
_SAY_EVERY = 10.0
_ANSWERS_WITHIN = 5.0
"""Seconds in which a journal that is there has given this node its part of it."""


class JournalSide:
    """The journal of one node: its writer, where the node accepts into it, and its storers."""

    def __init__(
        self,
        journal: RedisJournal,
        storer: Storer,
        store: Store,
        writer: JournalWriter | None,
        now_ms: Callable[[], int],
    ) -> None:
        self.journal = journal
        self.storer = storer
        self.writer = writer
        self._store = store
        self._now_ms = now_ms

    def start(self) -> None:
        """To be called when wake-ups can leave for other nodes."""
        self.storer.start()
        if self.writer is not None:
            self.writer.start()

    def configure(self, limits: Limits, timeouts: Timeouts) -> None:
        for one in (self.storer, self.writer):
            if one is not None:
                one.configure(retry=timeouts.commit_retry, limit=limits.commit_batch, linger=timeouts.commit_linger)

    async def emptied(self, seconds: float) -> None:
        """Where this node does not accept into the journal: returns when nothing is in it and nobody else puts anything
        there, so that no message overtakes one that was accepted before. Raises `StartFailed` after `seconds`; returns
        if the journal does not answer then: nobody knows what is in it."""
        if self.writer is not None:
            return
        loop = asyncio.get_running_loop()
        begun, said = loop.time(), float("-inf")
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERS_WITHIN):
                await self.storer.renewed.wait()
        while True:
            waiting, text = await self._left_in_it()
            if waiting == 0:
                return
            if loop.time() >= begun + seconds:
                if waiting is None:
                    logger.warning("it is not known whether the journal is empty: %s", text)
                    return
                raise StartFailed(f"store.accept is commit, but {text} (waited {seconds:g} s)")
            if loop.time() >= said + _SAY_EVERY:
                said = loop.time()
                logger.warning("waiting for the journal to be emptied: %s", text)
            await asyncio.sleep(_LOOK_EVERY)

    async def _left_in_it(self) -> tuple[int | None, str]:
        """Messages in the journal and others that accept into it, None where nobody can say; and what that means."""
        try:
            entries = sum(one.entries for one in await self.journal.lengths())
        except JournalUnavailable as error:
            return None, str(error)
        if not self.storer.renewed.is_set():
            return None, "this node has not got its part of it yet"
        others = self.storer.others
        return entries + others, f"{entries} messages are in the journal, and {others} other nodes accept into it"

    def counters(self) -> Mapping[str, int]:
        return {f"journal_{name}": count for name, count in self.storer.figures.items()}

    async def gauges(self) -> Mapping[str, float]:
        """As of now; what only Redis knows is left out while it is away."""
        found: dict[str, float] = {"journal_shards_stored_here": self.storer.shards}
        if self.writer is not None:
            found["journal_unaccepted"] = self.writer.unaccepted
            found["journal_accepting"] = self.writer.accepting
        try:
            lengths, poison = await self.journal.lengths(), await self.journal.poison_length()
        except JournalUnavailable:
            return found
        oldest = min((one.oldest for one in lengths if one.entries), default=0)
        now = self._now_ms()
        found["journal_length"] = sum(one.entries for one in lengths)
        found["journal_bytes"] = sum(one.bytes for one in lengths)
        found["journal_fullest_shard"] = max(one.entries for one in lengths)
        found["journal_lag_seconds"] = max(0, now - oldest) / 1_000 if oldest else 0.0
        found["journal_poison"] = poison
        return found

    async def drained(self) -> None:
        """Whatever was handed over is accepted."""
        if self.writer is not None:
            await self.writer.drained()

    async def close(self, timeout: float) -> None:
        """What is accepted and not stored is left to the other nodes, or to the next start."""
        if self.writer is not None:
            await self.writer.stop(timeout / 2)
        await self.storer.stop(timeout / 2)
        await self.journal.close()
        await self._store.close()


async def open_journal(settings: Settings, inboxes: Inboxes, group: GroupCommit) -> JournalSide | None:
    """What this node has to do with the journal, nothing running yet: None where it has none and has never had one.
    Raises `StartFailed`, `StoreUnavailable`."""
    cluster = settings.cluster
    if cluster is None:
        return None
    accepting = settings.store.accept == "journal"
    shards = cluster.journal.shards if accepting else await _shards_in_use(cluster)
    if not shards:
        return None
    journal = make_journal(cluster, shards, checked=accepting)
    try:
        await _open_when_there(journal, await inboxes.store.highest_mid(), settings.store.wait_at_start)
        store = await open_store(settings, WriteTurn(), migrating=False)
    except BaseException:
        await journal.close()
        raise
    acceptance = Acceptance(inboxes, journal)
    storer = Storer(
        journal,
        store,
        accepting=accepting,
        lease=cluster.journal.lease,
        on_stored=inboxes.committed,
        on_corrected=acceptance.corrected,
    )
    writer = None
    if accepting:
        inboxes.acceptance = acceptance
        figures = inboxes.node.figures
        writer = JournalWriter(
            journal,
            group,
            on_accepted=acceptance.accepted,
            on_unavailable=acceptance.refused,
            on_recovered=acceptance.recovered,
            on_full=acceptance.full,
            on_measured=lambda seconds, _: figures.accept_seconds.observe(seconds),
        )
        inboxes.writer = writer
        group.meanwhile = GOES_ON
    side = JournalSide(journal, storer, store, writer, inboxes.now_ms)
    side.configure(settings.limits, settings.timeouts)
    return side


def make_journal(cluster: ClusterSettings, shards: int, *, checked: bool = True) -> RedisJournal:
    """Not open yet. Without `checked` Redis may be set to lose what is in it. Raises `StartFailed`."""
    settings = cluster.journal
    bounds = JournalBounds(
        shards=shards,
        max_length=settings.max_length,
        max_bytes=settings.max_bytes,
        max_poison=settings.max_poison,
        remember=round(settings.remember * 1_000),
        lease=round(settings.lease * 1_000),
        replicas=settings.replicas,
        replica_timeout=round(settings.replica_timeout * 1_000),
    )
    durability = Durability(
        required=checked, flush_every_second=settings.flush_every_second, trusted=settings.trust_durability
    )
    return RedisJournal(redis_server(cluster), durability, bounds, prefix=cluster.prefix)


async def existing_journal(settings: Settings) -> RedisJournal:
    """The one that is in Redis, for an operator. Raises `StartFailed` where there is none, `JournalUnavailable`."""
    if settings.cluster is None:
        raise StartFailed("a process without cluster has no journal")
    journal = make_journal(settings.cluster, settings.cluster.journal.shards, checked=False)
    try:
        shards = await journal.shards_in_use()
    finally:
        await journal.close()
    if not shards:
        raise StartFailed("there is no journal in this Redis")
    return make_journal(settings.cluster, shards, checked=False)


def describe_entry(data: bytes) -> dict[str, object]:
    """For an operator: all but the content."""
    try:
        message = decode_entry(data)
    except UnreadableEntry as error:
        return {"entry": f"{error} ({len(data)} bytes)"}
    return {
        "from": f"{message.sender}, device {message.device}",
        "to": message.recipient,
        "id": message.id if message.id is not None else "none",
        "content": f"{len(message.content)} bytes",
    }


async def _shards_in_use(cluster: ClusterSettings) -> int:
    """Of the journal that is in Redis, 0 if there is none, or nobody knows: Redis that is away holds up nobody who does
    not need it."""
    journal = make_journal(cluster, cluster.journal.shards, checked=False)
    try:
        return await journal.shards_in_use()
    except JournalUnavailable as error:
        logger.warning("it is not known whether there is anything in a journal: %s", error)
        return 0
    finally:
        await journal.close()


async def _open_when_there(journal: RedisJournal, newest: int, seconds: float) -> None:
    """As with the database: nobody need care in which order things start. Raises `StartFailed`."""
    loop = asyncio.get_running_loop()
    begun, said = loop.time(), float("-inf")
    while True:
        try:
            return await journal.open(newest=newest)
        except JournalRefused as error:
            raise StartFailed(str(error)) from error
        except JournalUnavailable as error:
            if loop.time() >= begun + seconds:
                raise StartFailed(f"{error} (waited {seconds:g} s)") from error
            if loop.time() >= said + _SAY_EVERY:
                said = loop.time()
                logger.warning("waiting for the journal: %s", error)
        await asyncio.sleep(_LOOK_EVERY)
