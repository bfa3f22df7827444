"""Files encrypted in chunks: AES-256-GCM under a key of their own, which travels in an encrypted message.

The format, with test vectors, is in `docs/encryption.md`. Nothing here holds more than two chunks in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aldis.mobile_client_demo.encryption import CannotDecrypt

FORMAT = "A256GCM-64K"
CHUNK = 65_536
TAG = 16
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class FileKey:
    """32 random bytes for one file, and never for another: the nonces are only counted. Not in the repr."""

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"the key of a file has {KEY_BYTES} bytes, not {len(self.key)}")

    def __repr__(self) -> str:
        return "FileKey()"

    @classmethod
    def new(cls) -> FileKey:
        return cls(os.urandom(KEY_BYTES))


def encrypted_size(size: int) -> int:
    """How many bytes a file of `size` bytes has when it is encrypted: a tag for each chunk, of which there is always
    one."""
    return size + TAG * max(1, -(-size // CHUNK))


def encrypt(key: FileKey, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The encrypted chunks, one by one. `key` must never have encrypted anything else."""
    cipher = AESGCM(key.key)
    number, held = 0, b""
    for chunk in _chunks(pieces, CHUNK):
        if number or held:
            yield cipher.encrypt(nonce(number), held, associated_data(number, last=False))
            number += 1
        held = chunk
    yield cipher.encrypt(nonce(number), held, associated_data(number, last=True))


def decrypt(key: FileKey, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as they were. Raises `CannotDecrypt` at the first that was changed, moved, left out or cut off: what
    came before is genuine, but not whole until this ends without an error."""
    cipher = AESGCM(key.key)
    number, held = 0, None
    for chunk in _chunks(pieces, CHUNK + TAG):
        if held is not None:
            yield _opened(cipher, held, number, last=False)
            number += 1
        held = chunk
    yield _opened(cipher, held or b"", number, last=True)


def nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def associated_data(number: int, *, last: bool) -> bytes:
    """What the tag of a chunk protects beside it: its place, and whether the file ends with it."""
    return f"aldis file {FORMAT}\n{number}\n{'last' if last else 'more'}".encode()


def _opened(cipher: AESGCM, chunk: bytes, number: int, *, last: bool) -> bytes:
    # only the last chunk may be shorter, and it is empty only where the whole file is
    if len(chunk) < TAG or (last and number and len(chunk) == TAG):
        raise CannotDecrypt("the file is cut off")
    try:
        return cipher.decrypt(nonce(number), chunk, associated_data(number, last=last))
    except InvalidTag:
        raise CannotDecrypt(f"chunk {number} does not fit: another key, or a changed or shortened file") from None


def _chunks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in chunks of this size, the last one perhaps shorter; none where there are no bytes."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
