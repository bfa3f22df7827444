"""JSON in."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException


async def needs_json(request: Request[Any, Any, Any]) -> None:
    """Refuses a body that is not JSON, in what it says of itself or in what it is."""
    # A foreign web page can send other types to a server on somebody's own machine without being asked by the browser.
    if request.content_type[0].lower() != "application/json":
        raise HTTPException(status_code=415, detail="the body must be sent as Content-Type: application/json")
    if not await request.body():
        raise HTTPException(status_code=400, detail="a JSON body is needed")
    try:
        # Litestar keeps the result for the handler; these two it would answer with 500.
        await request.json()
    except UnicodeDecodeError as error:
        raise HTTPException(status_code=400, detail="the body is not UTF-8") from error
    except RecursionError as error:
        raise HTTPException(status_code=400, detail="the body is nested too deeply") from error
