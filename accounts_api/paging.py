"""Lists in pages: `after` names the last entry of the page before, and a Link header the way to the next page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from litestar import Response
from litestar.params import QueryParameter

T = TypeVar("T")

MOST = 5_000

After = Annotated[str, QueryParameter(max_length=128, description="The last id of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description="Entries at most.")]


def page_of(entries: Sequence[T], name: Callable[[T], str], *, path: str, after: str, limit: int) -> Response[list[T]]:
    """Those of `entries`, which rise by `name`, that come behind `after`. If there are more than `limit`, the header
    `Link: <…>; rel="next"` says where (RFC 8288). Entries that come or go meanwhile move no others."""
    behind = [entry for entry in entries if name(entry) > after]
    page = behind[:limit]
    headers = {}
    if len(behind) > limit:
        query = urlencode({"after": name(page[-1]), "limit": limit})
        headers["Link"] = f'<{path}?{query}>; rel="next"'
    return Response(page, headers=headers)
