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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.file_encryption import FORMAT, FileKey, decrypt, encrypt, encrypted_size
from aldis.mobile_client_demo.rest import Garbled, Login, Refused, Rest, Unreachable

_BLOCK = 65_536
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
        sizes = [fields.get(name) for name in ("size", "stored")]
        if not all(isinstance(text, str) for text in texts) or not all(type(size) is int for size in sizes):
            raise ValueError("not a file message")
        file_id, name, mime, sha256 = (str(text) for text in texts)
        # what a name may do to the disk of the receiver is the receiver's affair
        name = os.path.basename(name.replace("\\", "/")).replace("\0", "")
        name = "file" if not name.strip(".") else name
        return cls(file_id, name, int(sizes[0] or 0), mime, int(sizes[1] or 0), sha256, key)


def send_file(rest: Rest, login: Login, path: Path, to: str, *, mime: str) -> FileMessage:
    """Encrypts and sends in one go, and returns what to tell `to`. The server learns neither name nor type."""
    key = FileKey.new()
    size = path.stat().st_size
    stored = encrypted_size(size)
    digest = hashlib.sha256()
    head, tail = _form()
    connection, base = rest.connect()
    try:
        connection.putrequest("POST", f"{base}/v1/files?to={to}")
        connection.putheader("Authorization", f"Bearer {login.access_token}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
        connection.putheader("Content-Length", str(len(head) + stored + len(tail)))
        connection.endheaders(head)
        try:
            with path.open("rb") as source:
                for chunk in encrypt(key, _blocks(source)):
                    digest.update(chunk)
                    connection.send(chunk)
            sha256 = digest.hexdigest()
            connection.send(tail.replace(b"0" * 64, sha256.encode()))
        except (BrokenPipeError, ConnectionResetError):
            sha256 = ""  # refused before the end: the answer says why
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except http.client.HTTPException as error:
        raise Garbled(f"POST /v1/files: {type(error).__name__}") from error
    except OSError as error:
        raise Unreachable(f"POST /v1/files: {error}") from error
    finally:
        connection.close()
    if answer.status != 201:
        title, detail = str(document.get("title")), str(document.get("detail"))
        raise Refused("POST /v1/files", answer.status, title, detail, True)
    return FileMessage(document["file_id"], path.name, size, mime, stored, sha256, key)


def fetch_file(rest: Rest, login: Login, message: FileMessage, target: Path, *, attempts: int = 20) -> None:
    """The file of a message as `target`, which is there whole or not at all. What came over a connection that broke is
    kept beside it, and the next attempt, or the next call, goes on behind it. Raises `RestError`, `CannotDecrypt`."""
    part = target.with_name(target.name + ".part")
    for attempt in range(attempts):
        try:
            _fetch_rest(rest, login, message, part)
            break
        except Unreachable:
            if attempt == attempts - 1:
                raise
    try:
        with part.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != message.sha256:
                raise CannotDecrypt("the file is not the one that was sent")
        draft = target.with_name(target.name + ".draft")
        with part.open("rb") as source, draft.open("wb") as plain:
            pieces = _blocks(source)
            for chunk in pieces if message.key is None else decrypt(message.key, pieces):
                plain.write(chunk)
        draft.replace(target)
    finally:
        part.unlink()


def _fetch_rest(rest: Rest, login: Login, message: FileMessage, part: Path) -> None:
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
        connection.request("GET", f"{base}/v1/files/{message.file_id}", headers=headers)
        answer = connection.getresponse()
        if answer.status not in (200, 206):
            raise Refused("GET /v1/files", answer.status, answer.reason, "", False)
        with part.open("ab" if answer.status == 206 else "wb") as kept:
            while block := answer.read(_BLOCK):
                kept.write(block)
            if kept.tell() < message.stored:
                raise Unreachable("the connection broke within the file")
    except (http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
        raise Unreachable("the connection broke within the file") from error
    except http.client.HTTPException as error:
        raise Garbled(f"GET /v1/files: {type(error).__name__}") from error
    except OSError as error:
        raise Unreachable(f"GET /v1/files: {error}") from error
    finally:
        connection.close()


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
