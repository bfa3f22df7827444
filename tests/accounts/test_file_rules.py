"""The pure parts of files: the form of an upload, ranges, names in headers, how many at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.accounts_api.file_headers import disposition, headers_of, known, part_of
from aldis.accounts_api.transfers import Transfers
from aldis.accounts_api.upload_form import OCTETS, OVERHEAD, UploadForm, media_type, plain_name
from aldis.bridge.accounts.file_errors import (
    FilesBusy,
    FileTooLarge,
    MalformedUpload,
    RangeOutside,
    TooManyTransfers,
    TypeRefused,
)
from aldis.bridge.accounts.files import FileEntry

DIGEST = "ab" * 32


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def form(**changes: object) -> UploadForm:
    values = {"max_size": 1_000_000, "allowed_types": ("*/*",), **changes}
    return UploadForm("multipart/form-data; boundary=x", **values)  # type: ignore[arg-type]


def read(upload: UploadForm, body: bytes, step: int = 7) -> bytes:
    return b"".join(piece for at in range(0, len(body), step) for piece in upload.feed(body[at : at + step]))


HASH = part("sha256", DIGEST.encode())


@given(st.integers(1, 200), st.booleans(), st.binary(max_size=2_000))
@settings(max_examples=200, deadline=None)
def test_the_file_comes_out_as_it_went_in(step: int, hash_first: bool, content: bytes) -> None:
    if b"\r\n--x" in content or content.startswith(b"--x"):
        return
    parts = [HASH, part("file", content, '; filename="a"')]
    upload = form()
    assert read(upload, b"".join(parts if hash_first else parts[::-1]) + b"--x--\r\n", step) == content
    assert upload.complete() == bytes.fromhex(DIGEST)
    assert upload.size == len(content)


def test_name_and_type_are_what_the_client_says() -> None:
    upload = form()
    body = part("file", b"1", '; filename="a.txt"\r\nContent-Type: Text/Plain; charset=x') + HASH + b"--x--"
    assert read(upload, body) == b"1"
    assert (upload.name, upload.mime) == ("a.txt", "text/plain")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x--",
        b"not a form",
        HASH + b"--x--",
        part("file", b"1") + b"--x--",
        part("file", b"1") + HASH,
        part("file", b"1") + part("file", b"2") + b"--x--",
        HASH + HASH + b"--x--",
        HASH + part("other", b"1") + b"--x--",
        HASH + part("file", b"1") + part("more", b"") + b"--x--",
        part("sha256", b"zz" * 32) + part("file", b"1") + b"--x--",
        part("sha256", b"ab" * 31) + part("file", b"1") + b"--x--",
        part("sha256", b"ab" * 5_000) + part("file", b"1") + b"--x--",
        b"--x\r\nContent-Type: text/plain\r\n\r\n1\r\n--x--",
        b"--x\r\n" + b"X-Long: " + b"a" * 5_000 + b"\r\n\r\n",
        b"--x\r\n" + b"X: a\r\n" * 20 + b"\r\n",
        b"--x\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''%ff%fe\xff\r\n\r\n1\r\n--x--",
        HASH + part("file", b"1") + b"--x--" + b"after" * OVERHEAD,
        b"before" * OVERHEAD + HASH + part("file", b"1") + b"--x--",
    ],
)
def test_what_is_no_form_of_one_file_and_its_hash_is_refused(body: bytes) -> None:
    upload = form()
    with pytest.raises(MalformedUpload):
        read(upload, body, 1_000)
        upload.complete()


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_form_or_refused(body: bytes, step: int) -> None:
    upload = form()
    try:
        read(upload, HASH + body, step)
        upload.complete()
    except (MalformedUpload, FileTooLarge):
        pass


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
     "multipart/form-data; boundary=" + "x" * 201, 'multipart/form-data; boundary="a\nb"', "text/html; boundary=x"],
)  # fmt: skip
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(MalformedUpload):
        UploadForm(content_type, max_size=1, allowed_types=("*/*",))


def test_too_many_bytes_are_noticed_with_the_first_of_them() -> None:
    upload = form(max_size=10)
    assert read(upload, HASH + part("file", b"0123456789") + b"--x--") == b"0123456789"
    upload = form(max_size=10)
    with pytest.raises(FileTooLarge):
        read(upload, HASH + part("file", b"0123456789a" * 1_000))
    assert upload.size <= 10 + 7


@pytest.mark.parametrize(
    ("allowed", "mime", "taken"),
    [
        (("*/*",), "text/html", True),
        (("image/*",), "image/png", True),
        (("image/*",), "imagex/png", False),
        (("image/png", "audio/*"), "audio/ogg", True),
        (("image/png",), "image/png2", False),
        (("image/*",), "nonsense", False),
        (("application/octet-stream",), "", True),
    ],
)
def test_types_that_are_taken(allowed: tuple[str, ...], mime: str, taken: bool) -> None:
    upload = form(allowed_types=allowed)
    body = part("file", b"1", f'; filename="a"\r\nContent-Type: {mime}') + HASH + b"--x--"
    if taken:
        assert read(upload, body) == b"1"
    else:
        with pytest.raises(TypeRefused):
            read(upload, body)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        ("..", "file"),
        ("...", "file"),
        ("", "file"),
        ("/", "file"),
        ("a\r\nSet-Cookie: x=1", "a__Set-Cookie: x=1"),
        ("a\0b", "a_b"),
        ("evil\u202egpj.exe", "evil_gpj.exe"),
        ("Gru\u0308ße 💡.txt", "Grüße 💡.txt"),
        ("x" * 300 + ".jpg", "x" * 251 + ".jpg"),
        ("  a  ", "a"),
    ],
)
def test_names_are_data(given: str, kept: str) -> None:
    assert plain_name(given) == kept


@given(st.text(max_size=400))
def test_no_name_breaks_out_of_its_header(given: str) -> None:
    name = plain_name(given)
    assert 1 <= len(name) <= 255 and "/" not in name and "\\" not in name and name not in (".", "..")
    header = disposition(name)
    match = re.fullmatch(r"attachment; filename=\"[A-Za-z0-9._ -]+\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)", header)
    assert match and unquote(match[1]) == name


@pytest.mark.parametrize("given", ["text/html", "TEXT/HTML; charset=utf-8"])
def test_media_types(given: str) -> None:
    assert media_type(given) == "text/html"
    assert media_type("a\r\nb: c/d") == media_type("") == media_type("x" * 100 + "/y") == OCTETS


def entry(size: int = 100, mime: str = "image/png") -> FileEntry:
    return FileEntry("0" * 32, "alice", "a", mime, size, b"h" * 32, 0, None)


TAG = '"' + b"h".hex() * 32 + '"'


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=0-1000", (0, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES=5-6", (5, 7)),
        # several, overlapping or not, and what is no range: the whole
        ("bytes=0-1,5-6", None),
        ("bytes=" + ",".join(["0-"] * 5_000), None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("lines=0-1", None),
        ("bytes=0-1 5-6", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("bytes=\u0661-\u0662", None),
        ("", None),
        (None, None),
    ],
)
def test_ranges(wanted: str | None, part: tuple[int, int] | None) -> None:
    assert part_of(entry(), wanted, None) == part


@pytest.mark.parametrize(("wanted", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_ranges_without_a_byte(wanted: str, size: int) -> None:
    with pytest.raises(RangeOutside) as refused:
        part_of(entry(size), wanted, None)
    assert refused.value.size == size


def test_a_range_of_another_version_gets_the_whole() -> None:
    assert part_of(entry(), "bytes=5-", TAG) == (5, 100)
    for other in ('"other"', f"W/{TAG}", "Mon, 23 Nov 2026 10:00:00 GMT", TAG.strip('"')):
        assert part_of(entry(), "bytes=5-", other) is None
        assert part_of(entry(), "bytes=500-", other) is None


@given(st.text(max_size=30), st.integers(0, 50))
def test_no_range_reaches_outside(wanted: str, size: int) -> None:
    try:
        found = part_of(entry(size), "bytes=" + wanted, None)
    except RangeOutside:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


def test_who_has_it_already() -> None:
    assert known(entry(), [TAG]) and known(entry(), [f'"x", W/{TAG}']) and known(entry(), ["*"])
    assert not known(entry(), []) and not known(entry(), ['"x"', ""])


@pytest.mark.parametrize(
    "mime",
    ["text/html", "image/svg+xml", "application/javascript", "text/javascript", "application/xhtml+xml", "text/xml",
     "application/xml", "text/css", "multipart/x-mixed-replace", "text/cache-manifest"],
)  # fmt: skip
def test_no_page_and_no_script_is_called_so(mime: str) -> None:
    headers = headers_of(entry(mime=mime))
    assert headers["Content-Type"] == OCTETS
    assert headers["Content-Disposition"].startswith("attachment;")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def places(transfers: Transfers, *users: str) -> Iterator[None]:
    for user in users:
        transfers.begin(user)
        yield


def test_places_are_counted_per_user_and_in_all() -> None:
    transfers = Transfers("uploads", total=3, per_user=2)
    list(places(transfers, "a", "a"))
    with pytest.raises(TooManyTransfers):
        transfers.begin("a")
    transfers.begin("b")
    with pytest.raises(FilesBusy):
        transfers.begin("c")
    transfers.end("a")
    with transfers.one("c"):
        assert len(transfers) == 3
        with pytest.raises(FilesBusy):
            transfers.begin("d")
    for user in ("a", "b"):
        transfers.end(user)
    assert len(transfers) == 0


def test_a_place_is_given_back_whatever_happens() -> None:
    transfers = Transfers("uploads", total=1, per_user=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), transfers.one("a"):
            raise ZeroDivisionError
    assert len(transfers) == 0
