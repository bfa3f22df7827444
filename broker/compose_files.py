"""The composition root's part for files: where their bytes are kept, by the settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aldis.broker.compose_store import StartFailed, secret_in
from aldis.broker.postbox import wall_clock
from aldis.config.settings import Settings

if TYPE_CHECKING:
    from aldis.accounts_api.filing import Filing
    from aldis.bridge.accounts import Accounts
    from aldis.bridge.blobs import Blobs


class FileStorage:
    """Opens nothing but its threads: a storage that is away does not keep the server from starting, it is asked again
    at the next file. `filing` is None where files are switched off. Raises `StartFailed`."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self.filing: Filing | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._blobs: Blobs | None = None
        if not settings.files.enabled:
            return
        from aldis.accounts_api.filing import Filing

        self._pool = ThreadPoolExecutor(settings.files.threads, thread_name_prefix="files")
        self._blobs = _blobs(settings, self._pool)
        self.filing = Filing(
            accounts.files, accounts.file_cleaning, self._blobs, self._pool, settings.files, wall_clock
        )

    def end_transfers(self) -> None:
        """Before the HTTP server stops, which waits for its requests."""
        if self.filing is not None:
            self.filing.end_transfers()

    async def close(self) -> None:
        """After the HTTP server: nothing is read or written any more."""
        if self._blobs is not None:
            await self._blobs.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _blobs(settings: Settings, pool: ThreadPoolExecutor) -> Blobs:
    files = settings.files
    if files.backend == "disk":
        from aldis.bridge.disk_blobs import DiskBlobs

        return DiskBlobs((settings.data / files.folder).absolute(), pool, min_free=files.min_free)
    from aldis.bridge.s3_blobs import Bucket, S3Blobs

    s3 = files.s3
    assert s3 is not None
    try:
        key = secret_in(s3.secret_key_file)
        return S3Blobs(
            Bucket(
                bucket=s3.bucket,
                prefix=s3.prefix,
                region=s3.region,
                endpoint=s3.endpoint,
                allow_http=s3.allow_http,
                access_key_id=s3.access_key_id,
                secret_key=None if key is None else key.strip(),
                ca_file=s3.ca_file,
                timeout=s3.timeout,
                max_retries=s3.max_retries,
            )
        )
    except ImportError as error:
        raise StartFailed("files.backend s3 needs the package obstore: pip install 'aldis[s3]'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartFailed(f"cannot use files.s3: {error}") from error
