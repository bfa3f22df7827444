"""The JSON bodies of the calls about relation keys. Binary fields are standard base64 with padding, of fixed length."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Meta

from aldis.accounts_api.bodies import Body, DeviceId, Time, UserId

WRAPPED_BYTES = 81
"""A format byte, an ephemeral public key, the key, a tag: 1 + 32 + 32 + 16; see docs/encryption.md."""
WRAPPED_FORMAT = b"\x01"

Base64Of32 = Annotated[str, Meta(min_length=44, max_length=44, description="Base64 of 32 bytes.")]
Base64Of81 = Annotated[str, Meta(min_length=108, max_length=108, description="Base64 of 81 bytes.")]
Version = Annotated[int, Meta(ge=1, le=2_147_483_647)]


def octets(text: str, length: int, what: str) -> bytes:
    """Raises `ValueError`, without the value."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} must be base64") from None
    if len(value) != length or base64.b64encode(value).decode() != text:
        raise ValueError(f"{what} must be the base64 of {length} bytes")
    return value


def _check_public_key(text: str) -> None:
    public_key = X25519PublicKey.from_public_bytes(octets(text, 32, "public_key"))
    try:
        # a point of small order gives everybody the same secret
        X25519PrivateKey.generate().exchange(public_key)
    except ValueError:
        raise ValueError("public_key is no good X25519 public key") from None


class DevicePublicKey(Body):
    public_key: Base64Of32

    def __post_init__(self) -> None:
        _check_public_key(self.public_key)


class WrappedKey(Body):
    """The key, wrapped for one device of one of the two members, which had `public_key` when it was."""

    user_id: UserId
    device_id: DeviceId
    public_key: Base64Of32
    wrapped: Base64Of81

    def __post_init__(self) -> None:
        octets(self.public_key, 32, "public_key")
        if octets(self.wrapped, WRAPPED_BYTES, "wrapped")[:1] != WRAPPED_FORMAT:
            raise ValueError("wrapped is in an unknown format")


class NewSealedKey(Body):
    """The version that comes next. `keys` has one entry for each registered device of both members."""

    version: Version
    check: Base64Of32
    keys: Annotated[list[WrappedKey], Meta(min_length=1, max_length=1_000)]

    def __post_init__(self) -> None:
        octets(self.check, 32, "check")


class MoreSealedKeys(Body):
    """For devices that have come later."""

    keys: Annotated[list[WrappedKey], Meta(min_length=1, max_length=1_000)]


class WrappedBy(msgspec.Struct, frozen=True):
    """The device that wrapped the key, with the public key that it had then."""

    user_id: str
    device_id: str
    public_key: str


class VersionedKey(msgspec.Struct, frozen=True):
    """One version. Made by the server: `key`. Sealed: `check`, and, once some device has wrapped it for the calling
    one, `wrapped` and `by`. `stale`: a device that has it was removed since, make the next version."""

    version: int
    kind: Literal["server", "sealed"]
    alg: Literal["A256GCM"]
    created: Time
    stale: bool
    key: str | None
    check: str | None
    wrapped: str | None
    by: WrappedBy | None


class RelationKeyList(msgspec.Struct, frozen=True):
    """`mode` says who makes the next version: the server, or, where both members want it sealed (`wanted_by`), a
    client. `newest` is the version to encrypt with."""

    user_id: str
    mode: Literal["server", "sealed"]
    wanted_by: list[str]
    newest: int
    keys: list[VersionedKey]


class Wanted(msgspec.Struct, frozen=True):
    user_id: str
    mode: Literal["server", "sealed"]
    wanted_by: list[str]


class RelationDevice(msgspec.Struct, frozen=True):
    """A device with a public key. `missing` are the sealed versions that nobody has wrapped for it."""

    user_id: str
    device_id: str
    public_key: str
    created: Time
    missing: list[int]


class RegisteredKey(msgspec.Struct, frozen=True):
    device_id: str
    public_key: str


class Added(msgspec.Struct, frozen=True):
    """How many of the devices named lacked it."""

    added: int
