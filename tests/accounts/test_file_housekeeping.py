"""What nobody else removes, and what must not be removed: an upload in progress."""

from __future__ import annotations

import asyncio
import os
import secrets
import time

import pytest

from aldis.accounts_api.file_housekeeping import BATCH, GRACE, FileHousekeeping
from aldis.bridge.accounts.file_errors import UploadTimeout
from aldis.bridge.accounts.files import FileEntry, NewFile
from aldis.bridge.disk_blobs import DiskBlobs
from aldis.config.files import Files as FilesSettings
from tests.accounts.filing import bare, fetch, form, head, on_disk, rows, send, stored
from tests.accounts.world import World, assert_problem

CONTENT = secrets.token_bytes(300_000)
HOUR = 3_600_000


@pytest.fixture
def files() -> FilesSettings:
    return FilesSettings(keep_days=1, upload_timeout=3_600, stall_timeout=30)


async def tidy(world: World) -> bool:
    assert world.services.file_housekeeping is not None
    return await world.services.file_housekeeping.round()


def age(world: World, *, hours: float) -> None:
    """Makes everything in the folder older; the mark as well."""
    assert isinstance(world.blobs, DiskBlobs)
    for path in world.blobs.root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - hours * 3_600,) * 2)


async def test_an_expired_file_goes_with_all_that_is_said_of_it(small: World) -> None:
    alice, bob = await small.enter("alice", "bob")
    await small.befriend(alice, bob)
    await stored(alice, CONTENT, to="bob")
    await tidy(small)
    assert await rows(small) == (1, 1) and len(on_disk(small)) == 1
    small.shift = 24 * HOUR + 1_000
    assert await tidy(small)
    assert await rows(small) == (0, 0) and on_disk(small) == []


async def test_an_upload_in_progress_is_left_alone(small: World) -> None:
    (alice,) = await small.enter("alice")
    body = form(CONTENT)
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body)) + body[:-5])
        await asyncio.sleep(0.3)
        small.shift = 50 * 60_000
        assert await tidy(small)
        assert await rows(small) == (1, 0) and len(on_disk(small)) == 1
        writer.write(body[-5:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    assert await tidy(small)
    assert await rows(small) == (1, 0) and len(on_disk(small)) == 1


async def test_an_upload_that_was_given_up_meanwhile_is_not_finished(small: World) -> None:
    (alice,) = await small.enter("alice")
    body = form(CONTENT)
    async with bare(small) as (reader, writer):
        writer.write(head(alice, length=len(body)) + body[:-5])
        await asyncio.sleep(0.3)
        small.shift = 2 * HOUR
        assert await tidy(small)
        assert await rows(small) == (0, 0)
        writer.write(body[-5:])
        # by the row, or by its draft that has been swept
        assert (await reader.readline()).split()[1] in (b"408", b"503")
        await asyncio.sleep(0.2)
    assert await rows(small) == (0, 0) and on_disk(small) == []


async def test_what_a_dead_process_has_left(small: World) -> None:
    """It died while it wrote; between the bytes and the row; between the row and the bytes."""
    (alice,) = await small.enter("alice")
    kept = await stored(alice, CONTENT)
    now = small.now()
    ids = [secrets.token_hex(16) for _ in range(3)]
    for file_id in ids[:2]:
        await small.accounts.files.begin(
            NewFile(file_id, "alice", (), 10, now + HOUR), small.filing.limits, now=now
        )  # fmt: skip
    half = await small.blobs.writer(ids[0])
    await half.write(b"half")
    for file_id in ids[1:]:
        writer = await small.blobs.writer(file_id)
        await writer.write(b"whole")
        await writer.finish()
    await small.accounts.files.give_up(ids[1], now=now)
    assert await tidy(small)
    # what is gone is removed at once, the rest is too young to be called left
    assert await rows(small) == (2, 0) and len(on_disk(small)) == 3
    age(small, hours=2)
    small.shift = HOUR + GRACE + 1_000
    assert await tidy(small)
    assert await rows(small) == (1, 0)
    assert on_disk(small) == [f"{kept[:2]}/{kept}"]
    assert await small.accounts.files.used("alice") == (1, len(CONTENT))
    await half.abort()


@pytest.mark.parametrize("damage", ["gone", "shorter"])
async def test_a_row_whose_bytes_are_lost(small: World, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    (alice,) = await small.enter("alice")
    lost, kept = await stored(alice, CONTENT), await stored(alice, CONTENT)
    assert isinstance(small.blobs, DiskBlobs)
    path = small.blobs.path(lost)
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, 10)
    assert await tidy(small)
    assert "a file is lost" in caplog.text
    assert_problem(await fetch(alice, lost), 404, "unknown-file")
    assert await tidy(small)
    assert await rows(small) == (1, 0) and on_disk(small) == [f"{kept[:2]}/{kept}"]


async def test_one_process_at_a_time(small: World) -> None:
    (alice,) = await small.enter("alice")
    await stored(alice, CONTENT)
    other = FileHousekeeping(small.accounts, small.filing, small.now)
    await small.accounts.chores.take("files", "somebody", now=small.now(), until=small.now() + 60_000)
    small.shift = 24 * HOUR - 120_000
    assert await other.round(), "whoever held it has let its time go by"
    small.shift = 24 * HOUR + 1_000
    await small.accounts.chores.take("files", "somebody", now=small.now() + HOUR, until=small.now() + 2 * HOUR)
    assert not await tidy(small)
    assert await rows(small) == (1, 0)


async def test_much_is_done_in_small_steps(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = await small.enter("alice")
    monkeypatch.setattr("aldis.accounts_api.file_housekeeping.BATCH", 3)
    for _ in range(8):
        assert (await send(alice, b"x")).status_code == 201
    sizes: list[int] = []
    forget = small.accounts.files.forget

    async def counting(ids: list[str]) -> None:
        sizes.append(len(ids))
        await forget(ids)

    monkeypatch.setattr(small.accounts.files, "forget", counting)
    small.shift = 24 * HOUR + 1_000
    assert await tidy(small)
    assert await rows(small) == (0, 0) and on_disk(small) == []
    assert sum(sizes) == 8 and max(sizes) <= 2 * 3 < BATCH


async def test_a_server_without_files_makes_no_folder(small: World) -> None:
    assert await tidy(small)
    assert isinstance(small.blobs, DiskBlobs)
    assert not small.blobs.root.exists()


async def test_what_was_given_up_is_not_finished(world: World) -> None:
    (alice,) = await world.enter("alice")
    now = world.now()
    for retired in (False, True):
        file_id = secrets.token_hex(16)
        await world.accounts.files.begin(
            NewFile(file_id, alice.user, (), 10, now + 1_000), world.filing.limits, now=now
        )  # fmt: skip
        entry = FileEntry(file_id, alice.user, "a", "a/b", 1, b"h" * 32, now + 2_000 * (not retired), None)
        if retired:
            await world.accounts.file_cleaning.retire(now=now, unfinished_before=now + 5_000, limit=10)
        with pytest.raises(UploadTimeout):
            await world.accounts.files.finish(entry)
        assert_problem(await fetch(alice, file_id), 404, "unknown-file")
