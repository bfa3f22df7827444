"""Where the bytes of files lie: names, contents, nothing else. Whose they are is `aldis.bridge.accounts.files`.

    BlobError
    ├── BlobMissing        there is no content of that name
    └── StorageFull        it does not fit; nothing of it is left
    StoreUnavailable       the storage does not answer, or answers nonsense (`aldis.broker.ports`)

A content becomes visible whole, at `BlobWriter.finish`, or never. It is written once; nothing is ever changed.
`tests/contract/test_blobs.py` runs over every implementation: memory, disk, S3.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from aldis.broker.ports import StoreUnavailable

NAME = re.compile(r"[0-9a-f]{32}")
"""What contents are called: 16 random bytes. A name is checked here although it is ours: it becomes a path."""
BLOCK = 262_144
"""Bytes read or written at once. A thread is asked four times a megabyte, and a slow client holds no more than that."""


class BlobError(Exception):
    """Base of what can be wrong with one content; the storage itself is well."""


class BlobMissing(BlobError):
    """There is no content of that name."""


class StorageFull(BlobError):
    """The disk, a quota or the bucket has no room for it."""


class StorageUnavailable(StoreUnavailable):
    """The storage cannot be read or written now. The text is for the log: it may name paths and hosts."""


class Found(NamedTuple):
    """A content that is there, and when it was finished, in Unix milliseconds of the storage's clock."""

    name: str
    finished: int


class BlobWriter(Protocol):
    """One content being written, by one task."""

    async def write(self, block: bytes) -> None:
        """Takes the next bytes; waits while the storage is slow. Raises `StorageFull`, `StorageUnavailable`."""

    async def finish(self) -> None:
        """Returns when the whole is durable, and visible under its name. Raises as `write`, and then nothing is
        left."""

    async def abort(self) -> None:
        """Leaves nothing behind, as far as it can; after `finish` and when repeated it does nothing. Never raises."""


class Blobs(Protocol):
    """A storage. All times are Unix milliseconds."""

    async def open(self) -> None:
        """Raises `StorageUnavailable`. May be tried again, and does nothing once it has worked."""

    async def writer(self, name: str) -> BlobWriter:
        """Begins a content of that name, of which there is none yet. Raises `StorageFull`, `StorageUnavailable`."""

    def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `stop`, in blocks, one at a time as they are asked for. Raises
        `BlobMissing` before the first; `StorageUnavailable` at any time, also if there are fewer."""

    async def size(self, name: str) -> int:
        """How many bytes it has. Raises `BlobMissing`, `StorageUnavailable`."""

    async def remove(self, name: str) -> None:
        """Removes it if it is there. Raises `StorageUnavailable`."""

    async def found(self, *, after: str, limit: int) -> list[Found]:
        """The next contents in the order of their names; empty after the last one. Raises `StorageUnavailable`."""

    async def sweep(self, *, begun_before: int, limit: int) -> int:
        """Removes what writers that died have left, as far as it was begun before then; at most `limit` of them. How
        many it has removed. Raises `StorageUnavailable`."""

    async def mark(self) -> str:
        """The storage's own id, given to it when it was first opened: who finds another one here looks at another
        storage, or at an empty folder on which a disk should be mounted. Raises `StorageUnavailable`."""

    async def close(self) -> None:
        """Lets what runs come to its end."""


def checked(name: str) -> str:
    """The name, if it is one. Raises `BlobMissing` for anything else, before it can touch anything."""
    if not NAME.fullmatch(name):
        raise BlobMissing("not a name of a content")
    return name
