"""Files to friends: encrypted while they are sent, fetched on from where a connection broke, checked before they count.

A message of type `file` carries what its receiver needs. `docs/protocol.md` and `docs/encryption.md` say how.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.file_encryption import FORMAT, FileKey, decrypt, encrypt, encrypted_size
from aldis.mobile_client_demo.rest import Garbled, Login, Refused, Rest, Unreachable

Progress = Callable[[int, int], None]
"""Called with how many bytes of how many are through. What it raises ends the transfer, and is how one is cancelled."""
_BLOCK = 65_536
_UNSEEN = 262_144
"""Bytes that count as sent and are still in this machine; enough for some 20 Mbit/s over 100 ms."""
_BOUNDARY = "aldis-demo-" + "7" * 20


@dataclass(frozen=True, slots=True)
class FileMessage:
    """What the sender tells the receiver in the body of a message. `stored` and `sha256` are of the bytes on the
    server, which are encrypted unless `key` is None."""

    file_id: str
    name: str
    size: int
    mime: str
    stored: int
    sha256: str
    key: FileKey | None

    def body(self) -> str:
        """The JSON text for the `body` of a message of type `file`; to be encrypted like any text."""
        fields: dict[str, Any] = {
            "file_id": self.file_id, "name": self.name, "size": self.size, "mime": self.mime, "stored": self.stored,
            "sha256": self.sha256,
        }  # fmt: skip
        if self.key is not None:
            fields |= {"format": FORMAT, "key": base64.b64encode(self.key.key).decode()}
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def read(cls, body: str) -> FileMessage:
        """Raises `ValueError` for what is no such text, `CannotDecrypt` for another format."""
        fields = json.loads(body)
        if not isinstance(fields, dict):
            raise ValueError("not a file message")
        key = None
        if "key" in fields:
            if fields.get("format") != FORMAT:
                raise CannotDecrypt(f"the file is not encrypted as {FORMAT}")
            try:
                key = FileKey(base64.b64decode(str(fields["key"]), validate=True))
            except binascii.Error as error:
                raise ValueError("the key of the file is not base64") from error
        texts = [fields.get(name) for name in ("file_id", "name", "mime", "sha256")]
        if any(isinstance(text, str) and not _is_utf8(text) for text in texts):
            raise ValueError("half a character, of which no file and no line can be made")
        sizes = [fields.get(name) for name in ("size", "stored")]
        if not all(isinstance(text, str) for text in texts) or not all(type(size) is int for size in sizes):
            raise ValueError("not a file message")
        file_id, name, mime, sha256 = (str(text) for text in texts)
        # what a name may do to the disk of the receiver is the receiver's affair
        name = os.path.basename(name.replace("\\", "/")).replace("\0", "")
        name = "file" if not name.strip(".") else name
        return cls(file_id, name, int(sizes[0] or 0), mime, int(sizes[1] or 0), sha256, key)


def _is_utf8(text: str) -> bool:
    """JSON can write one half of a surrogate pair, and Python reads it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class FileTrouble(Exception):
    """On this side: the file cannot be read, has changed while it was sent, or cannot be written."""


def send_file(
    rest: Rest, login: Login, path: Path, to: str, *, mime: str, progress: Progress = lambda _done, _whole: None
) -> FileMessage:
    """Encrypts and sends in one go, and returns what to tell `to`. The server learns neither name nor type. Raises
    `RestError`, `FileTrouble`."""
    key = FileKey.new()
    try:
        size = path.stat().st_size
        source = path.open("rb")
    except OSError as error:
        raise FileTrouble(f"{path} cannot be read: {error.strerror}") from error
    stored = encrypted_size(size)
    digest = hashlib.sha256()
    head, tail = _form()
    connection, base = rest.connect()
    try:
        connection.connect()
        # Left to itself, the kernel takes megabytes at once: progress would tell nothing, and a cancel come too late.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSEEN)
        connection.putrequest("POST", f"{base}/v1/files?to={to}")
        connection.putheader("Authorization", f"Bearer {login.access_token}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
        connection.putheader("Content-Length", str(len(head) + stored + len(tail)))
        connection.endheaders(head)
        try:
            sent = 0
            for chunk in encrypt(key, _read(source)):
                sent += len(chunk)
                if sent > stored:
                    raise FileTrouble(f"{path} has grown while it was sent")
                digest.update(chunk)
                connection.send(chunk)
                progress(sent, stored)
            if sent < stored:
                raise FileTrouble(f"{path} has shrunk while it was sent")
            sha256 = digest.hexdigest()
            connection.send(tail.replace(b"0" * 64, sha256.encode()))
        except (BrokenPipeError, ConnectionResetError):
            sha256 = ""  # refused before the end: the answer says why
        answer = connection.getresponse()
        told = answer.read()
    except http.client.HTTPException as error:
        raise Garbled(f"POST /v1/files: {type(error).__name__}") from error
    except OSError as error:
        raise Unreachable(f"POST /v1/files: {error}") from error
    finally:
        source.close()
        connection.close()
    return FileMessage(_file_id(answer.status, answer.reason, told), path.name, size, mime, stored, sha256, key)


def _file_id(status: int, reason: str, told: bytes) -> str:
    """Out of the answer to an upload, which may be that of a proxy. Raises `Refused`, `Garbled`."""
    try:
        document = json.loads(told)
    except ValueError:
        document = None
    fields = document if isinstance(document, dict) else {}
    if status != 201:
        title, detail = str(fields.get("title") or reason), str(fields.get("detail") or "")
        raise Refused("POST /v1/files", status, title, detail, bool(fields))
    if not isinstance(fields.get("file_id"), str):
        raise Garbled("POST /v1/files: the answer names no file")
    return str(fields["file_id"])


def part_of(message: FileMessage, target: Path) -> Path:
    """Where the beginning of a file is kept until all of it is there."""
    mark = "".join(letter for letter in message.file_id if letter.isalnum())[:12]
    return target.with_name(f"{target.name}.{mark}.part")


def fetch_file(
    rest: Rest, login: Login, message: FileMessage, target: Path, *, attempts: int = 20,
    progress: Progress = lambda _done, _whole: None,
) -> None:  # fmt: skip
    """The file of a message as `target`, which is there whole or not at all. What came over a connection that broke is
    kept beside it, and the next attempt, or the next call, goes on behind it. Raises `RestError`, `CannotDecrypt`,
    `FileTrouble`."""
    part = part_of(message, target)
    for attempt in range(attempts):
        try:
            _fetch_rest(rest, login, message, part, progress)
            break
        except Unreachable:
            if attempt == attempts - 1:
                raise
    try:
        _finish(message, part, target)
    except OSError as error:
        raise FileTrouble(f"{target} cannot be written: {error.strerror}") from error


def _finish(message: FileMessage, part: Path, target: Path) -> None:
    """Checks, decrypts, and puts it into its place; what does not fit is removed."""
    draft = part.with_suffix(".draft")
    try:
        with part.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != message.sha256:
                raise CannotDecrypt("the file is not the one that was sent")
        with part.open("rb") as source, draft.open("wb") as plain:
            pieces = _blocks(source)
            for chunk in pieces if message.key is None else decrypt(message.key, pieces):
                plain.write(chunk)
        draft.replace(target)
    finally:
        part.unlink()
        draft.unlink(missing_ok=True)


def _fetch_rest(rest: Rest, login: Login, message: FileMessage, part: Path, progress: Progress) -> None:
    """What is there after it is the beginning of the file, if not all of it."""
    have = part.stat().st_size if part.exists() else 0
    if have > message.stored:
        part.unlink()
        have = 0
    if have == message.stored and part.exists():
        return
    connection, base = rest.connect()
    headers = {"Authorization": f"Bearer {login.access_token}", "If-Range": f'"{message.sha256}"'}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        connection.request("GET", f"{base}/v1/files/{quote(message.file_id, safe='')}", headers=headers)
        answer = connection.getresponse()
        if answer.status not in (200, 206):
            raise Refused("GET /v1/files", answer.status, answer.reason, "", False)
        if answer.status == 200:
            have = 0
        with _opened(part, "ab" if have else "wb") as kept:
            while block := answer.read(_BLOCK):
                have += len(block)
                if have > message.stored:
                    raise CannotDecrypt("the file is longer than its message says")
                _write(kept, block)
                progress(have, message.stored)
        if have < message.stored:
            raise Unreachable("the connection broke within the file")
    except (http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
        raise Unreachable("the connection broke within the file") from error
    except http.client.HTTPException as error:
        raise Garbled(f"GET /v1/files: {type(error).__name__}") from error
    except OSError as error:
        raise Unreachable(f"GET /v1/files: {error}") from error
    finally:
        connection.close()


def _opened(path: Path, mode: str) -> BinaryIO:
    try:
        return path.open(mode, buffering=0)  # type: ignore[return-value]
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror}") from error


def _write(kept: BinaryIO, block: bytes) -> None:
    """An error of the disk, not of the network. Unbuffered, so that it comes here and nowhere later."""
    try:
        while block:
            block = block[kept.write(block) :]
    except OSError as error:
        raise FileTrouble(f"it cannot be written: {error.strerror}") from error


def _read(source: BinaryIO) -> Iterator[bytes]:
    try:
        yield from _blocks(source)
    except OSError as error:
        raise FileTrouble(f"it cannot be read: {error.strerror}") from error


def _form() -> tuple[bytes, bytes]:
    """What stands before and behind the bytes; 64 zeroes where the hash goes, which is known at the end only."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = (
        f'\r\n--{_BOUNDARY}\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n{"0" * 64}\r\n--{_BOUNDARY}--\r\n'
    )
    return head.encode(), tail.encode()


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(_BLOCK):
        yield block
