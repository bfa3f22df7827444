"""Relation keys at rest: AES-256 keys wrapped with AES-256-GCM under a master key of the server (article 9)."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aldis.bridge.accounts.master_keys import KEY_BYTES, MasterKeys

_FORMAT = b"\x01"
_NONCE_BYTES = 12
UNNAMED = ""
"""In place of a master key's id where a key was wrapped before master keys had ids."""


class KeyDamaged(Exception):
    """A stored key does not open under its master key for this pair and version: somebody has moved rows about, or
    changed them."""


class KeyWrap:
    """Wraps and unwraps relation keys. The pair and the version are bound in: a wrapped key copied to another row
    or back to an older version does not open."""

    def __init__(self, masters: MasterKeys) -> None:
        self.masters = masters

    def new(self, master_id: str, user1: str, user2: str, version: int) -> bytes:
        """A fresh random key for this pair, already wrapped. Raises `MasterKeyMissing`."""
        return self._wrap(master_id, secrets.token_bytes(KEY_BYTES), _binding(user1, user2, version))

    def open(self, master_id: str, wrapped: bytes, user1: str, user2: str, version: int) -> bytes:
        """The key itself. Raises `KeyDamaged`, `MasterKeyMissing`."""
        if wrapped[:1] != _FORMAT:
            raise KeyDamaged(f"the key of {user1} and {user2} is in an unknown format")
        ids = self.masters.ids() if master_id == UNNAMED else [master_id]
        for one in ids:
            key = _opened(self.masters.cipher(one), wrapped, _binding(user1, user2, version))
            if key is not None:
                return key
        raise KeyDamaged(f"version {version} of the key of {user1} and {user2} does not open under its master key")

    def rewrap(self, old_id: str, new_id: str, wrapped: bytes, user1: str, user2: str, version: int) -> bytes:
        """The same key, wrapped under another master key. Raises `KeyDamaged`, `MasterKeyMissing`."""
        key = self.open(old_id, wrapped, user1, user2, version)
        return self._wrap(new_id, key, _binding(user1, user2, version))

    def _wrap(self, master_id: str, key: bytes, binding: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self.masters.cipher(master_id).encrypt(nonce, key, binding)


def _opened(cipher: AESGCM, wrapped: bytes, binding: bytes) -> bytes | None:
    """None: not by this key."""
    nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, sealed, binding)
    except (InvalidTag, ValueError):
        return None


def _binding(user1: str, user2: str, version: int) -> bytes:
    # NUL cannot occur in a user id, so the parts cannot run into each other.
    return f"aldis relation key\0{user1}\0{user2}\0{version}".encode()
