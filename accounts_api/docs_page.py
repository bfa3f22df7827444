"""`/docs`: the OpenAPI document for people, from files of our own. No other host is ever asked."""

from __future__ import annotations

from pathlib import Path

from litestar import MediaType, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.router import Router
from litestar.static_files import create_static_files_router

STATIC = Path(__file__).parent / "static"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    # Swagger UI styles its elements in line.
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Aldis API</title>
<link rel="icon" type="image/png" href="/docs/static/favicon-32x32.png">
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
<div id="api"></div>
<noscript>This page needs JavaScript; the document itself is at <a href="/schema/openapi.json">schema/openapi.json</a>.
</noscript>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/docs/static/docs.js"></script>
</html>
"""


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def docs() -> Response[str]:
    return Response(_PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def docs_files() -> Router:
    """The page's script and style."""
    return create_static_files_router(
        path="/docs/static",
        directories=[STATIC],
        include_in_schema=False,
        cache_control=CacheControlHeader(max_age=3_600),
    )
