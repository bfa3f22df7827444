"""Files: send one, fetch one, give it to another friend, take it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import HttpMethod, Request, Response, delete, get, post, route
from litestar.exceptions import NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta

from aldis.accounts_api.answering import SLOW_BODIES
from aldis.accounts_api.authentication import Authenticated, Caller, GivenServices
from aldis.accounts_api.bodies import USER_ID, Body, Time, UserId
from aldis.accounts_api.file_headers import headers_of, known, part_of
from aldis.accounts_api.file_streams import ArrivingBody, FileAnswer
from aldis.accounts_api.filing import Filing
from aldis.accounts_api.media import needs_json
from aldis.accounts_api.paging import DEFAULT, Limit, following, linked
from aldis.accounts_api.problems import UNREAD, declared
from aldis.accounts_api.services import Services
from aldis.accounts_api.upload_form import OCTETS, OVERHEAD, UploadForm
from aldis.bridge.accounts.errors import NotFriends
from aldis.bridge.accounts.file_errors import FileTooLarge
from aldis.bridge.accounts.files import FileEntry

TAGS = ["files"]

FileId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", max_length=32, description="As the upload gave it.")]
_NEWEST = f"{2**53 - 1}.{'0' * 32}"
Before = Annotated[
    str,
    QueryParameter(
        pattern=r"^[0-9]{1,16}\.[0-9a-f]{32}$",
        max_length=49,
        description="As `next` has it: after which file to go on.",
    ),
]
To = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64)]],
    QueryParameter(name="to", description="Who may fetch the file: a friend, or oneself; may be given several times."),
]


_BYTES = {
    status: ResponseSpec(bytes, generate_examples=False, description=words, media_type=OCTETS)
    for status, words in {200: "The file", 206: "A part of it"}.items()
} | {304: ResponseSpec(None, generate_examples=False, description="The client has it")}


@dataclass
class _UploadOperation(Operation):
    """The body is read as it comes, so Litestar does not see that there is one."""

    def __post_init__(self) -> None:
        form = Schema(
            type=OpenAPIType.OBJECT,
            required=["file", "sha256"],
            properties={
                "file": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY),
                "sha256": Schema(type=OpenAPIType.STRING, pattern="^[0-9A-Fa-f]{64}$"),
            },
        )
        self.request_body = RequestBody(content={"multipart/form-data": OpenAPIMediaType(schema=form)}, required=True)


class StoredFile(msgspec.Struct, frozen=True):
    """`sha256` is in hexadecimal digits; `expires` is null where files are kept for ever."""

    file_id: str
    name: str
    size: int
    mime: str
    sha256: str
    created: Time
    expires: int | None


class Share(msgspec.Struct, frozen=True):
    """Bytes, and files."""

    bytes: int
    files: int


class FileList(msgspec.Struct, frozen=True):
    """One's own files, the newest first. `used` is what all of them take, uploads under way included, and `allowed` how
    much there may be. `next` is the path of the next page, null after the last one."""

    files: list[StoredFile]
    next: str | None
    used: Share
    allowed: Share


class NewGrant(Body):
    to: UserId


@post(
    "/files",
    summary="Send a file",
    tags=TAGS,
    opt={SLOW_BODIES: True},
    operation_class=_UploadOperation,
    request_max_body_size=None,
    responses=declared(400, 401, 404, 408, 409, 413, 415, 422, 429, 503, 507),
)
async def upload(request: Request[Authenticated, Any, Any], to: To, services: GivenServices) -> StoredFile:
    """A form with the file in `file` and its SHA-256 in `sha256`, before or after it. What does not fit its hash, or
    breaks off, is not kept. The media type and the name are what the client says; they are data, nothing more."""
    filing = _filing(services)
    settings = filing.settings
    body = filing.begun(ArrivingBody(request, stall=settings.stall_timeout, total=settings.upload_timeout))
    try:
        form = UploadForm(
            request.headers.get("content-type", ""), max_size=settings.max_size, allowed_types=settings.allowed_types
        )
        length = _length(request, settings.max_size)
        if any(not USER_ID.fullmatch(one) for one in to):
            raise NotFriends("you are not friends")
        entry = await filing.upload(request.user.user, set(to), body.chunks(), form, length)
    except Exception:
        await body.linger()
        request.scope[UNREAD] = not body.complete  # type: ignore[literal-required]
        raise
    return _stored(entry)


@get("/files", summary="My files", tags=TAGS, responses=declared(400, 401, 404, 429, 503))
async def files(
    caller: Caller, services: GivenServices, before: Before = _NEWEST, limit: Limit = DEFAULT
) -> Response[FileList]:
    """What the caller has sent and not removed; received files are not among them."""
    filing = _filing(services)
    time, _, file_id = before.partition(".")
    found = await filing.mine(caller.user, (int(time), file_id), limit + 1)
    count, size = await filing.files.used(caller.user)
    more = None
    if len(found) > limit:
        last = found[limit - 1]
        more = following("/v1/files", before=f"{last.created}.{last.file_id}", limit=limit)
    allowed = Share(filing.limits.total, filing.limits.files)
    return linked(FileList([_stored(one) for one in found[:limit]], more, Share(size, count), allowed), more)


@route(
    "/files/{file_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    summary="Fetch a file",
    tags=TAGS,
    responses={**declared(400, 401, 404, 416, 429, 503), **_BYTES},
)
async def fetch(
    file_id: FileId, request: Request[Authenticated, Any, Any], caller: Caller, services: GivenServices
) -> FileAnswer:
    """With `Range` one part of it: a download that broke off goes on with what is missing (`If-Range` with the ETag,
    which is the SHA-256). Always an attachment; never a page. HEAD gives the same headers."""
    filing = _filing(services)
    entry = await filing.find(caller.user, file_id)
    headers = headers_of(entry)
    stall = filing.settings.stall_timeout
    if known(entry, request.headers.getall("if-none-match", [])):
        del headers["Content-Type"]
        return FileAnswer(304, headers, None, stall=stall)
    part = part_of(entry, request.headers.get("range"), request.headers.get("if-range"))
    start, stop = part or (0, entry.size)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
    status = 200 if part is None else 206
    if request.method == HttpMethod.HEAD:
        return FileAnswer(status, headers, None, stall=stall)
    place = (filing.downloads, caller.user)
    return filing.begun(FileAnswer(status, headers, filing.read(entry, start, stop), stall=stall, place=place))


@post(
    "/files/{file_id:str}/grants",
    summary="Give a file to a friend",
    tags=TAGS,
    status_code=204,
    before_request=needs_json,
    responses=declared(400, 401, 404, 409, 413, 415, 429, 503),
)
async def give(file_id: FileId, data: JSONBody[NewGrant], caller: Caller, services: GivenServices) -> None:
    """Whoever may fetch a file may let friends fetch it, too. Repeating changes nothing."""
    await _filing(services).give(caller.user, file_id, data.to)


@delete("/files/{file_id:str}", summary="Remove a file", tags=TAGS, responses=declared(400, 401, 404, 429, 503))
async def remove(file_id: FileId, caller: Caller, services: GivenServices) -> None:
    """One's own file goes for everybody, and its room is free again; a received one goes for the caller alone."""
    await _filing(services).remove(caller.user, file_id)


def _length(request: Request[Any, Any, Any], max_size: int) -> int:
    """As much as the file may have, by the length of the body; the most that is allowed where the client says nothing.
    Raises `FileTooLarge`."""
    announced = request.headers.get("content-length")
    if announced is None or not announced.isdecimal():
        return max_size
    if int(announced) > max_size + OVERHEAD:
        raise FileTooLarge(f"a file may have at most {max_size} bytes")
    return min(int(announced), max_size)


def _filing(services: Services) -> Filing:
    if services.filing is None:
        raise NotFoundException("this server keeps no files")
    return services.filing


def _stored(entry: FileEntry) -> StoredFile:
    return StoredFile(
        file_id=entry.file_id,
        name=entry.name,
        size=entry.size,
        mime=entry.mime,
        sha256=entry.hash.hex(),
        created=entry.created,
        expires=entry.expires,
    )


GUARDED = [upload, files, fetch, give, remove]
