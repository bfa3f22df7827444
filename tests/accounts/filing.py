"""Uploads and downloads as clients make them: whole, or byte by byte over a bare socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from aldis.bridge.disk_blobs import MARK, DiskBlobs
from aldis.bridge.schema import im_file, im_file_grant
from tests.accounts.world import Caller, World


async def send(
    caller: Caller,
    content: bytes,
    *,
    to: Sequence[str] | str = (),
    name: str = "a.bin",
    mime: str = "application/octet-stream",
    sha256: str | None = None,
) -> httpx.Response:
    digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
    params = [("to", one) for one in ([to] if isinstance(to, str) else to) or [caller.user]]
    return await caller.world.client.post(
        "/v1/files",
        params=params,
        headers=caller.headers,
        files={"file": (name, content, mime)},
        data={"sha256": digest},
    )


async def stored(caller: Caller, content: bytes, **options: Any) -> str:
    answer = await send(caller, content, **options)
    assert answer.status_code == 201, answer.text
    return answer.json()["file_id"]


async def fetch(caller: Caller, file_id: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller.world.client.get(f"/v1/files/{file_id}", headers={**caller.headers, **named})


async def rows(world: World) -> tuple[int, int]:
    """How many files and grants the database knows."""
    async with world.database.read() as connection:
        files = await connection.scalar(select(func.count()).select_from(im_file))
        grants = await connection.scalar(select(func.count()).select_from(im_file_grant))
    return files or 0, grants or 0


def on_disk(world: World) -> list[str]:
    """Files in the storage's folder, its mark left out."""
    assert isinstance(world.blobs, DiskBlobs)
    root: Path = world.blobs.root
    found = (path for path in root.rglob("*") if not path.is_dir() and path.name != MARK)
    return sorted(str(path.relative_to(root)) for path in found)


async def nothing_is_left(world: World) -> None:
    """No file, no row, no place taken; within a moment."""
    async with asyncio.timeout(10):
        while True:
            left = (on_disk(world), await rows(world), len(world.filing.uploads), len(world.filing.downloads))
            if left == ([], (0, 0), 0, 0):
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def bare(world: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = world.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head(caller: Caller, *, length: int | None, to: str = "", more: str = "") -> bytes:
    """The head of an upload, and the beginning of its form up to the first byte of the file."""
    lines = [
        f"POST /v1/files?to={to or caller.user} HTTP/1.1",
        "Host: x",
        f"Authorization: {caller.headers['Authorization']}",
        "Content-Type: multipart/form-data; boundary=x",
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode()


def form(content: bytes, sha256: str | None = None) -> bytes:
    digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
    return (
        b'--x\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n' + digest.encode() + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    )
