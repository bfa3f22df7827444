"""Files that users send each other: where they are kept, how large, how many, for how long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from aldis.config.entrance import file_problem, key_problem
from aldis.config.section import Natural, Positive, Seconds, Section

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MEDIA_RANGE = re.compile(r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/(\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,62})")


def _media_range(text: str) -> str:
    if not _MEDIA_RANGE.fullmatch(text):
        raise ValueError("must be a media type or range in small letters: image/png, image/*, */*")
    return text


def _inside(folder: Path) -> Path:
    if ".." in folder.parts or folder in (Path(), Path("/")):
        raise ValueError("must be a folder of its own, without '..' in its path")
    return folder


def _bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise ValueError("must be the name of a bucket: 3 to 63 small letters, digits, '-' and '.'")
    return name


def _prefix(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", text):
        raise ValueError("must be words of letters, digits, '_' and '-', with single slashes between them")
    return text


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must have the form https://HOST:PORT")
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ValueError("must have no user, path or option in it; the keys have settings of their own")
    return url.rstrip("/")


class S3(Section):
    bucket: Annotated[str, AfterValidator(_bucket)]
    """The bucket. It is not made here."""
    prefix: Annotated[str, AfterValidator(_prefix)] = ""
    """What all names in the bucket begin with, so that several may share one."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    """Its region; what most servers other than Amazon's take for the default."""
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """`https://HOST:PORT` of a server other than Amazon's."""
    allow_http: bool = False
    """Speak to an `endpoint` without TLS, in a network of one's own. Contents may be encrypted by the clients; who asks
    for what, and the signatures of our requests, are not."""
    access_key_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Who we are. Without it what the machine's environment says (`AWS_…`, the role of the machine)."""
    secret_key_file: Path | None = None
    """File with the secret key in its first line. Refused if everybody on the machine may read it."""
    ca_file: Path | None = None
    """PEM file: the authority that signed the endpoint's certificate, beside those the system trusts."""
    timeout: Seconds = 30.0
    """Seconds for one request: a part of 8 MiB, or a read of 1 MiB."""
    max_retries: Natural = 3
    """Times that such a request is made again."""


class Files(Section):
    enabled: bool = True
    """Take and give out files where the REST API is."""
    backend: Literal["disk", "s3"] = "disk"
    """`disk` needs nothing else. `s3` where several processes serve the API, or the disk is small."""
    folder: Annotated[Path, AfterValidator(_inside)] = Path("files")
    """Relative to the data folder. Processes that serve one database must see the same folder."""
    s3: S3 | None = None
    max_size: Positive = 104_857_600
    """Bytes of one file; a longer one is answered with 413. 100 MiB: a few minutes of video, and with `upload_timeout`
    a line of 240 kbit/s is enough."""
    max_total_per_user: Positive = 1_073_741_824
    """Bytes that one user's files may have together; one more is answered with 409. 1 GiB: ten of the largest."""
    max_files_per_user: Positive = 10_000
    """Files that one user may have; they are counted anew at each upload."""
    max_receivers: Positive = 100
    """Users who may be given one file; the next one is refused with 409."""
    allowed_types: tuple[Annotated[str, AfterValidator(_media_range)], ...] = ("*/*",)
    """Media types that are taken, `image/*` allowed. Everything: what clients encrypt is `application/octet-stream` to
    us, and nothing is ever shown by a browser as what it claims to be."""
    keep_days: Natural = 0
    """Days that a file is kept. 0: for ever, as messages are by default: a file that they point to should be there."""
    min_free: Natural = 268_435_456
    """Bytes that stay free on the disk; an upload that would take them is answered with 507. 256 MiB: the database may
    be on the same disk, and messages come first."""
    max_uploads: Positive = 32
    """Uploads at once in this process; one more is answered with 503. Each holds less than 1 MiB (S3: 40 MiB)."""
    max_uploads_per_user: Positive = 4
    """Uploads of one user at once, in this process; one more is answered with 429."""
    max_downloads: Positive = 200
    """Downloads at once in this process; one more is answered with 503. Each holds less than 1 MiB (S3: 2 MiB)."""
    max_downloads_per_user: Positive = 16
    """Downloads of one user at once, in this process; one more is answered with 429."""
    upload_timeout: Seconds = 3_600.0
    """Seconds that a whole upload may take, however busy it looks."""
    stall_timeout: Seconds = 30.0
    """Seconds without a byte, after which an upload or a download is given up."""
    threads: Annotated[int, Field(gt=0, le=64)] = 4
    """Threads that read and write the disk and compute hashes, so that the event loop does neither. 4 are enough for a
    gigabit a second; more for a disk that answers late."""
    clean_interval: Seconds = 600.0
    """Seconds between two looks for what is to be deleted: expired, unfinished, forgotten."""


def files_problems(files: Files) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below `files`, and why. Looks at the files."""
    if files.max_size > files.max_total_per_user:
        yield ("max_size",), "must not exceed files.max_total_per_user"
    if files.max_uploads_per_user > files.max_uploads:
        yield ("max_uploads_per_user",), "must not exceed files.max_uploads"
    if files.max_downloads_per_user > files.max_downloads:
        yield ("max_downloads_per_user",), "must not exceed files.max_downloads"
    if files.stall_timeout > files.upload_timeout:
        yield ("stall_timeout",), "must not exceed files.upload_timeout"
    if not files.allowed_types:
        yield ("allowed_types",), "must have one entry at least; enabled: false takes no files at all"
    if files.backend != "s3":
        if files.s3 is not None:
            yield ("s3",), f"has no meaning where files.backend is {files.backend}"
        return
    if files.s3 is None:
        yield ("s3",), "must be given where files.backend is s3"
        return
    yield from ((("s3", *below), text) for below, text in _s3_problems(files.s3))


def _s3_problems(s3: S3) -> Iterator[tuple[tuple[str, ...], str]]:
    if (s3.access_key_id is None) != (s3.secret_key_file is None):
        yield (), "access_key_id and secret_key_file go together"
    plain = s3.endpoint is not None and s3.endpoint.startswith("http://")
    if plain and not s3.allow_http:
        yield ("endpoint",), "begins with http://, which needs allow_http: true"
    if s3.allow_http and not plain:
        yield ("allow_http",), "has no meaning unless files.s3.endpoint begins with http://"
    for key, path in {"secret_key_file": s3.secret_key_file, "ca_file": s3.ca_file}.items():
        problem = None if path is None else file_problem(path)
        if problem is None and path is not None and key == "secret_key_file":
            problem = key_problem(path)
        if problem is not None:
            yield (key,), problem
