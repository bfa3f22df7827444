"""The two keys of a server, in one file that only its owner may read.

`{"version": 1, "signing_key": base64, "master_key": base64}`, 32 random bytes each. The signing key proves access
tokens; the master key opens the relation keys in the database, so a backup of the database is worth nothing without
this file. Losing the file ends every login and every relation key: back it up, apart from the database.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_BYTES = 32
_VERSION = 1


class SecretsError(Exception):
    """The secrets file cannot be used; the text says which, why, and what to do. It never contains a secret."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The server's keys; kept out of the repr, so that they cannot slip into a log."""

    signing_key: bytes = field(repr=False)
    master_key: bytes = field(repr=False)


def load_or_make(path: Path) -> Secrets:
    """The keys in `path`; a missing file is made with mode 0600, whole or not at all. Of two processes that start at
    once both get the same keys. Raises `SecretsError`: unreadable, damaged, or open to others."""
    try:
        try:
            return _load(path)
        except FileNotFoundError:
            _make(path)
            return _load(path)
    except OSError as error:
        raise SecretsError(f"cannot use {path}: {error.strerror or error}") from error


def _load(path: Path) -> Secrets:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise SecretsError(f"{path} is not a file")
        # Windows has no such bits to look at.
        if os.name == "posix" and mode & 0o077:
            raise SecretsError(
                f"{path} holds the server's keys, but its mode {stat.S_IMODE(mode):04o} lets others at it: chmod 600 it"
            )
        text = file.read(65_536)
    try:
        document = json.loads(text)
    except ValueError as error:
        # `from None`: the parser's error quotes the text, and the text is the secret.
        raise _damaged(path, f"not JSON (at byte {getattr(error, 'pos', 0)})") from None
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise _damaged(path, f"not a secrets file of version {_VERSION}")
    return Secrets(_key(path, document, "signing_key"), _key(path, document, "master_key"))


def _key(path: Path, document: dict[str, Any], name: str) -> bytes:
    value = document.get(name)
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        raise _damaged(path, f"{name} is not base64") from None
    if len(key) != KEY_BYTES:
        raise _damaged(path, f"{name} is not {KEY_BYTES} bytes")
    return key


def _damaged(path: Path, why: str) -> SecretsError:
    return SecretsError(f"{path} is damaged: {why}. Restore it from a backup; a new one would end every login and key")


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"version": _VERSION}
    keys = {name: base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() for name in ("signing_key", "master_key")}
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(document | keys, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, not a rename: it fails where another process was first, instead of replacing its keys.
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        draft.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
