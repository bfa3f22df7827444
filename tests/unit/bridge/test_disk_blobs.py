"""What only a folder can have wrong: full disks, links, strangers' files, what a dead process has left."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aldis.bridge.blobs import BLOCK, BlobMissing, StorageFull, StorageUnavailable
from aldis.bridge.disk_blobs import MARK, DiskBlobs

NAME = "ab" + "0" * 30


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[DiskBlobs]:
    with ThreadPoolExecutor(2) as pool:
        made = DiskBlobs(tmp_path / "files", pool)
        await made.open()
        yield made


async def store(blobs: DiskBlobs, name: str = NAME, content: bytes = b"content") -> None:
    writer = await blobs.writer(name)
    await writer.write(content)
    await writer.finish()


def files(blobs: DiskBlobs) -> list[str]:
    return sorted(str(path.relative_to(blobs.root)) for path in blobs.root.rglob("*") if not path.is_dir())


async def test_nobody_else_may_look(blobs: DiskBlobs) -> None:
    await store(blobs)
    assert files(blobs) == [f"ab/{NAME}", MARK]
    for path in (blobs.root, blobs.root / "ab", blobs.root / "incoming"):
        assert path.stat().st_mode & 0o077 == 0
    assert (blobs.root / "ab" / NAME).stat().st_mode & 0o077 == 0


async def test_it_is_on_the_disk_before_it_is_called_finished(
    blobs: DiskBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    spy("fsync")
    spy("rename")
    await store(blobs)
    # the content, the new folder in its parent, the content in the new folder
    assert done == ["fsync", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_a_disk_that_fails_leaves_nothing(
    blobs: DiskBlobs, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    writer = await blobs.writer(NAME)

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageUnavailable if number == errno.EIO else StorageFull):
        await writer.write(b"x")
        await writer.finish()
    await writer.abort()
    monkeypatch.undo()
    assert files(blobs) == [MARK]


async def test_a_really_full_disk(blobs: DiskBlobs) -> None:
    """/dev/full takes nothing: the kernel's own ENOSPC."""
    writer = await blobs.writer(NAME)
    descriptor = os.open("/dev/full", os.O_WRONLY)
    os.dup2(descriptor, writer._descriptor)
    os.close(descriptor)
    with pytest.raises(StorageFull):
        await writer.write(b"x")
    await writer.abort()
    assert files(blobs) == [MARK]


async def test_room_is_left_to_others(blobs: DiskBlobs) -> None:
    state = os.statvfs(blobs.root)
    blobs.min_free = state.f_bavail * state.f_frsize + 1_000_000_000
    with pytest.raises(StorageFull):
        await blobs.writer(NAME)
    blobs.min_free = 1
    await store(blobs)


async def test_a_link_in_the_place_of_a_content_is_not_followed(blobs: DiskBlobs, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    await store(blobs)
    (blobs.root / "ab" / NAME).unlink()
    (blobs.root / "ab" / NAME).symlink_to(secret)
    with pytest.raises(BlobMissing):
        await blobs.size(NAME)
    with pytest.raises(BlobMissing):
        [block async for block in blobs.read(NAME, 0, 4)]
    await blobs.remove(NAME)
    assert secret.read_text() == "root:x:0:0"


async def test_a_link_in_the_place_of_a_folder_is_not_followed(blobs: DiskBlobs, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / NAME).write_text("secret")
    (blobs.root / "ab").symlink_to(elsewhere)
    with pytest.raises(BlobMissing):
        await blobs.size(NAME)
    with pytest.raises(StorageUnavailable, match="is a link"):
        await store(blobs)
    await blobs.remove(NAME)
    assert await blobs.found(after="", limit=10) == []
    assert (elsewhere / NAME).read_text() == "secret"
    assert sorted(path.name for path in elsewhere.iterdir()) == [NAME]


async def test_a_pipe_or_a_folder_in_the_place_of_a_content_holds_nobody(blobs: DiskBlobs) -> None:
    (blobs.root / "ab").mkdir()
    os.mkfifo(blobs.root / "ab" / NAME)
    (blobs.root / "ab" / ("ab" + "1" * 30)).mkdir()
    async with asyncio.timeout(5):
        for name in (NAME, "ab" + "1" * 30):
            with pytest.raises(BlobMissing):
                await blobs.size(name)


async def test_what_is_not_ours_is_not_listed(blobs: DiskBlobs) -> None:
    await store(blobs)
    for path in ("ab/README", "ab/" + "cd" + "0" * 30, "lost+found", "zz", "ab/" + NAME + ".bak"):
        (blobs.root / path).write_text("x")
    assert [one.name for one in await blobs.found(after="", limit=10)] == [NAME]


async def test_what_a_dead_writer_has_left_is_swept_and_a_living_one_goes_on(blobs: DiskBlobs) -> None:
    dead, alive = await blobs.writer("cd" + "0" * 30), await blobs.writer(NAME)
    await dead.write(b"x")
    await alive.write(b"x")
    (left,) = (blobs.root / "incoming").glob("cd*")
    os.utime(left, (time.time() - 7_200, time.time() - 7_200))
    assert await blobs.sweep(begun_before=int(time.time() * 1000) - 3_600_000, limit=10) == 1
    await alive.finish()
    assert files(blobs) == [f"ab/{NAME}", MARK]
    await dead.abort()


async def test_sweeping_is_bounded(blobs: DiskBlobs) -> None:
    for number in range(5):
        (blobs.root / "incoming" / f"old{number}").write_text("x")
    swept = [await blobs.sweep(begun_before=2**60, limit=2) for _ in range(4)]
    assert swept == [2, 2, 1, 0]


async def test_a_slow_disk_does_not_hold_up_the_event_loop(blobs: DiskBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    await store(blobs, content=bytes(4 * BLOCK))
    real = os.pread

    def slow(*arguments: int) -> bytes:
        time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, time.perf_counter() - before - 0.005)

    async def read() -> int:
        return sum([len(block) async for block in blobs.read(NAME, 0, 4 * BLOCK)])

    watching = asyncio.create_task(watch())
    assert await asyncio.gather(*(read() for _ in range(4))) == [4 * BLOCK] * 4
    await asyncio.sleep(0.05)  # what has stood still all the time is measured only now
    watching.cancel()
    assert worst < 0.08, f"the loop stood still for {worst:.3f} s"


async def test_a_cancelled_reader_closes_its_file_after_the_thread(
    blobs: DiskBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(blobs, content=bytes(BLOCK))
    real_read, real_close, order = os.pread, os.close, []

    def slow(*arguments: int) -> bytes:
        time.sleep(0.2)
        order.append("read")
        return real_read(*arguments)

    def close(descriptor: int) -> None:
        order.append("closed")
        real_close(descriptor)

    monkeypatch.setattr(os, "pread", slow)
    monkeypatch.setattr(os, "close", close)

    async def read() -> None:
        async for _ in blobs.read(NAME, 0, BLOCK):
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    monkeypatch.undo()
    assert order == ["read", "closed"]


async def test_two_processes_that_open_at_once_agree_on_the_mark(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        many = [DiskBlobs(tmp_path / "files", pool) for _ in range(8)]
        await asyncio.gather(*(one.open() for one in many))
        assert len({await one.mark() for one in many}) == 1
    assert [path.name for path in (tmp_path / "files").iterdir() if path.is_file()] == [MARK]
