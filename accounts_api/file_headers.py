"""What HTTP says of a file: which part of it, under which name, and that no browser shows it as a page. Pure."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from aldis.accounts_api.upload_form import OCTETS
from aldis.bridge.accounts.file_errors import RangeOutside
from aldis.bridge.accounts.files import FileEntry

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE | re.ASCII)

SAFE_TYPES = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"),
        *("audio/mpeg", "audio/mp4", "audio/ogg", "audio/webm", "audio/wav", "audio/flac"),
        *("video/mp4", "video/webm", "video/ogg", "application/zip", "application/pdf", "text/plain"),
    }
)
"""Types that may be named in an answer. Everything else, HTML, SVG and scripts among them, is octets."""


def part_of(entry: FileEntry, wanted: str | None, if_range: str | None) -> tuple[int, int] | None:
    """The part to send, as (start, stop), None for the whole. Raises `RangeOutside`.

    One range is answered; several, overlapping or not, and what is no range of bytes, are passed over, which RFC 9110
    (14.2) lets a server do: the whole file costs less than a thousand parts of it.
    """
    if wanted is None or (if_range is not None and if_range.strip() != etag(entry)):
        return None
    match = _ONE_RANGE.fullmatch(wanted.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, entry.size - int(last)), entry.size
    else:
        start = int(first)
        stop = min(int(last) + 1, entry.size) if last else entry.size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeOutside("the file has no byte in this range", size=entry.size)
    return start, stop


def known(entry: FileEntry, if_none_match: list[str]) -> bool:
    """Whether the client has it already. RFC 9110, 13.1.2: weak comparison."""
    tags = {tag.strip().removeprefix("W/") for value in if_none_match for tag in value.split(",")}
    return etag(entry) in tags or "*" in tags


def etag(entry: FileEntry) -> str:
    return f'"{entry.hash.hex()}"'


def headers_of(entry: FileEntry) -> dict[str, str]:
    """What is said whatever part is sent."""
    return {
        "Content-Type": entry.mime if entry.mime in SAFE_TYPES else OCTETS,
        "Content-Disposition": disposition(entry.name),
        "ETag": etag(entry),
        "Repr-Digest": f"sha-256=:{base64.b64encode(entry.hash).decode()}:",  # RFC 9530
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def disposition(name: str) -> str:
    """Always an attachment. RFC 6266: a name of ASCII for everybody, the real one in UTF-8 (RFC 8187), in which nothing
    but letters, digits and a few signs stands unencoded."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
