"""Passwords: hashed with argon2id, in threads, a bounded number at once and a bounded number waiting."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from aldis.bridge.accounts.errors import HashingBusy

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
"""The first of the settings that OWASP recommends for argon2id: about 40 ms. The library's own default takes five times
as long, which two cores cannot give at a morning's rush of logins."""


class Passwords:
    """Hashes and checks passwords beside the event loop.

    `concurrency` at once, `queue` more waiting; the next is refused with `HashingBusy`. A caller that gives up leaves
    the queue, but a running hash goes on to its end and counts until then.
    """

    def __init__(self, *, concurrency: int, queue: int) -> None:
        self._hash = PasswordHash((Argon2Hasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES),))
        # The pool's threads are the semaphore.
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="aldis-passwords")
        self._concurrency = concurrency
        self._limit = concurrency + queue
        self._taken = 0
        self.refused = 0
        """Calls turned away because too many waited."""
        # What an unknown user's password is checked against: it takes as long, and nothing matches it.
        self._nobody = self._hash.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """The hash to store, with its own salt and parameters inside."""
        return await self._run(lambda: self._hash.hash(_normal(password)))

    async def check(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether the password fits, and a new hash if the stored one has outdated parameters. `stored` None stands
        for an unknown user: false, after the same time."""

        def work() -> tuple[bool, str | None]:
            try:
                fits, renewed = self._hash.verify_and_update(_normal(password), stored or self._nobody)
            except PwdlibError:
                # A hash of no known kind: such an account cannot log in. It must not answer faster either.
                self._hash.verify(_normal(password), self._nobody)
                return False, None
            return fits and stored is not None, renewed

        return await self._run(work)

    @property
    def running(self) -> int:
        """How many are being hashed."""
        return min(self._taken, self._concurrency)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._taken - self.running

    def close(self) -> None:
        """Lets running hashes finish in their threads and refuses new ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._taken >= self._limit:
            self.refused += 1
            raise HashingBusy("too many logins at once; try again shortly", retry_after=1)
        self._taken += 1
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        job.add_done_callback(self._left)
        return await job

    def _left(self, _job: asyncio.Future[T]) -> None:
        self._taken -= 1


def _normal(password: str) -> str:
    # One keyboard sends é as one character, another as two; it is the same password (RFC 8265).
    return unicodedata.normalize("NFC", password)
