"""Files there and back: the same bytes, encrypted on the way, with a picture of what is one."""

from __future__ import annotations

import hashlib
import io
import random

from PIL import Image
from playwright.sync_api import expect

from tests.servers import Aldis
from tests.web.chatting import MakeDevice, friends, no_doubles

BIG = 6 * 1_048_576 + 4_711


def photo(width: int = 900, height: int = 600) -> bytes:
    """A picture that does not compress to nothing."""
    chance = random.Random(7)
    picture = Image.effect_noise((width // 8, height // 8), 60).resize((width, height)).convert("RGB")
    picture.putpixel((0, 0), (chance.randrange(256), 2, 3))
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_picture_is_shown_to_the_other_and_comes_as_it_was(device: MakeDevice, server: Aldis) -> None:
    anna, bruno = friends(device)
    content = photo()
    anna.attach({"name": "lighthouse.png", "mimeType": "image/png", "buffer": content})
    shown = bruno.page.get_by_role("img", name="lighthouse.png")
    expect(shown).to_be_visible()
    size = shown.evaluate("(image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")
    assert size == [900, 600]
    bruno.page.get_by_role("button", name="Open the picture lighthouse.png").click()
    dialog = bruno.page.get_by_role("dialog")
    with bruno.page.expect_download() as download:
        dialog.get_by_role("button", name="Save").click()
    assert sha256(download.value.path().read_bytes()) == sha256(content)
    bruno.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    kept = [path for path in (server.data / "files").rglob("*") if path.is_file()]
    assert kept and all(content[:64] not in path.read_bytes() for path in kept), "nothing of it lies open on the server"


def test_a_big_file_there_and_back(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    content = noise(BIG)
    anna.attach({"name": "holiday.zip", "mimeType": "application/zip", "buffer": content})
    expect(bruno.page.get_by_text("holiday.zip").last).to_be_visible()
    assert sha256(bruno.saved("holiday.zip")) == sha256(content)
    back = noise(1_000_003)
    bruno.attach({"name": "answer.bin", "mimeType": "application/octet-stream", "buffer": back})
    assert sha256(anna.saved("answer.bin")) == sha256(back)


def test_small_and_strange_files(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    given = {
        "empty.txt": b"",
        "one byte.txt": b"x",
        "Grüße 💡.txt": "Grüße vom Leuchtturm 💡".encode(),
        "exactly one chunk.bin": noise(65_536),
        "page.html": b"<script>document.title='caught'</script>",
    }
    anna.attach(*({"name": name, "mimeType": "text/html" if "html" in name else "application/octet-stream",
                   "buffer": content} for name, content in given.items()))  # fmt: skip
    for name, content in given.items():
        assert bruno.saved(name) == content, name
    assert bruno.page.title() == "Aldis"


def test_a_file_waits_for_the_network_and_goes_once(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    content = noise(300_000)
    with anna.device.watch.away():
        anna.device.cut()
        anna.attach({"name": "later.bin", "mimeType": "application/octet-stream", "buffer": content})
        anna.say("and a word")
        anna.device.mend()
    anna.online()
    assert bruno.saved("later.bin") == content
    bruno.sees("and a word")
    assert bruno.page.get_by_role("button", name="Save later.bin").count() == 1
    no_doubles(anna, bruno)


def test_a_file_whose_upload_breaks_off_is_sent_after_all(device: MakeDevice, server: Aldis) -> None:
    anna, bruno = friends(device, wide=(True, True))
    content = noise(8 * 1_048_576)
    with anna.device.watch.away(), bruno.device.watch.away():
        anna.attach({"name": "torn.bin", "mimeType": "application/octet-stream", "buffer": content})
        anna.device.line.cut()
        anna.device.line.mend()
        anna.online()
        assert sha256(bruno.saved("torn.bin")) == sha256(content)
    assert bruno.page.get_by_role("button", name="Save torn.bin").count() == 1
