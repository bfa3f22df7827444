"""What nobody else removes: files that have expired, uploads that were never finished, bytes that nobody knows, and
rows whose bytes are lost. One process at a time (`Chores`), in bounded steps with pauses between them.

It is safe against an upload in progress: a row that says UPLOADING is left alone until its deadline is over, bytes
without a row until they are older than any upload can be, and `Files.finish` fails where a row has been retired.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable

from aldis.accounts_api.filing import Filing
from aldis.accounts_api.housekeeping import Step
from aldis.bridge.accounts import Accounts
from aldis.bridge.blobs import BlobMissing
from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

BATCH = 200
"""Files in one step."""
PAUSE = 0.05
GRACE = 600_000
"""Milliseconds that the clocks of processes, database and storage may differ, and a last step take."""


class FileHousekeeping:
    """`start`, then `stop`; once."""

    def __init__(self, accounts: Accounts, filing: Filing, now: Callable[[], int]) -> None:
        self._accounts = accounts
        self._filing = filing
        self._now = now
        self._holder = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._repeat(), name="files")

    async def stop(self) -> None:
        """Leaves off between two steps."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _repeat(self) -> None:
        while True:
            try:
                await self.round()
            except StoreUnavailable as error:
                logger.info("cleaning up files goes on later: %s", error)
            except Exception:
                logger.exception("cleaning up files has failed; it is tried again")
            await asyncio.sleep(self._filing.settings.clean_interval)

    async def round(self) -> bool:
        """Looks at everything once. False: another process is at it. Raises `StoreUnavailable`, also where the storage
        is not the one that belongs to the database: nothing of it is touched then."""
        if not await self._filing.files.has_storage():
            return True  # nothing to clean, and no folder to be made for it
        step = Step(self._accounts, "files", self._holder, self._now, PAUSE)
        if not await step.begin():
            return False
        rest = 0
        try:
            await self._filing.check_storage()
            for work in (self._retire, self._wipe, self._sweep, self._unknown, self._lost):
                if not await work(step):
                    return False
            # nine tenths: we ourselves, or another process, may begin when the interval is over
            rest = int(self._filing.settings.clean_interval * 900)
        finally:
            await step.end(rest)
        return True

    def _oldest_upload(self) -> int:
        """What was begun before cannot still be an upload in progress."""
        return self._now() - int(self._filing.settings.upload_timeout * 1000) - GRACE

    async def _retire(self, step: Step) -> bool:
        cleaning = self._filing.cleaning
        while await cleaning.retire(now=self._now(), unfinished_before=self._now() - GRACE, limit=BATCH):
            if not await step.next(""):
                return False
        return True

    async def _wipe(self, step: Step) -> bool:
        while gone := await self._filing.cleaning.gone(limit=BATCH):
            for file_id in gone:
                await self._filing.blobs.remove(file_id)
            await self._filing.files.forget(gone)
            logger.info("files removed", extra={"files": len(gone)})
            if not await step.next(""):
                return False
        return True

    async def _sweep(self, step: Step) -> bool:
        while await self._filing.blobs.sweep(begun_before=self._oldest_upload(), limit=BATCH) == BATCH:
            if not await step.next(""):
                return False
        return True

    async def _unknown(self, step: Step) -> bool:
        """Bytes of which no row says anything, and which are older than any upload."""
        after, filing = "", self._filing
        while found := await filing.blobs.found(after=after, limit=BATCH):
            old = [one.name for one in found if one.finished < self._oldest_upload()]
            for name in sorted(set(old) - await filing.cleaning.known(old)) if old else ():
                await filing.blobs.remove(name)
                logger.warning("bytes of a file that nobody knows are removed", extra={"file": name})
            after = found[-1].name
            if not await step.next(""):
                return False
        return True

    async def _lost(self, step: Step) -> bool:
        """Rows whose bytes are not there, or not all of them."""
        after, filing = "", self._filing
        while there := await filing.cleaning.there(after=after, limit=BATCH):
            for file_id, size in there:
                try:
                    whole = await filing.blobs.size(file_id) == size
                except BlobMissing:
                    whole = False
                # it may have been removed since we have read that it should be there
                if not whole and await filing.cleaning.lost(file_id, now=self._now()):
                    logger.error("a file is lost: its bytes are not in the storage", extra={"file": file_id})
            after = there[-1][0]
            if not await step.next(""):
                return False
        return True
