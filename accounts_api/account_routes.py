"""The caller's own account."""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar import Request, get, post, put
from litestar.params import JSONBody

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import Account, Deletion, NewPassword
from aldis.accounts_api.media import needs_json
from aldis.accounts_api.problems import declared
from aldis.bridge.accounts.errors import SessionEnded

TAGS = ["account"]

AnyRequest: TypeAlias = Request[Any, Any, Any]


@get("/account", summary="Who I am", tags=TAGS, responses=declared(401, 429, 503))
async def account(caller: Caller, services: GivenServices) -> Account:
    user = await services.accounts.users.find(caller.user)
    if user is None:
        raise SessionEnded("there is no such account any more")
    admin = await services.accounts.administration.is_admin(caller.user)
    return Account(user_id=caller.user, name=user.name, device_id=caller.device, admin=admin)


@put(
    "/account/password",
    summary="Change the password",
    tags=TAGS,
    status_code=204,
    before_request=needs_json,
    responses=declared(400, 401, 408, 413, 415, 429, 503),
)
async def change_password(
    data: JSONBody[NewPassword], request: AnyRequest, caller: Caller, services: GivenServices
) -> None:
    """Every other login ends and is disconnected; this one goes on. Device tokens stay."""
    await services.own_account.change_password(
        caller.user, caller.session, old=data.old_password, new=data.password, address=services.address_of(request)
    )


@post(
    "/account/deletion",
    summary="Delete the account",
    tags=TAGS,
    status_code=204,
    before_request=needs_json,
    responses=declared(400, 401, 408, 413, 415, 429, 503),
)
async def delete_account(
    data: JSONBody[Deletion], request: AnyRequest, caller: Caller, services: GivenServices
) -> None:
    """For good: logins, tokens, requests and the name are gone, and the user id is never given to anybody again. What
    was written stays readable to those it was written to."""
    await services.own_account.delete(caller.user, password=data.password, address=services.address_of(request))


@post(
    "/account/logout",
    summary="Log out everywhere",
    tags=TAGS,
    status_code=204,
    responses=declared(401, 429, 503),
)
async def log_out_everywhere(caller: Caller, services: GivenServices) -> None:
    """Ends every login, this one too, and disconnects everything. Device tokens stay good."""
    await services.own_account.log_out_everywhere(caller.user)


GUARDED = [account, change_password, delete_account, log_out_everywhere]
