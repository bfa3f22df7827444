"""The journal of a cluster: how much may be accepted before the database has it, and what Redis must keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from aldis.config.section import Positive, Seconds, Section


class Journal(Section):
    shards: Annotated[int, Field(ge=1, le=256)] = 16
    """Queues, by recipient. Each is stored by one node at a time, so this is also how many nodes can share the work.
    The number cannot be changed once the journal is in use."""
    max_length: Positive = 100_000
    """Messages in one shard. At the limit no more of its recipients' are accepted: their senders' PUBLISHes stay
    unacknowledged, and reading from them stops at `limits.max_unacknowledged_bytes`."""
    max_bytes: Positive = 67_108_864
    """Bytes in one shard, likewise. Redis needs room for all shards, about twice what the messages have."""
    max_poison: Positive = 10_000
    """Messages set aside because they cannot be stored. Beyond them the shard that has one more stands still."""
    remember: Seconds = 3_600.0
    """Seconds for which Redis answers a repeated `id` by itself, and up to half as long again, about 130 bytes each;
    older ones the database finds. Longer than clients are usually away with something unacknowledged, and than most
    outages of a database."""
    lease: Seconds = 5.0
    """Seconds after which another node stores the shards of one that has died. It is renewed three times in that
    time."""
    flush_every_second: bool = False
    """Accept Redis with `appendfsync everysec`: it survives a crash of its own, but a power cut costs the last second,
    acknowledged messages included."""
    trust_durability: bool = False
    """Accept Redis that does not tell its settings (`CONFIG` is forbidden, as managed ones have it). It must keep what
    it acknowledges, and evict nothing."""
    replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas of Redis that must have a message before it is acknowledged (`WAIT`): a failover then costs nothing.
    Where fewer answer nothing is acknowledged."""
    replica_timeout: Seconds = 0.5
    """Seconds that replicas have for that, before they are asked again."""


def journal_problems(
    journal: Journal, *, max_packet_size: int, answer_timeout: float
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below `cluster.journal`, and why."""
    if journal.max_bytes < max_packet_size:
        yield ("max_bytes",), "must not be less than limits.max_packet_size"
    if journal.replica_timeout >= answer_timeout:
        yield ("replica_timeout",), f"must be less than cluster.answer_timeout ({answer_timeout:g})"
    if journal.lease < answer_timeout:
        yield ("lease",), f"must not be less than cluster.answer_timeout ({answer_timeout:g})"
    if journal.trust_durability and journal.flush_every_second:
        yield ("flush_every_second",), "has no meaning with cluster.journal.trust_durability"
