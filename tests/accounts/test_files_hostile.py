"""Clients that mean no good, or have no luck: slow, cut off, lying about lengths, many at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from pathlib import Path

import pytest

from aldis.accounts_api import file_streams
from aldis.bridge.blobs import BLOCK, StorageFull, StorageUnavailable
from aldis.bridge.disk_blobs import DiskBlobs
from aldis.broker.ports import StoreUnavailable
from aldis.config.files import Files as FilesSettings
from tests.accounts.filing import bare, fetch, form, head, nothing_is_left, on_disk, send, stored
from tests.accounts.world import World, assert_problem

CONTENT = secrets.token_bytes(2_000_000)


@pytest.fixture
def files() -> FilesSettings:
    return FilesSettings(
        max_size=3_000_000,
        max_total_per_user=30_000_000,
        max_uploads=3,
        max_uploads_per_user=2,
        max_downloads=3,
        max_downloads_per_user=2,
        stall_timeout=0.5,
        upload_timeout=2.0,
    )


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("sent", [0, 50, 300, 1_500_000, -1])
async def test_an_upload_that_breaks_off_leaves_nothing(small: World, sent: int) -> None:
    (alice,) = await small.enter("alice")
    body = form(CONTENT)
    async with bare(small) as (_, writer):
        writer.write(head(alice, length=len(body)) + body[:sent])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
    await nothing_is_left(small)
    assert await small.accounts.files.used("alice") == (0, 0)


async def test_an_upload_that_stands_still_is_given_up(small: World) -> None:
    (alice,) = await small.enter("alice")
    body = form(CONTENT)
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body)) + body[:500_000])
        status, problem = await answer_of(reader)
        assert (status, problem["type"]) == (408, "urn:aldis:problem:upload-timeout")
        async with asyncio.timeout(2):
            assert await reader.read() == b"", "the connection is not kept for the rest"
    await nothing_is_left(small)


async def test_an_upload_of_a_byte_now_and_then_is_given_up(small: World) -> None:
    (alice,) = await small.enter("alice")
    body = form(CONTENT)
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body)))

        async def drip() -> None:
            for place in range(200):
                writer.write(body[place : place + 1])
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        begun = asyncio.get_running_loop().time()
        status, problem = await answer_of(reader)
        dripping.cancel()
        assert (status, problem["type"]) == (408, "urn:aldis:problem:upload-timeout")
        # the whole time-out, and the moment in which what follows is read and forgotten
        assert asyncio.get_running_loop().time() - begun < 2.0 + file_streams.LINGER_SECONDS + 1.5
    await nothing_is_left(small)


async def test_lengths_that_lie(small: World) -> None:
    (alice,) = await small.enter("alice")
    body = form(b"content")
    # longer than the body: the rest never comes
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body) + 10) + body)
        assert (await answer_of(reader))[0] == 408
    # shorter: what is announced is no whole form
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body) - 10) + body)
        assert (await answer_of(reader))[0] == 400
    # far too long: refused before a byte of it is read
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=10**15))
        status, problem = await answer_of(reader)
        assert (status, problem["type"]) == (413, "urn:aldis:problem:too-large")
    for nonsense in (b"-5", b"abc", b"1, 2", b"9" * 30):
        async with bare(small) as (reader, writer):
            writer.write(head(alice, length=0).replace(b"Content-Length: 0", b"Content-Length: " + nonsense) + body)
            async with asyncio.timeout(10):
                assert int((await reader.readline()).split()[1]) in (400, 413)
    await nothing_is_left(small)


async def test_without_a_length_the_limit_holds_all_the_same(small: World) -> None:
    (alice,) = await small.enter("alice")

    def chunked(body: bytes) -> bytes:
        steps = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in steps) + b"0\r\n\r\n"

    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=None) + chunked(form(CONTENT)))
        status, entry = await answer_of(reader)
        assert (status, entry["size"]) == (201, len(CONTENT))
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=None) + chunked(form(CONTENT * 2)))
        status, problem = await answer_of(reader)
        assert (status, problem["type"]) == (413, "urn:aldis:problem:too-large")
    assert len(on_disk(small)) == 1
    assert await small.accounts.files.used("alice") == (1, len(CONTENT))


async def test_uploads_at_once_are_bounded_per_user_and_in_all(small: World) -> None:
    alice, bob = await small.enter("alice", "bob")
    body = form(CONTENT)
    async with bare(small) as (_, one), bare(small) as (reader, two), bare(small) as (_, three):
        for writer, caller in ((one, alice), (two, alice), (three, bob)):
            writer.write(head(caller, length=len(body)) + body[:1_000])
        await asyncio.sleep(0.2)
        many = await send(alice, b"x")
        assert_problem(many, 429, "too-many-transfers")
        full = await send(bob, b"x")
        assert_problem(full, 503, "files-busy")
        assert many.headers["retry-after"] and full.headers["retry-after"]
        two.write(body[1_000:])
        assert (await answer_of(reader))[0] == 201
        assert (await send(bob, b"x")).status_code == 201, "a place is free again"


async def test_downloads_at_once_are_bounded_and_one_that_takes_nothing_is_ended(small: World) -> None:
    alice, bob = await small.enter("alice", "bob")
    small.filing.settings = small.filing.settings.model_copy(update={"stall_timeout": 1.5})
    # more than the system's buffers of a connection take
    file_id = await DiskFile(small).of(alice)
    await small.befriend(alice, bob)
    await alice.post(f"/v1/files/{file_id}/grants", {"to": "bob"})
    request = "GET /v1/files/{} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n"
    async with bare(small) as (_, one), bare(small) as (_, two), bare(small) as (_, three):
        for writer, caller in ((one, alice), (two, alice), (three, bob)):
            writer.write(request.format(file_id, caller.headers["Authorization"]).encode())
        await asyncio.sleep(0.3)
        assert_problem(await fetch(alice, file_id, range="bytes=0-0"), 429, "too-many-transfers")
        assert_problem(await fetch(bob, file_id, range="bytes=0-0"), 503, "files-busy")
        await no_downloads(small)
        assert (await fetch(alice, file_id, range="bytes=0-0")).status_code == 206


async def no_downloads(world: World) -> None:
    for _ in range(200):
        if not len(world.filing.downloads):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a download holds its place")


class DiskFile:
    """A file of 60 MB that costs no upload: a hole on the disk, and a row."""

    SIZE = 60_000_000

    def __init__(self, world: World) -> None:
        self._world = world

    async def of(self, caller: object) -> str:
        file_id = await stored(caller, b"x")  # type: ignore[arg-type]
        blobs = self._world.blobs
        assert isinstance(blobs, DiskBlobs)
        os.truncate(blobs.root / file_id[:2] / file_id, self.SIZE)
        async with self._world.engine.begin() as connection:
            await connection.exec_driver_sql(f"UPDATE im_file SET size = {self.SIZE} WHERE file_id = '{file_id}'")
        return file_id


async def test_a_client_that_leaves_lets_go_of_the_file(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = await small.enter("alice")
    file_id = await DiskFile(small).of(alice)
    descriptors = len(os.listdir("/proc/self/fd"))
    read, reads = os.pread, 0

    def counted(*arguments: int) -> bytes:
        nonlocal reads
        reads += 1
        return read(*arguments)

    monkeypatch.setattr(os, "pread", counted)
    for _ in range(6):
        async with bare(small) as (reader, writer):
            lines = f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}"
            writer.write(f"{lines}\r\n\r\n".encode())
            await reader.readexactly(100_000)
            writer.transport.abort()
        await no_downloads(small)
    await asyncio.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    assert reads < 6 * DiskFile.SIZE // BLOCK // 2, "nobody reads a file to its end for a client that has left"


async def test_a_download_is_resumed_until_it_is_whole(small: World) -> None:
    (alice,) = await small.enter("alice")
    file_id = await stored(alice, CONTENT)
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    got = b""
    cuts = 0
    while len(got) < len(CONTENT):
        async with bare(small) as (reader, writer):
            writer.write(
                f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
                f"Range: bytes={len(got)}-\r\nIf-Range: {tag}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206"), head
            wanted = min(300_000 + cuts * 7, len(CONTENT) - len(got))
            got += await reader.readexactly(wanted)
            writer.transport.abort()
            cuts += 1
    assert got == CONTENT and cuts > 5


async def test_a_full_disk_is_507_and_nothing_is_left(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = await small.enter("alice")
    assert isinstance(small.blobs, DiskBlobs)
    small.blobs.min_free = 2**60
    assert_problem(await send(alice, CONTENT), 507, "storage-full")
    small.blobs.min_free = 0
    await nothing_is_left(small)
    begin = small.blobs.writer

    async def fails_later(name: str) -> object:
        writer = await begin(name)
        write = writer.write
        done = 0

        async def some(block: bytes) -> None:
            nonlocal done
            done += len(block)
            if done > 3 * BLOCK:
                raise StorageFull("full")
            await write(block)

        monkeypatch.setattr(writer, "write", some)
        return writer

    monkeypatch.setattr(small.blobs, "writer", fails_later)
    assert_problem(await send(alice, CONTENT), 507, "storage-full")
    await nothing_is_left(small)


@pytest.mark.parametrize("moment", ["begin", "finish"])
async def test_a_database_that_goes_away_keeps_nothing_half(
    small: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (alice,) = await small.enter("alice")

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(small.accounts.files, moment, away)
    assert_problem(await send(alice, CONTENT), 503, "unavailable")
    monkeypatch.undo()
    await nothing_is_left(small)


async def test_a_commit_whose_answer_was_lost_leaves_no_row_without_bytes(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alice,) = await small.enter("alice")
    finish = small.accounts.files.finish

    async def lost(entry: object) -> None:
        await finish(entry)  # type: ignore[arg-type]
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(small.accounts.files, "finish", lost)
    assert_problem(await send(alice, CONTENT), 503, "unavailable")
    monkeypatch.undo()
    await nothing_is_left(small)


async def test_a_storage_that_fails_while_it_is_read_cuts_the_answer_short(
    small: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (alice,) = await small.enter("alice")
    file_id = await stored(alice, CONTENT)
    real = os.pread
    reads = 0

    def fails(*arguments: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads > 2:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(Exception, match=r"peer closed|incomplete|disconnected"):
        await fetch(alice, file_id)
    reads = 5
    assert_problem(await fetch(alice, file_id), 503, "unavailable")
    monkeypatch.undo()
    assert (await fetch(alice, file_id)).content == CONTENT
    assert len(small.filing.downloads) == 0


async def test_a_storage_of_another_database_is_not_touched(small: World, tmp_path: Path) -> None:
    (alice,) = await small.enter("alice")
    file_id = await stored(alice, CONTENT)
    small.filing._ours = False
    assert isinstance(small.blobs, DiskBlobs)
    (small.blobs.root / "storage-id").write_text("0" * 32)
    assert_problem(await fetch(alice, file_id), 503, "unavailable")
    assert_problem(await send(alice, b"x"), 503, "unavailable")
    assert small.services.file_housekeeping is not None
    with pytest.raises(StorageUnavailable):
        await small.services.file_housekeeping.round()
    assert on_disk(small) == [f"{file_id[:2]}/{file_id}"]
    assert await small.accounts.files.used("alice") == (1, len(CONTENT))


async def test_nothing_is_unpacked(small: World) -> None:
    """A body that says it is compressed is the bytes that came, or refused; it is never inflated."""
    (alice,) = await small.enter("alice")
    bomb = b"\x1f\x8b" + bytes(1_000)
    body = form(bomb)
    headers = {**alice.headers, "Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}
    answer = await small.client.post("/v1/files?to=alice", content=body, headers=headers)
    assert answer.json()["size"] == len(bomb)
    got = await fetch(alice, answer.json()["file_id"], accept_encoding="gzip, br")
    assert got.content == bomb and "content-encoding" not in got.headers
