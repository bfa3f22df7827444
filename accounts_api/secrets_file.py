"""The two keys of a server, or of all processes of a cluster, in one file that not everybody may read.

`{"version": 1, "signing_key": base64, "master_key": base64}`, 32 random bytes each. The signing key proves access
tokens; the master key opens the relation keys in the database, so a backup of the database is worth nothing without
this file. While master keys are exchanged there is `more_master_keys`, too, a list: the database says by their ids
which of them all wraps. Losing the file ends every login and every relation key: back it up, apart from the database.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hmac
import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_BYTES = 32
_VERSION = 1
_MORE = "more_master_keys"
_TRANSFER = b"aldis: frames between nodes, 1"


class SecretsError(Exception):
    """The secrets file cannot be used; the text says which, why, and what to do. It never contains a secret."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The server's keys; kept out of the repr, so that they cannot slip into a log."""

    signing_key: bytes = field(repr=False)
    master_key: bytes = field(repr=False)
    more_master_keys: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def master_keys(self) -> tuple[bytes, ...]:
        return (self.master_key, *self.more_master_keys)

    @property
    def transfer_key(self) -> bytes:
        """32 bytes, the same on every node, that prove who has made a frame. They tell nothing of the other keys."""
        return hmac.digest(self.signing_key, _TRANSFER, "sha256")


def load_or_make(path: Path) -> Secrets:
    """The keys in `path`; a missing file is made with mode 0600, whole or not at all. Of two processes that start at
    once both get the same keys. Raises `SecretsError`: unreadable, damaged, or open to everybody."""
    try:
        try:
            return _load(path)
        except FileNotFoundError:
            _make(path)
            return _load(path)
    except OSError as error:
        raise _unusable(path, error) from error


def load(path: Path) -> Secrets:
    """The keys in `path`, which is never made: several processes that each make their own would not understand each
    other. Raises `SecretsError`."""
    try:
        return _load(path)
    except FileNotFoundError as error:
        raise SecretsError(
            f"there is no secrets file {path}: all processes of a cluster need the same one. Make it once, with "
            f"`aldis secrets make {path}`, and give each of them a copy"
        ) from error
    except OSError as error:
        raise _unusable(path, error) from error


def make(path: Path) -> None:
    """New keys in `path`, mode 0600, whole or not at all. Raises `SecretsError`, also where there is something already:
    it may be what opens the database."""
    try:
        made = _make(path)
    except OSError as error:
        raise _unusable(path, error) from error
    if not made:
        raise SecretsError(f"{path} is there already and stays: its keys may be in use")


def change_master_keys(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replaces the master keys in `path` by what `change` makes of them; at least one. Whole or not at all, with the
    owner and mode that the file has; one process at a time. Raises `SecretsError`, and what `change` raises."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            found = _load(path)
            master, *more = change(list(found.master_keys))
            _replace(path, Secrets(found.signing_key, master, tuple(more)))
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unusable(path, error) from error


def _replace(path: Path, new: Secrets) -> None:
    document: dict[str, Any] = {"version": _VERSION, "signing_key": _text(new.signing_key)}
    document["master_key"] = _text(new.master_key)
    if new.more_master_keys:
        document[_MORE] = [_text(key) for key in new.more_master_keys]
    old = path.stat()
    draft = _write_draft(path, document)
    try:
        if (old.st_uid, old.st_gid) != (os.getuid(), os.getgid()):
            os.chown(draft, old.st_uid, old.st_gid)
        draft.chmod(stat.S_IMODE(old.st_mode))
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _load(path: Path) -> Secrets:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise SecretsError(f"{path} is not a file")
        # Windows has no such bits to look at.
        if os.name == "posix" and mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
            raise SecretsError(
                f"{path} holds the server's keys, but its mode {stat.S_IMODE(mode):04o} lets others at it: "
                "chmod 0600 it, or 0640 where the server reads it by its group"
            )
        text = file.read(65_536)
    try:
        document = json.loads(text)
    except ValueError as error:
        # `from None`: the parser's error quotes the text, and the text is the secret.
        raise _damaged(path, f"not JSON (at byte {getattr(error, 'pos', 0)})") from None
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise _damaged(path, f"not a secrets file of version {_VERSION}")
    more = document.get(_MORE, [])
    if not isinstance(more, list):
        raise _damaged(path, f"{_MORE} is not a list")
    return Secrets(
        _key(path, document.get("signing_key"), "signing_key"),
        _key(path, document.get("master_key"), "master_key"),
        tuple(_key(path, one, f"{_MORE}[{place}]") for place, one in enumerate(more)),
    )


def _key(path: Path, value: Any, name: str) -> bytes:
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        raise _damaged(path, f"{name} is not base64") from None
    if len(key) != KEY_BYTES:
        raise _damaged(path, f"{name} is not {KEY_BYTES} bytes")
    return key


def _unusable(path: Path, error: OSError) -> SecretsError:
    return SecretsError(f"cannot use {path}: {error.strerror or error}")


def _damaged(path: Path, why: str) -> SecretsError:
    return SecretsError(f"{path} is damaged: {why}. Restore it from a backup; a new one would end every login and key")


def _make(path: Path) -> bool:
    """False: somebody has made it before, and it is untouched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"version": _VERSION}
    keys = {name: _text(secrets.token_bytes(KEY_BYTES)) for name in ("signing_key", "master_key")}
    draft = _write_draft(path, document | keys)
    try:
        try:
            # A link, not a rename: it fails where another process was first, instead of replacing its keys.
            os.link(draft, path)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True
    finally:
        draft.unlink()


def _write_draft(path: Path, document: dict[str, Any]) -> Path:
    """A new file beside `path`, on disk; nothing is left of one that could not be written."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink()
        raise
    return draft


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
