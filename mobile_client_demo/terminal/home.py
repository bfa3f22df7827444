"""Where the chat keeps what it must not forget: one folder for each device of a user on a server, for that user alone.

Files that cannot be read are put aside, never removed, and what they held is begun anew.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from aldis.mobile_client_demo.rest import Login

try:
    import fcntl
except ImportError:  # Windows: there SQLite alone keeps two chats apart
    fcntl = None  # type: ignore[assignment]


class InUse(Exception):
    """Another `aldis chat` runs on these files."""


def default_folder(environment: Mapping[str, str], platform: str, home: Path) -> Path:
    """Where programs of this platform keep the data of a user."""
    if platform == "darwin":
        return home / "Library" / "Application Support" / "aldis" / "chat"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "aldis" / "chat"
    given = environment.get("XDG_DATA_HOME", "")
    # a relative path there is to be ignored, says the XDG specification
    return (Path(given) if os.path.isabs(given) else home / ".local" / "share") / "aldis" / "chat"


def _name(text: str) -> str:
    """A file name for any text, another one for each."""
    name = quote(text, safe="@ ")
    return name if name.strip(".") else name.replace(".", "%2E")


class Home:
    """The folder for all of them, and which login was used last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """What was put aside, for the user."""

    def last(self) -> dict[str, str]:
        """`server`, `mqtt`, `user`, `cafile`, as far as they are known."""
        return self._read(self.folder / "last.json")

    def remember(self, values: Mapping[str, str]) -> None:
        _write(self.folder / "last.json", values)

    def account(self, server: str, user: str, device: str) -> Account:
        """Makes the folder. Without `device` the one that was used the last time, or a new one."""
        parts = urlsplit(server)
        place = self.folder / _name(f"{parts.hostname}_{parts.port or parts.scheme}") / _name(user)
        known = self._read(place / "device.json").get("device", "")
        device = device or known or _new_device()
        if device != known:
            _write(place / "device.json", {"device": device})
        return Account(place / _name(device), user, device, self.notes)

    def _read(self, path: Path) -> dict[str, str]:
        return read_texts(path, self.notes)


class Account:
    """The files of one device of one user. `lock` it first."""

    def __init__(self, folder: Path, user: str, device: str, notes: list[str]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.user, self.device, self.notes = folder, user, device, notes
        self.outbox, self.archive, self.log = folder / "outbox.db", folder / "messages.db", folder / "log"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Until the process ends. Raises `InUse`."""
        held = (self.folder / "lock").open("a+", encoding="ascii")
        if fcntl is not None:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.seek(0)
                other = held.read(20).strip()
                process = f" (process {other})" if other.isdigit() else ""
                raise InUse(
                    f"another aldis chat{process} is running as {self.user} on {self.device}, in {self.folder}; "
                    "take --device for one beside it"
                ) from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        self._lock = held

    def login(self) -> Login | None:
        kept = read_texts(self.folder / "login.json", self.notes)
        names = ("access_token", "refresh_token", "refresh_key")
        if not all(kept.get(name) for name in names) or kept.get("user") != self.user:
            return None
        return Login(self.user, self.device, *(kept[name] for name in names))

    def keep(self, login: Login | None) -> None:
        """On disk when it returns: a refresh token is good once."""
        path = self.folder / "login.json"
        if login is None:
            path.unlink(missing_ok=True)
            return
        _write(path, {
            "user": login.user, "device": login.device, "access_token": login.access_token,
            "refresh_token": login.refresh_token, "refresh_key": login.refresh_key,
        })  # fmt: skip

    def put_aside(self, path: Path, why: object) -> None:
        put_aside(path, self.notes, why)


def _new_device() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname())
    return f"terminal-{host[:40] or 'host'}-{secrets.token_hex(2)}"


def put_aside(path: Path, notes: list[str], why: object) -> None:
    """A file that is no good, with what SQLite keeps beside it."""
    mark = f"broken-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if one.exists():
            one.replace(one.with_name(f"{one.name}.{mark}"))
    notes.append(f"{path.name} could not be read ({why}); it is kept as {path.name}.{mark}, and a new one begun")


def read_texts(path: Path, notes: list[str]) -> dict[str, str]:
    """A JSON object of texts; empty where there is none. One that is no good is put aside."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ValueError("not an object of texts")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        put_aside(path, notes, type(error).__name__)
        return {}
    return found


def _write(path: Path, values: Mapping[str, str]) -> None:
    """Whole or not at all, and for this user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def platform_folder() -> Path:
    return default_folder(os.environ, sys.platform, Path.home())
