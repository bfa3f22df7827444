"""Texts encrypted between two friends: AES-256-GCM under the key of their relation (article 9).

The format, with a test vector, is written down in `docs/encryption.md`; any language with AES-GCM can speak it.
The server hands out the keys, so this hides texts from whoever reads the wire or the message table, not from the
operator who holds the master key.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM = "A256GCM"
KEY_BYTES = 32
NONCE_BYTES = 12
MESSAGES_PER_KEY = 2**25
"""Of one device: after so many it asks for a new version. `docs/encryption.md` says why."""


class CannotDecrypt(Exception):
    """The content is not an encrypted text for us: wrong shape, unknown key version, or it was changed on the way."""


@dataclass(frozen=True, slots=True)
class RelationKey:
    """One version of the key that two friends share. `key` is 32 bytes and never appears in a repr."""

    version: int
    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"an {ALGORITHM} key has {KEY_BYTES} bytes, not {len(self.key)}")

    def __repr__(self) -> str:
        return f"RelationKey(version={self.version})"


def associated_data(sender: str, recipient: str, version: int) -> bytes:
    """What the tag protects beside the text. No user id contains a line feed, so the four lines are unambiguous."""
    return f"aldis {ALGORITHM}\n{sender}\n{recipient}\n{version}".encode()


def encrypt(key: RelationKey, *, sender: str, recipient: str, text: str, nonce: bytes | None = None) -> dict[str, Any]:
    """Returns the fields `enc` and `body` of a message. Leave `nonce` out, except to reproduce a test vector:
    a nonce that is used twice under one key gives both texts away."""
    nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
    sealed = AESGCM(key.key).encrypt(nonce, text.encode(), associated_data(sender, recipient, key.version))
    return {
        "enc": {"alg": ALGORITHM, "v": key.version, "nonce": b64encode(nonce).decode()},
        "body": b64encode(sealed).decode(),
    }


def key_version(content: dict[str, Any]) -> int | None:
    """The version of the key under which the content was encrypted; None if it says that it is plain.
    Raises `CannotDecrypt` for an `enc` of another shape or algorithm."""
    enc = content.get("enc")
    if enc is None:
        return None
    if not isinstance(enc, dict) or enc.get("alg") != ALGORITHM or type(enc.get("v")) is not int:
        raise CannotDecrypt(f"enc is not {ALGORITHM} with a key version")
    version: int = enc["v"]
    return version


def decrypt(key: RelationKey, *, sender: str, recipient: str, content: dict[str, Any]) -> str:
    """The text of `content`, exactly as `sender` wrote it to `recipient` under this key; else `CannotDecrypt`."""
    if key_version(content) != key.version:
        raise CannotDecrypt(f"not encrypted under key version {key.version}")
    nonce, sealed = _bytes(content["enc"].get("nonce")), _bytes(content.get("body"))
    if len(nonce) != NONCE_BYTES:
        raise CannotDecrypt(f"the nonce has {len(nonce)} bytes, not {NONCE_BYTES}")
    try:
        return AESGCM(key.key).decrypt(nonce, sealed, associated_data(sender, recipient, key.version)).decode()
    except InvalidTag:
        raise CannotDecrypt("the tag does not fit: wrong key, sender or recipient, or a changed text") from None
    except UnicodeDecodeError:
        raise CannotDecrypt("the text is not UTF-8") from None


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise CannotDecrypt("nonce and body must be base64 text")
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise CannotDecrypt("nonce and body must be base64 text") from None


class Keyring:
    """The relation keys of one user, in memory only: every version seen, by friend."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, RelationKey]] = {}
        self._used: dict[tuple[str, int], int] = {}

    def add(self, friend: str, key: RelationKey) -> None:
        self._keys.setdefault(friend, {})[key.version] = key

    def version(self, friend: str, version: int) -> RelationKey | None:
        return self._keys.get(friend, {}).get(version)

    def newest(self, friend: str) -> RelationKey:
        """Raises `KeyError` where there is no key: not a friend, or the relations were not fetched yet."""
        versions = self._keys[friend]
        return versions[max(versions)]

    def encrypt(self, friend: str, *, sender: str, text: str) -> dict[str, Any]:
        """`encrypt` to this friend with the newest key, counted. Raises `KeyError` as `newest`."""
        key = self.newest(friend)
        self._used[friend, key.version] = self._used.get((friend, key.version), 0) + 1
        return encrypt(key, sender=sender, recipient=friend, text=text)

    def is_worn(self, friend: str) -> bool:
        """Whether it is time for a new version: the newest key has encrypted as much here as one device should."""
        return self._used.get((friend, self.newest(friend).version), 0) >= MESSAGES_PER_KEY

    def decrypt(self, friend: str, *, sender: str, recipient: str, content: dict[str, Any]) -> str:
        """The text of a message between the owner and `friend`. Raises `CannotDecrypt`, also for a plain message."""
        version = key_version(content)
        if version is None:
            raise CannotDecrypt("the message is not encrypted")
        key = self._keys.get(friend, {}).get(version)
        if key is None:
            raise CannotDecrypt(f"no key of version {version} for {friend}")
        return decrypt(key, sender=sender, recipient=recipient, content=content)
