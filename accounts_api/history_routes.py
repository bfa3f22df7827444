"""What was said, by message id."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import MediaType, Response, get
from litestar.exceptions import HTTPException
from litestar.params import QueryParameter

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import USER_ID, HistoryPage
from aldis.accounts_api.paging import following, linked
from aldis.accounts_api.problems import declared

TAGS = ["history"]

MOST = 100
"""Messages of one page."""
DEFAULT = 50

Peer = Annotated[
    str,
    QueryParameter(pattern="^[A-Za-z0-9_.-]+$", min_length=1, max_length=64, description="The other user's id."),
]
Mid = Annotated[int | None, QueryParameter(ge=0, le=2**53 - 1, description="A message id.")]


class _Message(msgspec.Struct):
    """`HistoryMessage`, with the sender's object as it is."""

    mid: int
    ts: int
    sender: str = msgspec.field(name="from")
    to: str
    message: msgspec.Raw


class _Page(msgspec.Struct):
    messages: list[_Message]
    next: str | None


@get(
    "/messages",
    summary="History with one user",
    tags=TAGS,
    responses=declared(400, 401, 429, 503),
)
async def messages(
    peer: Peer,
    caller: Caller,
    services: GivenServices,
    before: Mid = None,
    after: Mid = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST, description="Messages at most.")] = DEFAULT,
) -> Response[HistoryPage]:
    """What the caller and `peer` have written to each other, also before a block or the end of a friendship, and also
    if the peer's account is gone. Without `after` the newest first, those with ids below `before`; with `after` the
    oldest first, those with ids above it. A page may be shorter than `limit`; follow `next` until it is null."""
    if not USER_ID.fullmatch(peer):
        # the pattern above is what clients see; its `$` lets a newline through
        raise HTTPException(status_code=400, detail="peer: not a user id")
    if before is not None and after is not None:
        raise HTTPException(status_code=400, detail="before and after: only one of the two")
    entries, more = await services.accounts.history.page(caller.user, peer, before=before, after=after, limit=limit)
    rest = None
    if more and entries:
        direction = "after" if after is not None else "before"
        rest = following("/v1/messages", **{"peer": peer, direction: entries[-1].mid, "limit": limit})
    page = _Page(
        [
            _Message(entry.mid, entry.created, entry.sender, entry.recipient, msgspec.Raw(entry.content))
            for entry in entries
        ],
        rest,
    )
    answer = linked(msgspec.json.encode(page), rest)
    answer.media_type = MediaType.JSON
    return answer  # type: ignore[return-value]


GUARDED = [messages]
