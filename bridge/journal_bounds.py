"""How large a journal may grow, and how long it remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JournalBounds:
    """`max_length` (entries) and `max_bytes` (of entries) are for each shard, `max_poison` for all entries set aside.
    `remember`, `lease` and `replica_timeout` are milliseconds: how long ids and counters are known after their last
    use, how long a storer counts as living, how long `replicas` replicas have to take what was appended."""

    shards: int = 16
    max_length: int = 100_000
    max_bytes: int = 67_108_864
    max_poison: int = 10_000
    remember: int = 3_600_000
    lease: int = 5_000
    replicas: int = 0
    replica_timeout: int = 500
