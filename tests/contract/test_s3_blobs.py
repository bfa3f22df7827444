"""What only a bucket can have wrong: parts that stay behind, a server that is away, refuses, or fails half way."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterator

import pytest

from aldis.bridge.blobs import BLOCK, BlobMissing, StorageUnavailable
from aldis.bridge.s3_blobs import Bucket, S3Blobs
from tests.s3_server import S3Server

NAME = "ab" + "0" * 30


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    return server.new_bucket()


async def test_names_in_the_bucket(server: S3Server, bucket: Bucket) -> None:
    blobs = S3Blobs(bucket)
    await blobs.open()
    writer = await blobs.writer(NAME)
    await writer.write(b"x")
    await writer.finish()
    assert server.keys(bucket) == [f"aldis/contents/{NAME}", "aldis/storage-id"]


@pytest.mark.parametrize("blocks", [21, 40])
async def test_an_abandoned_upload_leaves_no_parts(server: S3Server, bucket: Bucket, blocks: int) -> None:
    writer = await S3Blobs(bucket).writer(NAME)
    for _ in range(blocks):
        await writer.write(bytes(BLOCK))
    await writer.abort()
    assert (server.keys(bucket), server.unfinished(bucket)) == ([], 0)


async def test_large_ones_go_up_in_parts(server: S3Server, bucket: Bucket) -> None:
    blobs = S3Blobs(bucket)
    writer = await blobs.writer(NAME)
    content = secrets.token_bytes(16 * 2**20)
    for place in range(0, len(content), BLOCK):
        await writer.write(content[place : place + BLOCK])
    assert server.unfinished(bucket) == 1
    await writer.finish()
    assert server.unfinished(bucket) == 0
    assert b"".join([block async for block in blobs.read(NAME, 0, len(content))]) == content


async def test_a_server_that_is_away(bucket: Bucket) -> None:
    away = S3Blobs(Bucket(**{**{name: getattr(bucket, name) for name in bucket.__struct_fields__},
                             "endpoint": f"http://127.0.0.1:{closed_port()}", "max_retries": 0}))  # fmt: skip
    with pytest.raises(StorageUnavailable) as refused:
        await away.open()
    assert "secret" not in str(refused.value)
    for call in (away.size(NAME), away.remove(NAME), away.found(after="", limit=1)):
        with pytest.raises(StorageUnavailable):
            await call
    with pytest.raises(StorageUnavailable):
        [block async for block in away.read(NAME, 0, 1)]
    small = await away.writer(NAME)
    await small.write(b"x")
    with pytest.raises(StorageUnavailable):
        await small.finish()
    await small.abort()
    large = await away.writer(NAME)
    with pytest.raises(StorageUnavailable):
        async with asyncio.timeout(20):
            for _ in range(200):
                await large.write(bytes(BLOCK))
    await large.abort()


async def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    there = server.new_bucket()
    none = Bucket(**{**{name: getattr(there, name) for name in there.__struct_fields__}, "bucket": "nowhere-at-all"})
    with pytest.raises(StorageUnavailable):
        await S3Blobs(none).open()


async def test_a_content_that_vanishes_while_it_is_read(server: S3Server, bucket: Bucket) -> None:
    blobs = S3Blobs(bucket)
    writer = await blobs.writer(NAME)
    for _ in range(12):
        await writer.write(bytes(BLOCK))
    await writer.finish()
    reading = blobs.read(NAME, 0, 12 * BLOCK)
    await anext(reading)
    await blobs.remove(NAME)
    with pytest.raises(StorageUnavailable):
        await anext(reading)
    with pytest.raises(BlobMissing):
        await anext(blobs.read(NAME, 0, 1))


def test_the_key_is_in_no_repr(bucket: Bucket) -> None:
    assert "secret" not in repr(bucket) and "secret" not in f"{bucket}"
