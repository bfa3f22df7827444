"""Registration, login, refresh, logout."""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar import Request, post
from litestar.params import JSONBody

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import Login, Refresh, Registered, Registration, Tokens
from aldis.accounts_api.logins import TokenPair
from aldis.accounts_api.media import IdempotencyKey, needs_json
from aldis.accounts_api.problems import declared

TAGS = ["login"]

AnyRequest: TypeAlias = Request[Any, Any, Any]


@post(
    "/users",
    summary="Register",
    tags=TAGS,
    before_request=needs_json,
    responses=declared(400, 408, 409, 413, 415, 422, 429, 503),
)
async def register(
    data: JSONBody[Registration],
    request: AnyRequest,
    services: GivenServices,
    idempotency_key: IdempotencyKey = None,
) -> Registered:
    """Makes an account. The user id is its name for ever."""
    services.logins.admit_registration(services.address_of(request))

    async def work() -> Registered:
        created = await services.logins.register(data.user_id, data.password, data.name)
        return Registered(user_id=data.user_id, name=data.name, created=created)

    return await services.repeating.once("", "POST /v1/users", idempotency_key, data, work, Registered)


@post(
    "/login",
    summary="Log a device in",
    tags=TAGS,
    status_code=200,
    before_request=needs_json,
    responses=declared(400, 401, 408, 409, 413, 415, 422, 429, 503),
)
async def log_in(
    data: JSONBody[Login], request: AnyRequest, services: GivenServices, idempotency_key: IdempotencyKey = None
) -> Tokens:
    """The access token is the MQTT password of this device. A login the device had before is ended; not so by a request
    with the same Idempotency-Key, which gets the same login, while its refresh token has not been used."""
    address = services.address_of(request)
    pair = await services.logins.log_in(
        data.user_id, data.password, data.device_id, address=address, key=idempotency_key
    )
    return _tokens(pair)


@post(
    "/token/refresh",
    summary="Renew the access token",
    tags=TAGS,
    status_code=200,
    before_request=needs_json,
    responses=declared(400, 401, 408, 413, 415, 503),
)
async def refresh(data: JSONBody[Refresh], services: GivenServices, idempotency_key: IdempotencyKey = None) -> Tokens:
    """Spends the refresh token and gives a new pair. A refresh token that is used a second time ends the login and
    disconnects the device; unless it comes with the same Idempotency-Key as the first time, soon enough, and the new
    one has not been used: then the answer was lost, and comes again."""
    return _tokens(await services.logins.refresh(data.refresh_token, idempotency_key))


@post("/logout", summary="Log out", tags=TAGS, status_code=204, responses=declared(401, 429, 503))
async def log_out(caller: Caller, services: GivenServices) -> None:
    """Ends this login and disconnects the device."""
    await services.logins.log_out(caller.user, caller.session)


def _tokens(pair: TokenPair) -> Tokens:
    return Tokens(access_token=pair.access_token, refresh_token=pair.refresh_token, expires_in=pair.expires_in)


OPEN = [register, log_in, refresh]
"""The calls that need no access token."""
GUARDED = [log_out]
