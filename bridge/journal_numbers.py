"""The numbers of the journal: which shard a recipient's messages go to, and which mid comes next there. Pure.

    mid  =  slot * SLOT  +  shard * step        step: SLOT / shards, rounded down to an even number

A slot is a millisecond since 2020, or the one after the shard's last where several messages come in one millisecond. So
mids rise within a shard, also after the journal has lost its memory (time goes on); those of two shards never meet; and
all are even: the store itself gives odd ones only (`NewMessage.mid`).
"""

from __future__ import annotations

from zlib import crc32

EPOCH = 1_577_836_800_000
"""2020-01-01 in Unix milliseconds. Slots stay below 2**53 / `SLOT` until 2089."""

SLOT = 4_096
"""Mids in one slot, of which each shard uses one: few enough that there is a slot for every millisecond."""

MAX_SHARDS = 256
MAX_AHEAD = 10 * 365 * 86_400_000
"""Milliseconds by which mids may run ahead of the clock before we say that something is wrong."""


def shard_of(recipient: str, shards: int) -> int:
    """The same in every process, for ever: the order in an inbox depends on it."""
    return crc32(recipient.encode()) % shards


def next_mid(last: int, now: int, shard: int, shards: int) -> int:
    """The next mid of a shard whose last one, or whatever must not be reached again, is `last`; `now` in Unix
    milliseconds."""
    slot = max(now - EPOCH, last // SLOT + 1)
    return slot * SLOT + shard * step(shards)


def step(shards: int) -> int:
    """Between the mids of neighbouring shards."""
    return SLOT // shards // 2 * 2


def accepted_at(mid: int) -> int:
    """The Unix milliseconds of a mid: when it was given, or a little later where many came at once."""
    return mid // SLOT + EPOCH


def is_plausible(newest: int, now: int) -> bool:
    """Whether mids above `newest` leave room for the years to come."""
    return newest // SLOT + EPOCH <= now + MAX_AHEAD


def share_of(shards: int, living: int) -> int:
    """The shards that one of so many storers may hold."""
    return -(-shards // max(1, living))


def too_far(newest: int) -> str:
    """What to say where it is not."""
    return f"the highest message number in the database, {newest}, is years ahead: is this machine's clock right?"
