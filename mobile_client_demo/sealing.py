"""Relation keys that the server never sees: made by one device, wrapped for each device of both friends.

X25519, HKDF-SHA256 and AES-256-GCM, put together as `docs/encryption.md` says to the byte, with test vectors. Who wraps
proves it with the device's own key: a server that makes up a key cannot wrap it in a friend's name. It can only claim
that a public key of its own is a friend's; the safety number is for finding that out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aldis.mobile_client_demo.encryption import KEY_BYTES, CannotDecrypt

FORMAT = b"\x01"
WRAPPED_BYTES = 1 + 32 + KEY_BYTES + 16
_WRAP, _CHECK, _SAFETY = "aldis sealed wrap 1", "aldis sealed check 1", "aldis safety number 1"


@dataclass(frozen=True, slots=True)
class Place:
    """What a wrapped key is bound to: which key, from which device, for which device. Ids are as the server knows
    them."""

    version: int
    from_user: str
    from_device: str
    to_user: str
    to_device: str
    friends: tuple[str, str]
    """The two members, in any order."""

    def context(self) -> bytes:
        """No id contains a line feed, so the lines are unambiguous."""
        lines = [_WRAP, *sorted(self.friends), str(self.version)]
        return "\n".join([*lines, self.from_user, self.from_device, self.to_user, self.to_device]).encode()


@dataclass(frozen=True, slots=True)
class DevicePair:
    """A device's own X25519 key; the private half never leaves it and never shows."""

    private: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate, repr=False)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()


def wrap(key: bytes, place: Place, own: DevicePair, to: bytes, *, ephemeral: DevicePair | None = None) -> bytes:
    """81 bytes that only the device with the public key `to` can open, and that only `own` can have made. Leave
    `ephemeral` out, except to reproduce a test vector: it must never be used twice."""
    once = ephemeral or DevicePair()
    receiver = X25519PublicKey.from_public_bytes(to)
    shared = once.private.exchange(receiver) + own.private.exchange(receiver)
    cipher, nonce = _cipher(shared, once.public, own.public, to)
    return FORMAT + once.public + cipher.encrypt(nonce, key, place.context())


def unwrap(wrapped: bytes, place: Place, own: DevicePair, by: bytes) -> bytes:
    """The key that the device with the public key `by` has wrapped for `own`. Raises `CannotDecrypt`."""
    if len(wrapped) != WRAPPED_BYTES or wrapped[:1] != FORMAT:
        raise CannotDecrypt("not a wrapped key of this format")
    once = wrapped[1:33]
    try:
        shared = own.private.exchange(X25519PublicKey.from_public_bytes(once))
        shared += own.private.exchange(X25519PublicKey.from_public_bytes(by))
    except ValueError:
        raise CannotDecrypt("a public key is no good") from None
    cipher, nonce = _cipher(shared, once, by, own.public)
    try:
        return cipher.decrypt(nonce, wrapped[33:], place.context())
    except InvalidTag:
        raise CannotDecrypt("wrapped by or for somebody else, for another version, or changed") from None


def _cipher(shared: bytes, once: bytes, by: bytes, to: bytes) -> tuple[AESGCM, bytes]:
    """Key and nonce are good for one use, because `once` is."""
    info = _WRAP.encode() + once + by + to
    made = HKDF(SHA256(), length=KEY_BYTES + 12, salt=None, info=info).derive(shared)
    return AESGCM(made[:KEY_BYTES]), made[KEY_BYTES:]


def check_of(key: bytes, friends: tuple[str, str], version: int) -> bytes:
    """32 bytes by which every device sees that it has the same key as the others; they tell nothing of it."""
    text = "\n".join([_CHECK, *sorted(friends), str(version)])
    return hmac.digest(key, text.encode(), "sha256")


def fingerprint(user: str, devices: Mapping[str, bytes]) -> str:
    """30 digits for the public keys of one user's devices, by device id."""
    listed = "".join(f"\n{device}\n{devices[device].hex()}" for device in sorted(devices, key=str.encode))
    digest = hashlib.sha512(f"{_SAFETY}\n{user}{listed}".encode()).digest()
    return "".join(f"{int.from_bytes(digest[5 * i : 5 * i + 5]) % 100_000:05d}" for i in range(6))


def safety_number(users: Mapping[str, Mapping[str, bytes]]) -> str:
    """What two friends compare, over a way that the server has no hand in: 12 groups of 5 digits, the same for both
    exactly when both were shown the same public keys of all their devices."""
    digits = "".join(fingerprint(user, users[user]) for user in sorted(users))
    return " ".join(digits[start : start + 5] for start in range(0, len(digits), 5))
