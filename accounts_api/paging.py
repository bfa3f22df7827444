"""Lists in pages: `after` names the last entry of the page before, and a Link header the way to the next page.

An entry that comes or goes meanwhile moves no other one: a page is asked for by what stands before it, not by its
number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from litestar import Response
from litestar.params import QueryParameter

T = TypeVar("T")

MOST = 1_000
"""Entries of one page: some 200 KiB of friends with their keys, and 10 ms of this process."""
DEFAULT = 500

After = Annotated[str, QueryParameter(max_length=128, description="The last id of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description="Entries at most.")]


def following(path: str, **query: object) -> str:
    """The path of another page."""
    return f"{path}?{urlencode(query)}"


def linked(document: T, following: str | None) -> Response[T]:
    """The document, and where the next page is (RFC 8288), if there is one."""
    return Response(document, headers={} if following is None else {"Link": f'<{following}>; rel="next"'})


def page(found: Sequence[T], name: Callable[[T], str], *, path: str, limit: int) -> Response[list[T]]:
    """The first `limit` entries of `found`, in which there is one more if there are more."""
    rest = following(path, after=name(found[limit - 1]), limit=limit) if len(found) > limit else None
    return linked(list(found[:limit]), rest)


def page_of(entries: Sequence[T], name: Callable[[T], str], *, path: str, after: str, limit: int) -> Response[list[T]]:
    """Those of `entries`, which are all that there are and rise by `name`, that come behind `after`."""
    return page([entry for entry in entries if name(entry) > after], name, path=path, limit=limit)
