"""Contents in a bucket of S3, or of a server that speaks its language, through obstore.

obstore is imported when the first one is opened: whoever keeps files on disk need not have it. Small contents go up in
one request, larger ones in parts; a multipart upload that is not completed is no content. One that a dead process has
left costs room until the bucket's own life-cycle rule removes it (docs/operations.md): listing them is not in obstore.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aldis.bridge.blobs import BlobMissing, Found, StorageFull, StorageUnavailable, checked

if TYPE_CHECKING:
    from obstore.store import S3Store

logger = logging.getLogger(__name__)

MARK = "storage-id"
CONTENTS = "contents/"
PART = 5 * 1_048_576
"""Bytes of one part; S3 takes none smaller but the last, and 10,000 of them: 50 GB."""
_PARTS_AT_ONCE = 2
_READ = 1_048_576
"""Bytes of one request for reading. A connection that waits for a slow client would be cut off by our time-out, and a
request that fails is made again for so much only."""
_NO_ROOM = ("507", "StorageFull", "QuotaExceeded", "InsufficientStorage")


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is and who we are; see `aldis.config.files.S3`. `secret_key` never appears in a repr."""

    bucket: str
    prefix: str
    region: str
    endpoint: str | None
    allow_http: bool
    access_key_id: str | None
    secret_key: str | None
    ca_file: Path | None
    timeout: float
    max_retries: int

    def __repr__(self) -> str:
        return f"Bucket({self.bucket!r})"


class S3Blobs:
    """See `Blobs`. Raises `ImportError` where obstore is not installed, `OSError` if `ca_file` cannot be read."""

    def __init__(self, bucket: Bucket) -> None:
        from obstore.store import S3Store

        client: dict[str, Any] = {
            "allow_http": bucket.allow_http,
            "timeout": timedelta(seconds=bucket.timeout),
            "connect_timeout": timedelta(seconds=min(5.0, bucket.timeout)),
        }
        if bucket.ca_file is not None:
            client["root_certificate"] = bucket.ca_file.read_bytes()
        known = {"access_key_id": bucket.access_key_id, "secret_access_key": bucket.secret_key}
        options: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        if bucket.endpoint is not None:
            options["endpoint"] = bucket.endpoint
        retries: Mapping[str, Any] = {
            "max_retries": bucket.max_retries,
            "retry_timeout": timedelta(seconds=bucket.timeout * (bucket.max_retries + 1)),
        }
        self.store: S3Store = S3Store(
            bucket.bucket,
            prefix=bucket.prefix or None,
            region=bucket.region,
            client_options=client,  # type: ignore[arg-type]
            retry_config=retries,  # type: ignore[arg-type]
            **options,
        )

    async def open(self) -> None:
        await self.mark()

    async def writer(self, name: str) -> _Writer:
        return _Writer(self.store, CONTENTS + checked(name))

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        import obstore

        if start >= stop:
            await self.size(name)
        for place in range(start, stop, _READ):
            end = min(place + _READ, stop)
            try:
                block = bytes(await obstore.get_range_async(self.store, _path(name), start=place, end=end))
            except Exception as error:
                problem = _problem(error)
                if isinstance(problem, BlobMissing) and place > start:
                    problem = StorageUnavailable(f"a content vanished while it was read: {name}")
                raise problem from error
            if len(block) != end - place:
                raise StorageUnavailable(f"a content is shorter than it was: {name}")
            yield block

    async def size(self, name: str) -> int:
        import obstore

        try:
            return int((await obstore.head_async(self.store, _path(name)))["size"])
        except Exception as error:
            raise _problem(error) from error

    async def remove(self, name: str) -> None:
        import obstore

        try:
            await obstore.delete_async(self.store, _path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise _problem(error) from error

    async def found(self, *, after: str, limit: int) -> list[Found]:
        import obstore

        found: list[Found] = []
        try:
            listing = obstore.list(
                self.store, prefix=CONTENTS, offset=CONTENTS + after if after else None, chunk_size=min(limit, 1_000)
            )
            async for entries in listing:
                for entry in entries:
                    name = entry["path"].removeprefix(CONTENTS)
                    found.append(Found(name, int(entry["last_modified"].timestamp() * 1000)))
                if len(found) >= limit:
                    break
        except Exception as error:
            raise _problem(error) from error
        return found[:limit]

    async def sweep(self, *, begun_before: int, limit: int) -> int:
        """0: see above."""
        return 0

    async def mark(self) -> str:
        import obstore

        try:
            try:
                return await self._mark()
            except FileNotFoundError:
                try:
                    await obstore.put_async(self.store, MARK, secrets.token_hex(16).encode(), mode="create")
                except obstore.exceptions.AlreadyExistsError:
                    pass
                return await self._mark()
        except FileNotFoundError as error:
            raise StorageUnavailable("the files' bucket is not there") from error
        except Exception as error:
            raise _problem(error) from error

    async def _mark(self) -> str:
        import obstore

        result = await obstore.get_async(self.store, MARK)
        return bytes(await result.bytes_async()).decode("ascii").strip()

    async def close(self) -> None:
        """obstore closes its connections by itself."""


class _Abandoned(Exception):
    """Ends the stream of parts, so that obstore aborts the upload. Were it cancelled instead, the parts would stay."""


class _Writer:
    def __init__(self, store: S3Store, path: str) -> None:
        self._store = store
        self._path = path
        self._held: list[bytes] = []
        self._size = 0
        self._blocks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._sending: asyncio.Task[None] | None = None
        self._over = False

    async def write(self, block: bytes) -> None:
        if self._sending is not None:
            await self._hand_over(block)
            return
        self._held.append(block)
        self._size += len(block)
        if self._size > PART:
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="upload in parts")
            held, self._held = self._held, []
            for one in held:
                await self._hand_over(one)

    async def finish(self) -> None:
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_whole(), name="upload")
        else:
            await self._hand_over(b"")
        self._over = True
        await asyncio.shield(self._sending)

    async def abort(self) -> None:
        if self._over or self._sending is None:
            return
        self._over = True
        try:
            if not self._sending.done():
                await self._hand_over(None)
            await asyncio.shield(self._sending)
        except _Abandoned:
            pass
        except (StorageFull, StorageUnavailable) as error:
            logger.warning("parts of an upload may be left in the bucket: %s", error)

    async def _hand_over(self, block: bytes | None) -> None:
        """Returns when it is taken; raises what has ended the upload, if something has. Empty: that was all."""
        assert self._sending is not None
        putting = asyncio.ensure_future(self._blocks.put(block))
        try:
            await asyncio.wait({putting, self._sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.done():
                putting.cancel()
        if self._sending.done():
            self._sending.result()

    async def _parts(self) -> AsyncIterator[bytes]:
        while block := await self._blocks.get():
            yield block
        if block is None:
            raise _Abandoned

    async def _send(self) -> None:
        import obstore

        try:
            await obstore.put_async(
                self._store,
                self._path,
                self._parts(),
                use_multipart=True,
                chunk_size=PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except _Abandoned:
            raise
        except Exception as error:
            raise _problem(error) from error

    async def _send_whole(self) -> None:
        import obstore

        try:
            await obstore.put_async(self._store, self._path, b"".join(self._held), use_multipart=False)
        except Exception as error:
            raise _problem(error) from error


def _path(name: str) -> str:
    return CONTENTS + checked(name)


def _problem(error: Exception) -> Exception:
    """What obstore raises, in our words. Its texts name addresses and paths of the bucket, no keys."""
    if isinstance(error, FileNotFoundError):
        return BlobMissing("there is no such content")
    if isinstance(error, BlobMissing | StorageFull | StorageUnavailable):
        return error
    text = str(error).partition("\n")[0]
    if any(word in text for word in _NO_ROOM):
        return StorageFull("the bucket has no room for it")
    return StorageUnavailable(f"the files' bucket: {text}")
