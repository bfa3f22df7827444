"""The journal on Redis: one stream per shard, which only scripts change (`redis_journal_scripts`).

What a reader has seen is not kept in Redis, in a consumer group or elsewhere: whoever may read a shard begins at its
oldest entry, and what is stored is gone (ADR-0013).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import redis
from redis.asyncio import Redis

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_numbers import MAX_SHARDS, accepted_at, is_plausible, too_far
from aldis.bridge.redis_journal_durability import Durability, WeakServer
from aldis.bridge.redis_journal_leases import GIVE_UP, LEASES
from aldis.bridge.redis_journal_scripts import (
    APPEND,
    CORRECT,
    FIND,
    LENGTHS,
    PLACE,
    PUT_BACK,
    READ,
    SET_ASIDE,
    STORED,
)
from aldis.bridge.redis_script import Script
from aldis.bridge.redis_server import RedisServer
from aldis.broker.journal_ports import (
    Answer,
    Appended,
    Entry,
    JournalRefused,
    JournalUnavailable,
    Leases,
    Length,
    Poisoned,
)

TROUBLE = (redis.RedisError, OSError, TimeoutError)

CONNECTIONS = 3
"""To append, to take out, and to answer whoever asks; one more waits for new entries."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


class RedisJournal:
    """Keeps `aldis.broker.journal_ports.Journal`.

    With `replicas` an `append` is answered when so many replicas have it, too; where fewer say so in time it raises
    `JournalUnavailable`, and its repetition asks them again.
    """

    def __init__(
        self, server: RedisServer, durability: Durability, bounds: JournalBounds, *, prefix: str = "aldis"
    ) -> None:
        if not 1 <= bounds.shards <= MAX_SHARDS:
            raise ValueError(f"a journal has 1 to {MAX_SHARDS} shards")
        self.shards = bounds.shards
        self._bounds = bounds
        self._name = server.name
        self._prefix = prefix
        self._floor = 0
        # Beside the time-outs of each step, for all of them: a connection to wait for, a session, the answer.
        self._bound = server.connect_timeout + server.answer_timeout
        self._longest_wait = server.answer_timeout / 2
        self._client = server.client(size=CONNECTIONS, on_connect=durability.check)
        self._watching = server.client(size=1)

    async def open(self, *, newest: int) -> None:
        if not is_plausible(newest, time.time_ns() // 1_000_000):
            raise JournalRefused(too_far(newest))
        self._floor = max(self._floor, newest)
        try:
            kept = await self._do(self._agree_on_shards())
        except JournalUnavailable as error:
            if isinstance(error.__cause__, WeakServer):
                raise JournalRefused(f"Redis at {self._name}: {error.__cause__}") from error
            raise
        if kept != self.shards:
            raise JournalRefused(
                f"the journal in Redis at {self._name} has {kept} shards, not {self.shards}: cluster.journal.shards"
                f" cannot be changed while the key {self._key('shards')} is there"
            )

    async def _agree_on_shards(self) -> int:
        await self._client.set(self._key("shards"), self.shards, nx=True)
        return int(await self._client.get(self._key("shards")) or 0)

    async def shards_in_use(self) -> int:
        """Of the journal that is there, 0 if there is none; no need to be open."""
        return int(await self._do(self._client.get(self._key("shards"))) or 0)

    async def close(self) -> None:
        for client in (self._client, self._watching):
            try:
                await client.aclose()
            except TROUBLE:
                continue  # it is gone either way

    # Appending

    async def append(self, writer: str, number: int, messages: Sequence[Appended]) -> list[Answer | None]:
        fields: list[object] = []
        for one in messages:
            device = f"{one.sender}\0{one.device}"
            fields += (one.shard, device, one.recipient, one.created, len(one.data), one.id or "", one.seq or 0)
        bounds = (self._bounds.remember, self._bounds.max_length, self._bounds.max_bytes, self._floor)
        arguments = (writer, number, self.shards, *bounds, _encode(fields), b"".join([one.data for one in messages]))
        raw = await (self._replicated(APPEND, *arguments) if self._bounds.replicas else self._run(APPEND, *arguments))
        numbers = iter(_decode(raw))
        answers: list[Answer | None] = []
        for mid, created, repeated in zip(numbers, numbers, numbers, strict=True):
            answers.append(None if mid < 0 else Answer(mid, created, repeated == 1))
            if mid > self._floor:
                self._floor = mid
        return answers

    async def correct(self, sender: str, device: str, id: str, answer: Answer) -> None:
        value = f"{answer.mid} {answer.created}"
        await self._run(CORRECT, self._bounds.remember, f"{sender}\0{device}\0{id}", value)

    async def find(self, sender: str, device: str, id: str) -> Answer | None:
        value = await self._run(FIND, self._bounds.remember, f"{sender}\0{device}\0{id}")
        if value is None:
            return None
        mid, created = value.split()
        return Answer(int(mid), int(created), True)

    async def last_seq(self, sender: str, device: str, recipient: str) -> int:
        return int(await self._do(self._client.hget(self._key(f"seq:{sender}\0{device}"), recipient)) or 0)

    async def forget_device(self, sender: str, device: str) -> None:
        await self._do(self._client.delete(self._key(f"seq:{sender}\0{device}")))

    # Storing

    async def read(self, after: Mapping[int, int], *, limit: int, size: int) -> dict[int, list[Entry]]:
        numbers, kept = await self._run(READ, limit, size, PLACE, *[number for one in after.items() for number in one])
        following = iter(_decode(numbers))
        found: dict[int, list[Entry]] = {}
        at = 0
        for shard in following:
            entries = found.setdefault(shard, [])
            for _ in range(next(following)):
                position, mid, begin = next(following), next(following), at
                at += next(following)
                entries.append(Entry(position, mid, int(kept[begin : begin + PLACE] or 0), kept[begin + PLACE : at]))
        return {shard: entries for shard, entries in found.items() if entries}

    async def wait(self, after: Mapping[int, int], seconds: float) -> list[int]:
        keys = {self._key(str(shard)): shard for shard in after}
        seen = [f"{position}-0" for position in after.values()]
        block = max(1, round(min(seconds, self._longest_wait) * 1_000))
        found = await self._do(
            self._watching.execute_command("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *keys, *seen)  # type: ignore[no-untyped-call]
        )
        return [keys[str(name, "utf-8")] for name, _ in found or ()]

    async def stored(self, last: Mapping[int, Entry]) -> None:
        numbers = [number for shard, entry in last.items() for number in (shard, entry.position, entry.place)]
        await self._run(STORED, *numbers)

    async def leases(self, storer: str, *, accepting: bool, storing: bool = True) -> Leases:
        what = (storer, self._bounds.lease, self.shards, int(accepting), int(storing))
        others, surplus, *held = await self._run(LEASES, *what)
        return Leases(frozenset(held), surplus, others)

    async def give_up(self, storer: str, shards: Sequence[int]) -> None:
        await self._run(GIVE_UP, storer, 0, *shards)

    async def leave(self, storer: str) -> None:
        await self._run(GIVE_UP, storer, 1, *range(self.shards))

    # For the operator

    async def lengths(self) -> list[Length]:
        fields = iter(await self._run(LENGTHS, self.shards))
        return [
            Length(int(entries), int(size), accepted_at(int(oldest)) if int(oldest) else 0)
            for entries, size, oldest in zip(fields, fields, fields, strict=True)
        ]

    async def set_aside(self, shard: int, entry: Entry, reason: str) -> bool:
        place = (shard, entry.position, entry.mid, entry.place)
        return bool(await self._run(SET_ASIDE, *place, self._bounds.max_poison, reason, entry.data))

    async def poisoned(self, *, limit: int) -> list[Poisoned]:
        found = await self._do(self._client.xrange(self._key("poison"), count=limit))
        return [
            Poisoned(str(number, "ascii"), int(of[b"s"]), int(of[b"m"]), str(of[b"r"], "utf-8", "replace"), of[b"d"])
            for number, of in found
        ]

    async def poison_length(self) -> int:
        return int(await self._do(self._client.xlen(self._key("poison"))))

    async def put_back(self, number: str) -> bool:
        return bool(await self._run(PUT_BACK, number, self.shards, self._floor))

    async def drop(self, number: str) -> bool:
        return bool(await self._do(self._client.xdel(self._key("poison"), number)))

    # Redis

    def _key(self, name: str) -> str:
        return f"{self._prefix}:journal:{name}"

    async def _run(self, script: Script, *arguments: str | bytes | int) -> Any:
        return await self._do(_evaluate(self._client, script, (self._prefix, *arguments)))

    async def _replicated(self, script: Script, *arguments: str | bytes | int) -> Any:
        """Both on one connection: WAIT waits for what was written there."""
        for command, what in (("EVALSHA", script.sha), ("EVAL", script.source)):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.execute_command(command, what, 0, self._prefix, *arguments)
            pipeline.execute_command("WAIT", self._bounds.replicas, self._bounds.replica_timeout)
            answer, replicas = await self._do(pipeline.execute(raise_on_error=False))
            if isinstance(answer, redis.exceptions.NoScriptError):
                continue
            for each in (answer, replicas):
                if isinstance(each, Exception):
                    raise self._unavailable(each) from each
            if replicas < self._bounds.replicas:
                raise JournalUnavailable(
                    f"Redis at {self._name}: {replicas} of {self._bounds.replicas} replicas have what was appended"
                )
            return answer
        raise JournalUnavailable(f"Redis at {self._name} forgets scripts")

    async def _do(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self._bound):
                return await work
        except TROUBLE as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> JournalUnavailable:
        return JournalUnavailable(f"Redis at {self._name}: {str(error) or type(error).__name__}")


async def _evaluate(client: Redis, script: Script, arguments: Sequence[str | bytes | int]) -> Any:
    try:
        return await client.execute_command("EVALSHA", script.sha, 0, *arguments)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoScriptError:  # the first time, and after a restart
        return await client.execute_command("EVAL", script.source, 0, *arguments)  # type: ignore[no-untyped-call]
