"""The files of the web chat, read once and kept in memory as they go over the wire. No other file can be asked for."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

INDEX = "index.html"

TYPES: Mapping[str, str] = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/plain",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    "": "text/plain",
}
"""By the end of the name. A file of another kind is an error at start, not a guess in the browser."""

_PACKED = (".png", ".woff2")
"""Compressed in themselves."""

SHELL = "/shell.js"
"""What `shell` makes; no file."""

_NOT_KEPT = ("", ".md", ".txt")
"""Licences and notes: nobody misses them without a network."""


class WebFilesError(Exception):
    """The files are not there, or not as they should be; the text is for whoever starts the server."""


class WebFile(NamedTuple):
    media_type: str
    content: bytes
    packed: bytes | None
    """The same by gzip, if that is worth it."""
    tag: str
    """Changes with the content; what stands between the quotes of an ETag."""


def read_web_files(folder: Path) -> dict[str, WebFile]:
    """By the path under which they are served, `/` for the page itself. Blocks. Raises `WebFilesError`."""
    try:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _paths(folder)}
    except OSError as error:
        raise WebFilesError(f"cannot read the web chat in {folder}: {error.strerror}") from error
    if INDEX not in found:
        raise WebFilesError(f"there is no web chat in {folder}: {INDEX} is missing")
    return {"/" if name == INDEX else f"/{name}": _web_file(name, content) for name, content in found.items()}


def _paths(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _web_file(name: str, content: bytes) -> WebFile:
    suffix = Path(name).suffix
    if suffix not in TYPES:
        raise WebFilesError(f"the web chat has a file of a kind that is not served: {name}")
    packed = None if suffix in _PACKED else gzip.compress(content, 9, mtime=0)
    if packed is not None and len(packed) > 0.9 * len(content):
        packed = None
    return WebFile(TYPES[suffix], content, packed, hashlib.sha256(content).hexdigest()[:32])


def shell(files: Mapping[str, WebFile], policy: str) -> WebFile:
    """For the service worker: what it keeps, and the version of it all. A browser that finds this changed takes all
    files anew, never a mixture of old and new. The policy is part of it because it is kept with the files, and says
    where MQTT is."""
    kept = sorted(path for path in files if Path(path).suffix not in _NOT_KEPT or path == "/")
    parts = [policy, *(f"{path} {files[path].tag}" for path in kept)]
    whole = {"version": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], "files": kept}
    content = f"self.SHELL = {json.dumps(whole)};\n".encode()
    return WebFile(TYPES[".js"], content, None, hashlib.sha256(content).hexdigest()[:32])
