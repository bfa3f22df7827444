"""Relation keys at rest: AES-256 keys wrapped with AES-256-GCM under the server's master key (article 9)."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_FORMAT = b"\x01"
_NONCE_BYTES = 12


class KeyDamaged(Exception):
    """A stored key does not open under this master key for this pair and version: the operator has restored
    a database without its secrets file, or somebody has moved rows about."""


class KeyWrap:
    """Wraps and unwraps relation keys. The pair and the version are bound in: a wrapped key copied to another row
    or back to an older version does not open."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(master_key)

    def new(self, user1: str, user2: str, version: int) -> bytes:
        """A fresh random key for this pair, already wrapped."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        key = secrets.token_bytes(KEY_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, key, _binding(user1, user2, version))

    def open(self, wrapped: bytes, user1: str, user2: str, version: int) -> bytes:
        """The key itself. Raises `KeyDamaged`."""
        if wrapped[:1] != _FORMAT:
            raise KeyDamaged(f"the key of {user1} and {user2} is in an unknown format")
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, _binding(user1, user2, version))
        except (InvalidTag, ValueError) as error:
            raise KeyDamaged(f"the key of {user1} and {user2} does not open under this master key") from error


def _binding(user1: str, user2: str, version: int) -> bytes:
    # NUL cannot occur in a user id, so the parts cannot run into each other.
    return f"aldis relation key\0{user1}\0{user2}\0{version}".encode()
