"""Files from the client's hand into the storage and back: metadata first, bytes second, and whatever fails undone.

The order is what keeps the two together. A row says UPLOADING before the first byte is written; the bytes are whole and
durable before it says THERE; it says GONE before a byte is removed. So bytes without a row, or a row without bytes, are
only ever what a process that died has left, and `FileHousekeeping` finds both.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakSet

from aldis.accounts_api.file_streams import Transfer
from aldis.accounts_api.transfers import Transfers
from aldis.accounts_api.upload_form import UploadForm
from aldis.bridge.accounts.file_cleaning import FileCleaning
from aldis.bridge.accounts.file_errors import FilesBusy, HashMismatch, NoRoom
from aldis.bridge.accounts.files import FileEntry, FileLimits, Files, NewFile
from aldis.bridge.blobs import BLOCK, BlobMissing, Blobs, BlobWriter, StorageFull, StorageUnavailable
from aldis.broker.ports import StoreUnavailable
from aldis.config.files import Files as FilesSettings

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Transfer)

DAY = 86_400_000
_RETRY_AFTER = 5


class Filing:
    """One server's files. `now` gives Unix milliseconds. Whoever made `blobs` and `pool` closes them."""

    def __init__(
        self,
        files: Files,
        cleaning: FileCleaning,
        blobs: Blobs,
        pool: ThreadPoolExecutor,
        settings: FilesSettings,
        now: Callable[[], int],
    ) -> None:
        self.files = files
        self.cleaning = cleaning
        self.blobs = blobs
        self.settings = settings
        self.now = now
        self.uploads = Transfers("uploads", total=settings.max_uploads, per_user=settings.max_uploads_per_user)
        self.downloads = Transfers("downloads", total=settings.max_downloads, per_user=settings.max_downloads_per_user)
        self.received = self.sent = 0
        """Bytes of contents, of uploads that failed as well."""
        self.stored = self.failed = 0
        """Uploads by how they ended."""
        self._pool = pool
        self.limits = FileLimits(settings.max_total_per_user, settings.max_files_per_user, settings.max_receivers)
        self._ours = False
        self._stopping = False
        self._transfers: WeakSet[Transfer] = WeakSet()

    def begun(self, transfer: T) -> T:
        """One more that `end_transfers` ends. Raises `FilesBusy` when the server stops."""
        if self._stopping:
            raise FilesBusy("the server stops; try again shortly", retry_after=_RETRY_AFTER)
        self._transfers.add(transfer)
        return transfer

    def end_transfers(self) -> None:
        """Gives up what is under way, for a shutdown: an upload may take longer than anybody waits for that, and is
        sent again; a download goes on elsewhere by Range."""
        self._stopping = True
        for transfer in list(self._transfers):
            transfer.end()

    async def check_storage(self) -> None:
        """Raises `StorageUnavailable` unless the storage answers and is the one that belongs to the database: on an
        empty folder, on which a disk should be mounted, every file would seem lost."""
        if self._ours:
            return
        await self.blobs.open()
        mark = await self.blobs.mark()
        wanted = await self.files.storage_mark(mark)
        if mark != wanted:
            logger.error(
                "this storage is not the one whose files the database knows; mount or share that one. If its files are "
                "here now, or lost for good, write the wanted mark into the storage's storage-id",
                extra={"found": mark, "wanted": wanted},
            )
            raise StorageUnavailable("the storage is not the one that belongs to the database")
        self._ours = True

    async def upload(
        self, me: str, receivers: Collection[str], body: AsyncIterator[bytes], form: UploadForm, length: int
    ) -> FileEntry:
        """Takes the file out of `body`, at most `length` bytes of it, and lets `receivers` fetch it. Whatever is
        raised, by `body` too, nothing is kept.

        Raises `NotFriends`, `LimitReached`, `MalformedUpload`, `FileTooLarge`, `TypeRefused`, `HashMismatch`,
        `UploadTimeout`, `NoRoom`, `TooManyTransfers`, `FilesBusy`, `StoreUnavailable`."""
        with self.uploads.one(me):
            await self.check_storage()
            file_id = secrets.token_hex(16)
            begun = self.now()
            deadline = begun + int(self.settings.upload_timeout * 1000)
            await self.files.begin(NewFile(file_id, me, receivers, length, deadline), self.limits, now=begun)
            writer: BlobWriter | None = None
            try:
                writer = await self.blobs.writer(file_id)
                sha256 = await self._write(writer, body, form)
                await writer.finish()
                entry = self._entry(file_id, me, form, sha256)
                await self.files.finish(entry)
            except BaseException as error:
                self.failed += 1
                await _to_the_end(self._undo(file_id, writer))
                if isinstance(error, StorageFull):
                    raise NoRoom("there is no room for this file") from error
                raise
        self.stored += 1
        logger.info("file stored", extra={"user": me, "file": file_id, "bytes": entry.size})
        return entry

    async def _write(self, writer: BlobWriter, body: AsyncIterator[bytes], form: UploadForm) -> bytes:
        """The SHA-256 of what was written. Raises `HashMismatch`."""
        loop = asyncio.get_running_loop()
        digest = hashlib.sha256()
        held = bytearray()

        async def pass_on() -> None:
            block = bytes(held)
            held.clear()
            self.received += len(block)
            # in a thread: at a gigabit a second it is a tenth of a core
            await loop.run_in_executor(self._pool, digest.update, block)
            await writer.write(block)

        async for chunk in body:
            for piece in form.feed(chunk):
                held += piece
                if len(held) >= BLOCK:
                    await pass_on()
        given = form.complete()
        if held:
            await pass_on()
        if digest.digest() != given:
            raise HashMismatch("the file's SHA-256 is not the one given as sha256; it was not kept")
        return given

    def _entry(self, file_id: str, me: str, form: UploadForm, sha256: bytes) -> FileEntry:
        now, keep = self.now(), self.settings.keep_days
        expires = now + keep * DAY if keep else None
        return FileEntry(file_id, me, form.name or "file", form.mime, form.size, sha256, now, expires)

    async def _undo(self, file_id: str, writer: BlobWriter | None) -> None:
        if writer is not None:
            await writer.abort()
        try:
            # Said first: the commit of `finish` may have worked although its answer was lost.
            await self.files.give_up(file_id, now=self.now())
            await self._wipe(file_id)
        except StoreUnavailable as error:
            logger.warning("an upload that failed is cleaned up later: %s", error, extra={"file": file_id})

    async def mine(self, me: str, before: tuple[int, str], limit: int) -> list[FileEntry]:
        """See `Files.mine`."""
        return await self.files.mine(me, before=before, limit=limit, now=self.now())

    async def find(self, me: str, file_id: str) -> FileEntry:
        """Raises `UnknownFile`."""
        return await self.files.find(me, file_id, now=self.now())

    async def read(self, entry: FileEntry, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, a block at a time. Raises `StoreUnavailable`."""
        await self.check_storage()
        try:
            async for block in self.blobs.read(entry.file_id, start, stop):
                yield block
                self.sent += len(block)
        except BlobMissing as error:
            logger.error("a file's bytes are not in the storage", extra={"file": entry.file_id})
            raise StorageUnavailable("a file's bytes are not in the storage") from error

    async def give(self, me: str, file_id: str, to: str) -> None:
        """See `Files.give`."""
        await self.files.give(me, file_id, to, limit=self.limits.receivers, now=self.now())

    async def remove(self, me: str, file_id: str) -> None:
        """See `Files.remove`. If the storage is away, the bytes go later; nobody can fetch them any more."""
        if await self.files.remove(me, file_id, now=self.now()):
            try:
                await self.check_storage()
                await self._wipe(file_id)
            except StoreUnavailable as error:
                logger.info("a removed file's bytes go later: %s", error, extra={"file": file_id})

    async def _wipe(self, file_id: str) -> None:
        await self.blobs.remove(file_id)
        await self.files.forget([file_id])


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for `work` even if we are cancelled meanwhile: half of it is worse than none. The caller is on its way out
    with an error of its own, so what goes wrong here is logged."""
    task = asyncio.get_running_loop().create_task(work, name="undo an upload")
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    if (error := task.exception()) is not None:
        logger.error("undoing an upload failed", exc_info=error)
