"""JSON in: read strictly, straight into the shape that the call expects."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException, InternalServerException
from litestar.params import HeaderParameter

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern="^[!-~]+$",
        description="The same key and body again get the first answer, and nothing is done twice.",
    ),
]


async def needs_json(request: Request[Any, Any, Any]) -> None:
    """Refuses a request without a body that says it is JSON."""
    # A foreign web page can send other types to a server on somebody's own machine without being asked by the browser.
    if request.content_type[0].lower() != "application/json":
        raise HTTPException(status_code=415, detail="the body must be sent as Content-Type: application/json")
    if not await request.body():
        raise HTTPException(status_code=400, detail="a JSON body is needed")


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body becomes the handler's `data` in one strict step.

    Litestar's own way reads any JSON first and bends it into shape afterwards: there "60" passes for 60, and deep
    nesting or bytes that are no UTF-8 end in a 500.
    """

    async def body(self) -> bytes:
        """As it came. Raises `HTTPException` 400 where the client has gone away in the middle of it."""
        try:
            return await super().body()
        except InternalServerException as error:  # Litestar's word for it, which would count as a fault of ours
            raise HTTPException(status_code=400, detail="the body broke off") from error

    async def json(self) -> Any:
        """The body as the type of the handler's `data`. Raises `HTTPException` 400."""
        field = self.route_handler.parsed_data_field
        try:
            return msgspec.json.decode(await self.body(), type=field.annotation if field is not None else Any)
        except UnicodeDecodeError as error:
            raise HTTPException(status_code=400, detail="the body is not UTF-8") from error
        except RecursionError as error:
            raise HTTPException(status_code=400, detail="the body is nested too deeply") from error
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            # msgspec names the field and what is wrong with it, never the value.
            raise HTTPException(status_code=400, detail=str(error)) from error
