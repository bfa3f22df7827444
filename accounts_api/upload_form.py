"""The form of an upload, read as it comes: one file, and its SHA-256 before or after it. Pure: bytes in, bytes out.

    sha256   64 hexadecimal digits. It may follow the file, so that a client can encrypt and send in one go
    file     the bytes, with a file name and a media type, both only data

Nothing is unpacked, guessed at or kept but the few bytes that a boundary may be hidden in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from aldis.bridge.accounts.file_errors import FileTooLarge, MalformedUpload, TypeRefused

OVERHEAD = 16_384
"""Bytes that the form around a file may have."""
OCTETS = "application/octet-stream"
_HASH = re.compile(rb"[0-9A-Fa-f]{64}")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_MAX_NAME = 255
_TURNING = {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069}
"""They let "gpj.exe" look like "exe.jpg"."""


class UploadForm:
    """`name` and `mime` are known with the first bytes of the file, `sha256` at the end at the latest."""

    def __init__(self, content_type: str, *, max_size: int, allowed_types: tuple[str, ...]) -> None:
        """Raises `MalformedUpload` for another content type."""
        kind, options = parse_options_header(content_type)  # type: ignore[no-untyped-call]
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not re.fullmatch(r"[\x21-\x7e]{1,200}", boundary):
            raise MalformedUpload("the body must be sent as multipart/form-data with a boundary")
        self._parser = PushMultipartParser(boundary, max_segment_count=2, max_header_size=4_096, max_header_count=8)
        self._max_size = max_size
        self._allowed = allowed_types
        self._field = ""
        self._hash = b""
        self._received = 0
        self.size = 0
        self.name: str | None = None
        self.mime = OCTETS
        self.sha256: bytes | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The bytes of the file in the next chunk of the body. Raises `MalformedUpload`, `FileTooLarge`,
        `TypeRefused`."""
        self._received += len(chunk)
        if self._received - len(chunk) - self.size > OVERHEAD:
            raise MalformedUpload("there is too much around the file")
        try:
            for event in self._parser.parse(chunk) if chunk else ():
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                elif self._field == "file":
                    self.size += len(event)
                    if self.size > self._max_size:
                        raise FileTooLarge(f"a file may have at most {self._max_size} bytes")
                    yield bytes(event)
                else:
                    self._hash += event
                    if len(self._hash) > 64:
                        raise MalformedUpload("sha256 must be 64 hexadecimal digits")
        except MultipartError as error:
            raise MalformedUpload("the body is not a form of the announced boundary") from error

    def complete(self) -> bytes:
        """The SHA-256 that the client has given, when all has come. Raises `MalformedUpload` if something is
        missing."""
        try:
            self._parser.close()  # type: ignore[no-untyped-call]
        except MultipartError as error:
            raise MalformedUpload("the body ends within the form") from error
        if self.name is None or self.sha256 is None:
            raise MalformedUpload("the form must have a file, and its SHA-256 as sha256")
        return self.sha256

    def _begin(self, segment: MultipartSegment) -> None:
        self._field = segment.name or ""
        if self._field == "file" and self.name is None:
            self.name = plain_name(segment.filename or "")
            self.mime = media_type(segment.content_type or "")
            if not any(_matches(self.mime, allowed) for allowed in self._allowed):
                raise TypeRefused("files of this type are not taken here")
        elif self._field != "sha256" or self.sha256 is not None:
            raise MalformedUpload("the form must have one field file and one field sha256, and no other")

    def _end(self) -> None:
        if self._field == "sha256":
            if not _HASH.fullmatch(self._hash):
                raise MalformedUpload("sha256 must be 64 hexadecimal digits")
            self.sha256 = bytes.fromhex(self._hash.decode("ascii"))


def plain_name(given: str) -> str:
    """The last part of a file name, fit to be shown: no path, no control characters, none that turn the direction of
    writing; at most 255 characters, the end of it kept if there are more. It never names anything on the server."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    kept = (
        "_" if ord(character) in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in name
    )
    name = "".join(kept).strip()[-_MAX_NAME:]
    return name if name.strip(".") else "file"


def media_type(given: str) -> str:
    """The media type in small letters, without parameters; octets for what is none."""
    kind = given.partition(";")[0].strip().lower()
    return kind if _MEDIA_TYPE.fullmatch(kind) else OCTETS


def _matches(mime: str, allowed: str) -> bool:
    return allowed in ("*/*", mime) or (allowed.endswith("/*") and mime.startswith(allowed[:-1]))
