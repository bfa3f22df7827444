"""The OpenAPI document as it is handed out: it says what Litestar does not know of our bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

from aldis.accounts_api.bodies import Body


class StrictDocument(JsonRenderPlugin):
    """Says that bodies with unknown fields are refused."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        schemas = openapi_schema.get("components", {}).get("schemas", {})
        for kind in _below(Body):
            if kind.__name__ in schemas:
                schemas[kind.__name__]["additionalProperties"] = False
        return super().render(request, openapi_schema)


def _below(kind: type[Body]) -> Iterator[type[Body]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _below(sub)
