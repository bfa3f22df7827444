"""The master keys that a process has: one wraps, and while they are exchanged others open, too.

A key is known by its id, which is made from the key itself: nobody can give a key another one's name.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

KEY_BYTES = 32
_ID = b"aldis: id of a master key, 1"
_LOOK_EVERY = 1.0
"""Seconds between two looks for a key that was not there."""


class MasterKeyMissing(StoreUnavailable):
    """A relation key is wrapped under a master key that this process has not been given. Nothing is lost: with that
    key it opens. The text names the id, never a key."""

    def __init__(self, master_id: str, known: Sequence[str]) -> None:
        super().__init__(
            f"relation keys in the database are wrapped under the master key {master_id}; this server has "
            f"{', '.join(known)}. Give it that key: it is in the secrets file, or a backup of it, that wrapped them"
        )
        self.master_id = master_id


def id_of(key: bytes) -> str:
    """16 hexadecimal digits that name the key and tell nothing of it."""
    return hmac.digest(key, _ID, "sha256")[:8].hex()


class MasterKeys:
    """Master keys by id. `again` reads them once more where one is missing: it was made after this process began."""

    def __init__(self, keys: Sequence[bytes], again: Callable[[], Sequence[bytes]] | None = None) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        self._again = again
        self._looked = float("-inf")
        self._take(keys)
        self.first = next(iter(self._ciphers))
        """What wraps in a database that has no master key yet."""

    def __repr__(self) -> str:
        return f"MasterKeys({', '.join(self._ciphers)})"

    def ids(self) -> list[str]:
        return list(self._ciphers)

    def cipher(self, master_id: str) -> AESGCM:
        """Raises `MasterKeyMissing`."""
        if master_id not in self._ciphers:
            self._look_for(master_id)
        return self._ciphers[master_id]

    def _look_for(self, master_id: str) -> None:
        now = time.monotonic()
        due = now - self._looked >= _LOOK_EVERY
        if due and self._again is not None:
            self._take(self._again())
        if master_id in self._ciphers:
            return
        missing = MasterKeyMissing(master_id, self.ids())
        if due:
            self._looked = now
            logger.error("%s", missing)
        raise missing

    def _take(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if len(key) != KEY_BYTES:
                raise ValueError(f"a master key has {KEY_BYTES} bytes")
            self._ciphers.setdefault(id_of(key), AESGCM(key))
