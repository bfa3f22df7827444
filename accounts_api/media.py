"""JSON in, JSON out."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException


def needs_json(request: Request[Any, Any, Any]) -> None:
    """Refuses a body that is not declared as JSON: a foreign web page can send other types to a server on somebody's
    own machine without being asked by the browser."""
    if request.content_type[0].lower() != "application/json":
        raise HTTPException(status_code=415, detail="the body must be sent as Content-Type: application/json")
