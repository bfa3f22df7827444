"""Files in chunks: the written vectors, everything that must not open, and what the message says."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import tracemalloc
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.file_encryption import (
    CHUNK,
    TAG,
    FileKey,
    associated_data,
    decrypt,
    encrypt,
    encrypted_size,
    nonce,
)
from aldis.mobile_client_demo.files import FileMessage, send_file
from aldis.mobile_client_demo.rest import Garbled, Login, Refused, Rest

DOCUMENT = Path(__file__).parents[3] / "docs" / "encryption.md"
KEY = FileKey(bytes(range(32)))
SEALED = CHUNK + TAG


def vector() -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+?) \| `([^`]+)` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def sealed(content: bytes, key: FileKey = KEY) -> bytes:
    return b"".join(encrypt(key, [content]))


def opened(stored: bytes, key: FileKey = KEY) -> bytes:
    return b"".join(decrypt(key, [stored]))


def test_the_documented_vectors() -> None:
    row = vector()
    key = FileKey(b64decode(row["file key (base64)"]))
    assert b64encode(nonce(0)).decode() == row["file nonce (base64)"]
    assert b64encode(associated_data(0, last=True)).decode() == row["file associated data (base64)"]
    assert b64encode(sealed(row["file text"].encode(), key)).decode() == row["file bytes (base64)"]
    assert opened(b64decode(row["file bytes (base64)"]), key).decode() == row["file text"]
    long = bytes(7 * index % 251 for index in range(int(row["long file size"])))
    assert hashlib.sha256(sealed(long, key)).hexdigest() == row["long file sha256"]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 7])
def test_round_trip(size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    assert len(sealed(content)) == encrypted_size(size)
    assert opened(sealed(content)) == content


@given(st.binary(max_size=200), st.lists(st.integers(1, 50_000), max_size=12), st.integers(1, 70_000))
@settings(max_examples=40, deadline=None)
def test_how_the_bytes_come_in_pieces_makes_no_difference(seed: bytes, cuts: list[int], step: int) -> None:
    content = (seed * 2_000)[:150_000]

    def pieces() -> Iterator[bytes]:
        place = 0
        for cut in cuts:
            yield content[place : place + cut]
            place += cut
        yield content[place:]

    stored = b"".join(encrypt(KEY, pieces()))
    assert stored == sealed(content)
    parts = (stored[place : place + step] for place in range(0, len(stored), step))
    assert b"".join(decrypt(KEY, parts)) == content


LONG = sealed(bytes(3 * CHUNK + 10))
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a byte of the first chunk": lambda stored: b"\x01" + stored[1:],
    "a byte of the last tag": lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]),
    "cut off at the border of a chunk": lambda stored: stored[: 2 * SEALED],
    "cut off within a chunk": lambda stored: stored[: 2 * SEALED + 100],
    "cut off within the tag": lambda stored: stored[: 2 * SEALED + 5],
    "cut off to nothing": lambda stored: b"",
    "without the last chunk": lambda stored: stored[: 3 * SEALED],
    "without the first chunk": lambda stored: stored[SEALED:],
    "two chunks exchanged": lambda stored: stored[SEALED : 2 * SEALED] + stored[:SEALED] + stored[2 * SEALED :],
    "a chunk twice": lambda stored: stored[:SEALED] + stored,
    "another file behind it": lambda stored: stored + sealed(b"more"),
    "a byte behind it": lambda stored: stored + b"\0",
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str) -> None:
    with pytest.raises(CannotDecrypt):
        opened(CHANGES[change](LONG))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CannotDecrypt):
        opened(LONG, FileKey(bytes(32)))
    assert FileKey.new() != FileKey.new()
    assert "\\x" not in repr(KEY) and len(repr(KEY)) < 12
    with pytest.raises(ValueError, match="32 bytes"):
        FileKey(bytes(16))


def test_a_large_file_is_never_in_memory() -> None:
    tracemalloc.start()
    stored = encrypt(KEY, (bytes(100_000) for _ in range(300)))
    assert sum(len(chunk) for chunk in decrypt(KEY, stored)) == 30_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_what_a_message_says_is_read_again() -> None:
    for key in (KEY, None):
        message = FileMessage("a" * 32, "Grüße.txt", 10, "text/plain", 26, "b" * 64, key)
        assert FileMessage.read(message.body()) == message
        assert ("key" in json.loads(message.body())) == (key is not None)


@pytest.mark.parametrize("body", ["text", "[]", "{}", '{"file_id": 1}', '{"file_id":"a","name":"b","size":true}'])
def test_another_text_is_no_file(body: str) -> None:
    with pytest.raises(ValueError):
        FileMessage.read(body)


def test_a_format_that_we_do_not_know_is_not_guessed() -> None:
    fields = json.loads(FileMessage("a" * 32, "a", 1, "text/plain", 17, "b" * 64, KEY).body())
    with pytest.raises(CannotDecrypt):
        FileMessage.read(json.dumps(fields | {"format": "A256GCM-1M"}))
    with pytest.raises(ValueError):
        FileMessage.read(json.dumps(fields | {"key": "no base64"}))


def test_a_name_in_a_message_names_no_place() -> None:
    for name, kept in {"../../a": "a", "C:\\x\\b": "b", "..": "file", "": "file", "/": "file"}.items():
        message = FileMessage("a" * 32, name, 1, "text/plain", 1, "b" * 64, None)
        assert FileMessage.read(message.body()).name == kept


@pytest.mark.parametrize(
    ("status", "told", "kind", "said"),
    [
        (413, b"<html>too large</html>", Refused, "413"), (502, b"", Refused, "502"), (404, b"[]", Refused, "404"),
        (413, b'{"title":"too large","detail":"x"}', Refused, "too large (x)"),
        (201, b"<html>", Garbled, "names no file"), (201, b"{}", Garbled, "names no file"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_this_api_to_an_upload(
    tmp_path: Path, status: int, told: bytes, kind: type[Exception], said: str
) -> None:
    """A proxy in front has words of its own."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    path = tmp_path / "note"
    path.write_bytes(b"hello")
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        rest = Rest(f"http://127.0.0.1:{server.server_port}", timeout=5)
        with pytest.raises(kind, match=re.escape(said)):
            send_file(rest, Login("ada", "phone", "a", "r"), path, "bob", mime="text/plain")
