"""Contents in memory: the twin of the real storages, for tests."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable

from aldis.bridge.blobs import BLOCK, BlobMissing, Found, StorageFull, StorageUnavailable, checked


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


class MemoryBlobs:
    """`room` bytes in all. See `Blobs`."""

    def __init__(self, *, room: int = 2**40, now: Callable[[], int] = _wall_clock) -> None:
        self.contents: dict[str, tuple[bytes, int]] = {}
        self.unfinished: dict[str, tuple[bytearray, int]] = {}
        self.room = room
        self.now = now
        self._mark = secrets.token_hex(16)

    async def open(self) -> None:
        """There is nothing to open."""

    async def writer(self, name: str) -> _Writer:
        self.unfinished[checked(name)] = (bytearray(), self.now())
        return _Writer(self, name)

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        if name not in self.contents:
            raise BlobMissing("there is no such content")
        content, _ = self.contents[name]
        if stop > len(content):
            raise StorageUnavailable(f"a content is shorter than it was: {name}")
        for place in range(start, stop, BLOCK):
            yield content[place : min(place + BLOCK, stop)]

    async def size(self, name: str) -> int:
        if name not in self.contents:
            raise BlobMissing("there is no such content")
        return len(self.contents[name][0])

    async def remove(self, name: str) -> None:
        self.contents.pop(checked(name), None)

    async def found(self, *, after: str, limit: int) -> list[Found]:
        names = sorted(name for name in self.contents if name > after)[:limit]
        return [Found(name, self.contents[name][1]) for name in names]

    async def sweep(self, *, begun_before: int, limit: int) -> int:
        old = [name for name, (_, begun) in self.unfinished.items() if begun < begun_before][:limit]
        for name in old:
            del self.unfinished[name]
        return len(old)

    async def mark(self) -> str:
        return self._mark

    async def close(self) -> None:
        """There is nothing to close."""

    def used(self) -> int:
        finished = sum(len(content) for content, _ in self.contents.values())
        return finished + sum(len(content) for content, _ in self.unfinished.values())


class _Writer:
    def __init__(self, blobs: MemoryBlobs, name: str) -> None:
        self._blobs = blobs
        self._name = name

    async def write(self, block: bytes) -> None:
        if self._blobs.used() + len(block) > self._blobs.room:
            raise StorageFull("the memory set aside is full")
        self._blobs.unfinished[self._name][0].extend(block)

    async def finish(self) -> None:
        content, _ = self._blobs.unfinished.pop(self._name)
        self._blobs.contents[self._name] = (bytes(content), self._blobs.now())

    async def abort(self) -> None:
        self._blobs.unfinished.pop(self._name, None)
