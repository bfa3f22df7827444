"""What every storage of contents promises, over all of them: memory, disk, and S3 as moto's server speaks it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aldis.bridge.blobs import BLOCK, BlobMissing, Blobs, StorageUnavailable
from aldis.bridge.disk_blobs import DiskBlobs
from aldis.bridge.memory_blobs import MemoryBlobs
from aldis.bridge.s3_blobs import S3Blobs
from tests.s3_server import S3Server

KINDS = ("memory", "disk", "s3")


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(params=KINDS)
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    with ThreadPoolExecutor(2) as pool:
        made: Blobs
        if request.param == "memory":
            made = MemoryBlobs()
        elif request.param == "disk":
            made = DiskBlobs(tmp_path / "files", pool)
        else:
            server: S3Server = request.getfixturevalue("s3_server")
            made = S3Blobs(server.new_bucket())
        await made.open()
        yield made
        await made.close()


def a_name() -> str:
    return secrets.token_hex(16)


async def store(blobs: Blobs, content: bytes, name: str | None = None, block: int = BLOCK) -> str:
    name = name or a_name()
    writer = await blobs.writer(name)
    for place in range(0, len(content), block):
        await writer.write(content[place : place + block])
    await writer.finish()
    return name


async def whole(blobs: Blobs, name: str, start: int = 0, stop: int | None = None) -> bytes:
    stop = await blobs.size(name) if stop is None else stop
    return b"".join([block async for block in blobs.read(name, start, stop)])


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * 2**20, 5 * 2**20 + 1, 12_345_678])
async def test_what_is_written_is_read(blobs: Blobs, size: int) -> None:
    content = secrets.token_bytes(size)
    name = await store(blobs, content)
    assert await blobs.size(name) == size
    assert await whole(blobs, name) == content


async def test_a_part_of_it_is_read(blobs: Blobs) -> None:
    content = secrets.token_bytes(3 * 2**20)
    name = await store(blobs, content, block=100_000)
    for start, stop in [(0, 1), (7, 7), (len(content) - 1, len(content)), (2**20 - 1, 2**21 + 1)]:
        assert await whole(blobs, name, start, stop) == content[start:stop]


async def test_nothing_is_visible_before_the_end(blobs: Blobs) -> None:
    name = a_name()
    writer = await blobs.writer(name)
    for _ in range(24):
        await writer.write(bytes(BLOCK))
    with pytest.raises(BlobMissing):
        await blobs.size(name)
    assert await blobs.found(after="", limit=10) == []
    await writer.finish()
    assert await blobs.size(name) == 24 * BLOCK


@pytest.mark.parametrize("blocks", [0, 1, 30])
async def test_an_abandoned_writer_leaves_nothing(blobs: Blobs, blocks: int) -> None:
    name = a_name()
    writer = await blobs.writer(name)
    for _ in range(blocks):
        await writer.write(bytes(BLOCK))
    await writer.abort()
    await writer.abort()
    with pytest.raises(BlobMissing):
        await blobs.size(name)
    assert await blobs.found(after="", limit=10) == []
    assert await blobs.sweep(begun_before=2**60, limit=10) == 0
    # the name is as free as before
    await store(blobs, b"again", name)
    assert await whole(blobs, name) == b"again"


async def test_aborting_what_is_finished_does_nothing(blobs: Blobs) -> None:
    name = a_name()
    writer = await blobs.writer(name)
    await writer.write(b"x")
    await writer.finish()
    await writer.abort()
    assert await whole(blobs, name) == b"x"


async def test_removing_is_final_and_may_be_repeated(blobs: Blobs) -> None:
    name = await store(blobs, b"x")
    other = await store(blobs, b"y")
    await blobs.remove(name)
    await blobs.remove(name)
    with pytest.raises(BlobMissing):
        await blobs.size(name)
    with pytest.raises(BlobMissing):
        await whole(blobs, name, 0, 1)
    with pytest.raises(BlobMissing):
        await whole(blobs, name, 0, 0)
    assert await whole(blobs, other) == b"y"


async def test_what_is_there_is_listed_in_order_and_in_pieces(blobs: Blobs) -> None:
    begun = int(time.time() * 1000) - 2_000
    names = sorted([await store(blobs, b"x") for _ in range(25)])
    seen, after = [], ""
    while page := await blobs.found(after=after, limit=10):
        assert len(page) <= 10
        seen += page
        after = page[-1].name
    assert [one.name for one in seen] == names
    assert all(begun <= one.finished <= time.time() * 1000 + 2_000 for one in seen)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../" + "a" * 29, "a" * 31, "A" * 32, "a" * 30 + "/x", "a" * 31 + "\n"]
)
async def test_what_is_no_name_touches_nothing(blobs: Blobs, name: str) -> None:
    for call in (blobs.size(name), blobs.writer(name), whole(blobs, name, 0, 1)):
        with pytest.raises(BlobMissing):
            await call
    with pytest.raises(BlobMissing):
        await blobs.remove(name)


async def test_more_than_there_is_cannot_be_read(blobs: Blobs) -> None:
    name = await store(blobs, b"12345")
    with pytest.raises(StorageUnavailable):
        await whole(blobs, name, 0, 6)


async def test_the_mark_stays(blobs: Blobs) -> None:
    mark = await blobs.mark()
    assert len(mark) == 32
    await blobs.open()
    assert await blobs.mark() == mark


async def test_many_at_once(blobs: Blobs) -> None:
    contents = {a_name(): secrets.token_bytes(50_000 * number) for number in range(10)}
    await asyncio.gather(*(store(blobs, content, name) for name, content in contents.items()))
    read = await asyncio.gather(*(whole(blobs, name) for name in contents))
    assert read == list(contents.values())


async def test_a_reader_that_leaves_early_holds_nothing(blobs: Blobs) -> None:
    name = await store(blobs, bytes(2_000_000))
    for _ in range(50):
        reading = blobs.read(name, 0, 2_000_000)
        assert await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
    await blobs.remove(name)
