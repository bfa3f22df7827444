"""Contents as files of a folder: `ab/abcdef…`, written beside it in `incoming`, synced, renamed.

Everything that touches the disk runs in a few threads of its own. No link is followed below the folder, so nothing
that somebody puts there makes us read or write elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aldis.bridge.blobs import BLOCK, NAME, BlobMissing, Found, StorageFull, StorageUnavailable, checked

logger = logging.getLogger(__name__)

T = TypeVar("T")

MARK = "storage-id"
INCOMING = "incoming"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# a pipe in the folder must not hold the thread that opens it
_READ = os.O_RDONLY | _NO_LINKS | getattr(os, "O_NONBLOCK", 0)


class DiskBlobs:
    """See `Blobs`. `min_free` bytes of the disk are left to others. The threads of `pool` are the caller's."""

    def __init__(self, root: Path, pool: ThreadPoolExecutor, *, min_free: int = 0) -> None:
        self.root = root
        self._pool = pool
        self.min_free = min_free
        self._opened = False

    async def open(self) -> None:
        if not self._opened:
            await self.run(self._open)
            self._opened = True

    async def writer(self, name: str) -> _Writer:
        writer = _Writer(self, checked(name))
        await self.run(writer.begin)
        return writer

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        descriptor = await self.run(lambda: self._open_content(name))
        try:
            for place in range(start, stop, BLOCK):
                length = min(BLOCK, stop - place)
                block = await self.run(lambda place=place, length=length: os.pread(descriptor, length, place))  # type: ignore[misc]
                if len(block) != length:
                    raise StorageUnavailable(f"a content is shorter than it was: {name}")
                yield block
        finally:
            # at once, not in a thread: closing what was only read waits for nobody
            os.close(descriptor)

    async def size(self, name: str) -> int:
        def look() -> int:
            descriptor = self._open_content(name)
            try:
                return os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)

        return await self.run(look)

    async def remove(self, name: str) -> None:
        path = self.path(name)
        # unlink removes a link that somebody has put there, never what it points to
        await self.run(lambda: path.unlink(missing_ok=True) if _is_folder(path.parent) else None)

    async def found(self, *, after: str, limit: int) -> list[Found]:
        return await self.run(lambda: self._found(after, limit))

    async def sweep(self, *, begun_before: int, limit: int) -> int:
        return await self.run(lambda: self._sweep(begun_before, limit))

    async def mark(self) -> str:
        await self.open()
        return await self.run(lambda: (self.root / MARK).read_text("ascii").strip())

    async def close(self) -> None:
        """The threads are closed by whoever has made them."""

    async def run(self, work: Callable[[], T]) -> T:
        """Does it in a thread. What the disk refuses comes out as `StorageFull` or `StorageUnavailable`. A caller that
        is cancelled does not leave the thread at work behind its back."""
        job = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull("the disk is full") from error
            raise StorageUnavailable(f"the files' folder: {error}") from error

    def path(self, name: str) -> Path:
        return self.root / checked(name)[:2] / name

    # What follows runs in the threads

    def _open(self) -> None:
        # what people send each other is for nobody else on this machine
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / INCOMING).mkdir(mode=0o700, exist_ok=True)
        if not _is_folder(self.root / INCOMING):
            raise StorageUnavailable(f"{self.root / INCOMING} is a link")
        mark = self.root / MARK
        if mark.exists():
            return
        draft = self.root / f"{MARK}.{secrets.token_hex(8)}"
        try:
            with open(draft, "x", encoding="ascii") as file:
                file.write(secrets.token_hex(16) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, mark)  # not a rename: of two processes that begin at once one is first
            except FileExistsError:
                pass
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self.root)

    def _open_content(self, name: str) -> int:
        path = self.path(name)
        try:
            if not _is_folder(path.parent):
                raise BlobMissing("there is no such content")
            descriptor = os.open(path, _READ)
        except FileNotFoundError as error:
            raise BlobMissing("there is no such content") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BlobMissing("there is a link in the place of a content") from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BlobMissing("there is no file in the place of a content")
        return descriptor

    def _found(self, after: str, limit: int) -> list[Found]:
        found: list[Found] = []
        for folder in sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)):
            if len(folder) != 2 or folder < after[:2]:
                continue
            names = sorted(entry.name for entry in os.scandir(self.root / folder) if entry.name > after)
            for name in names:
                if not NAME.fullmatch(name) or name[:2] != folder:
                    continue
                try:
                    status = os.lstat(self.root / folder / name)
                except FileNotFoundError:
                    continue
                found.append(Found(name, status.st_mtime_ns // 1_000_000))
                if len(found) == limit:
                    return found
        return found

    def _sweep(self, begun_before: int, limit: int) -> int:
        removed = 0
        for path in self._old(begun_before):
            path.unlink(missing_ok=True)
            removed += 1
            if removed == limit:
                break
        return removed

    def _old(self, begun_before: int) -> Iterator[Path]:
        for entry in os.scandir(self.root / INCOMING):
            try:
                # the time of the last write: a writer that is alive is younger than any time-out
                if entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000 < begun_before:
                    yield Path(entry.path)
            except FileNotFoundError:
                continue


class _Writer:
    def __init__(self, blobs: DiskBlobs, name: str) -> None:
        self._blobs = blobs
        self._name = name
        self._draft = blobs.root / INCOMING / f"{name}.{secrets.token_hex(8)}"
        self._descriptor = -1

    def begin(self) -> None:
        self._need(0)
        self._descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600)

    async def write(self, block: bytes) -> None:
        await self._blobs.run(lambda: self._write(block))

    async def finish(self) -> None:
        try:
            await self._blobs.run(self._finish)
        except BaseException:
            await self.abort()
            raise

    async def abort(self) -> None:
        if self._descriptor >= 0:
            try:
                await self._blobs.run(self._abort)
            except (StorageFull, StorageUnavailable) as error:
                logger.warning("an unfinished file stays until it is swept: %s", error)

    def _write(self, block: bytes) -> None:
        self._need(len(block))
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _need(self, length: int) -> None:
        if self._blobs.min_free and hasattr(os, "statvfs"):
            state = os.statvfs(self._blobs.root)
            if state.f_bavail * state.f_frsize - length < self._blobs.min_free:
                raise StorageFull("the disk has no more room for files")

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        path = self._blobs.path(self._name)
        try:
            path.parent.mkdir(mode=0o700)
            sync_folder(path.parent.parent)
        except FileExistsError:
            if not _is_folder(path.parent):
                raise StorageUnavailable(f"{path.parent} is a link") from None
        os.rename(self._draft, path)
        sync_folder(path.parent)
        self._close()

    def _abort(self) -> None:
        self._close()
        self._draft.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes what was created or renamed in it durable, where the system lets us."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_folder(path: Path) -> bool:
    """A real one, no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
