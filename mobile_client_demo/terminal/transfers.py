"""Files on their way, each in a thread of its own, with progress, and a way to stop them."""

from __future__ import annotations

import errno
import logging
import mimetypes
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.files import FileMessage, FileTrouble, Progress, fetch_file, send_file
from aldis.mobile_client_demo.rest import Refused, RestError
from aldis.mobile_client_demo.terminal.events import Event, Moved, Told
from aldis.mobile_client_demo.terminal.text import plain

logger = logging.getLogger(__name__)

EVERY = 0.1
"""Seconds between two looks at how far it is."""
MOST = 4
"""At once: the server takes 4 uploads of one user."""
LONGEST_NAME = 120


class _Cancelled(Exception):
    pass


class Transfers:
    def __init__(self, access: Access, post: Callable[[Event], None]) -> None:
        self._access, self._post = access, post
        self._count, self._cancelled = 0, set[int]()
        self._lock, self._room = threading.Lock(), threading.Semaphore(MOST)
        self._targets = set[Path]()
        """What is being written: none of it is there yet."""

    def send(self, to: str, typed: str, then: Callable[[FileMessage], None]) -> None:
        """`then` is called when the server has it."""
        try:
            path = typed_path(typed)
        except OSError as error:
            self._post(Told(f"{typed}: {error.strerror}", bad=True))
            return
        mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"

        def work(progress: Progress) -> None:
            then(self._access.call(lambda rest, login: send_file(rest, login, path, to, mime=mime, progress=progress)))

        self._start(path.name, True, work)

    def save(self, file: FileMessage, path: str) -> None:
        try:
            with self._lock:
                target = target_of(file, path, self._targets)
                self._targets.add(target)
        except OSError as error:
            self._post(Told(f"{path}: {error.strerror}", bad=True))
            return

        def work(progress: Progress) -> None:
            self._access.call(lambda rest, login: fetch_file(rest, login, file, target, progress=progress))
            self._post(Told(f"saved as {target}"))

        def over() -> None:
            with self._lock:
                self._targets.discard(target)

        self._start(file.name, False, work, over)

    def cancel(self, number: int) -> None:
        self._cancelled.add(number)

    def cancel_all(self) -> None:
        self._cancelled.update(range(self._count + 1))

    def _start(
        self, name: str, sending: bool, work: Callable[[Progress], None], over: Callable[[], None] = lambda: None
    ) -> None:
        with self._lock:
            self._count += 1
            number = self._count
        self._post(Moved(number, name, sending, 0, 0))
        told = 0.0

        def progress(done: int, whole: int) -> None:
            nonlocal told
            if number in self._cancelled:
                raise _Cancelled
            if time.monotonic() >= told + EVERY or done == whole:
                told = time.monotonic()
                self._post(Moved(number, name, sending, done, whole))

        def run() -> None:
            try:
                with self._room:
                    progress(0, 0)
                    work(progress)
            except _Cancelled:
                kept = "" if sending else "; /save goes on where it stopped"
                self._post(Told(f"{name}: cancelled{kept}"))
            except Refused as refusal:
                why = "it is not there any more" if refusal.status == 404 else str(refusal)
                self._post(Told(f"{name}: {why}", bad=True))
            except (RestError, FileTrouble, CannotDecrypt, NoLogin, OSError) as error:
                kept = "" if sending else "; /save goes on where it broke off"
                self._post(Told(f"{name}: {error}{kept}", bad=True))
            except Exception as fault:
                logger.exception("a transfer failed")
                self._post(Told(f"{name}: {fault}", bad=True))
            finally:
                over()
                self._post(Moved(number, name, sending, 0, 0, ended=True))

        threading.Thread(target=run, name=f"transfer-{number}", daemon=True).start()


def typed_path(text: str) -> Path:
    """Raises `OSError` for the home of somebody whom this machine does not know."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such home") from error


def target_of(file: FileMessage, path: str, taken: Collection[Path] = ()) -> Path:
    """Where a file goes: never over another one, there or `taken`, nor, under a name that its sender chose, where names
    have power."""
    place = typed_path(path) if path else Path.cwd()
    target = place / safe_name(file.name) if place.is_dir() else place
    count = 1
    while target.exists() or target in taken:
        count += 1
        target = target.with_name(f"{Path(target.name).stem.removesuffix(f' ({count - 1})')} ({count}){target.suffix}")
    return target


def safe_name(name: str) -> str:
    """One that shows what it is, is no hidden file, no option and no path."""
    name = plain(name).replace("/", "_").replace("\\", "_").strip()
    name = "_" + name[1:] if name[:1] in (".", "-", "~") else name
    stem, dot, end = name.rpartition(".")
    if len(name) > LONGEST_NAME:
        name = f"{stem[: LONGEST_NAME - len(end[:20])]}{dot}{end[:20]}" if dot else name[:LONGEST_NAME]
    return name.encode(errors="replace")[:240].decode(errors="ignore") or "file"
