"""The journals under contract: several nodes on one back end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.memory_journal import JournalBoard, MemoryJournal
from aldis.bridge.redis_journal import RedisJournal
from aldis.bridge.redis_journal_durability import Durability
from aldis.bridge.redis_server import RedisServer
from aldis.broker.journal_ports import Answer, Appended, Entry, Journal
from tests.contract.statuses import _contract_redis

SHARDS = 4


class Journals(Protocol):
    async def node(self, **bounds: int) -> Journal:
        """One more node on the same journal, open. Of different `bounds` each node keeps its own."""

    async def end(self) -> None:
        """Everything is closed."""


class MemoryJournals:
    def __init__(self) -> None:
        self._board = JournalBoard(SHARDS, lambda: time.time_ns() // 1_000_000)

    async def node(self, **bounds: int) -> Journal:
        journal = MemoryJournal(self._board, JournalBounds(**{"shards": SHARDS, **bounds}))
        await journal.open(newest=0)
        return journal

    async def end(self) -> None:
        """Nothing is held."""


class RedisJournals:
    """Whether that Redis would keep anything is another matter: `tests/redis`."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._prefix = f"journal{next(self._numbers)}"
        self._open: list[Journal] = []
        self._redis = _contract_redis()

    async def node(self, **bounds: int) -> Journal:
        server = RedisServer(self._redis.url, connect_timeout=10, answer_timeout=10)
        journal = RedisJournal(
            server, Durability(required=False), JournalBounds(**{"shards": SHARDS, **bounds}), prefix=self._prefix
        )
        await journal.open(newest=0)
        self._open.append(journal)
        return journal

    async def end(self) -> None:
        for journal in self._open:
            await journal.close()


JOURNALS: dict[str, Callable[[], Journals]] = {"memory": MemoryJournals, "redis": RedisJournals}


def message(number: int, shard: int = 0, **fields: object) -> Appended:
    given = {"sender": "ann", "device": "phone", "recipient": "bob", "created": 1_000 + number, "data": b"%d" % number}
    return Appended(shard, **{**given, **fields})  # type: ignore[arg-type]


class Writing:
    """A writer that numbers its batches."""

    def __init__(self, journal: Journal, name: str = "writer") -> None:
        self._journal = journal
        self._name = name
        self._number = 0

    async def __call__(self, *messages: Appended) -> list[Answer | None]:
        self._number += 1
        return await self._journal.append(self._name, self._number, messages)


async def read(
    journal: Journal, shard: int, *, after: int = 0, limit: int = 1_000, size: int = 1_000_000
) -> list[Entry]:
    """Of one shard."""
    return (await journal.read({shard: after}, limit=limit, size=size)).get(shard, [])


async def held(journal: Journal, shard: int = 0, after: int = 0) -> Sequence[bytes]:
    return [entry.data for entry in await read(journal, shard, after=after)]
