"""For administrators. The first one is made on the server's own command line: `aldis admin grant USER`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import (
    AdminFigures,
    AdminUser,
    AdminUsers,
    BroadcastEntry,
    BroadcastList,
    NewBroadcast,
)
from aldis.accounts_api.media import IdempotencyKey, needs_json
from aldis.accounts_api.paging import following, linked
from aldis.accounts_api.problems import declared
from aldis.bridge.accounts.errors import NotWithOneself
from aldis.bridge.accounts.records import Broadcast, Listed

TAGS = ["administration"]

User = Annotated[
    str, PathParameter(pattern="^[A-Za-z0-9_.-]+$", min_length=1, max_length=64, description="The user's id.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=500, description="Entries at most.")]


@get("/users", summary="All users", tags=TAGS, responses=declared(400, 401, 403, 429, 503))
async def users(
    services: GivenServices,
    after: Annotated[str, QueryParameter(max_length=64, description="The last user id of the page before.")] = "",
    limit: Limit = 100,
) -> Response[AdminUsers]:
    """In the order of their ids, the deleted ones among them."""
    listed = await services.accounts.administration.users(after=after, limit=limit + 1)
    more = following("/v1/admin/users", after=listed[limit - 1].user_id, limit=limit) if len(listed) > limit else None
    return linked(AdminUsers(users=[_user(one) for one in listed[:limit]], next=more), more)


@get("/users/{user_id:str}", summary="One user", tags=TAGS, responses=declared(400, 401, 403, 404, 429, 503))
async def user(user_id: User, services: GivenServices) -> AdminUser:
    return _user(await services.accounts.administration.user(user_id))


@post(
    "/users/{user_id:str}/disable",
    summary="Disable a user",
    tags=TAGS,
    status_code=204,
    responses=declared(400, 401, 403, 404, 429, 503),
)
async def disable(user_id: User, caller: Caller, services: GivenServices) -> None:
    """Every login ends, everything is disconnected, and nothing lets the user in until enabled again. Device tokens
    sleep. Repeating changes nothing."""
    if user_id == caller.user:
        raise NotWithOneself("an administrator cannot disable himself")
    services.announcer.announce(*await services.accounts.administration.disable(user_id, now=services.now()))
    await services.announcer.settled()


@post(
    "/users/{user_id:str}/enable",
    summary="Enable a user",
    tags=TAGS,
    status_code=204,
    responses=declared(400, 401, 403, 404, 429, 503),
)
async def enable(user_id: User, services: GivenServices) -> None:
    """The user may log in again, and device tokens are good again."""
    await services.accounts.administration.enable(user_id)


@post(
    "/users/{user_id:str}/kick",
    summary="End all logins of a user",
    tags=TAGS,
    status_code=204,
    responses=declared(400, 401, 403, 404, 429, 503),
)
async def kick(user_id: User, services: GivenServices) -> None:
    """Disconnects everything. The user may log in again, and device tokens stay good."""
    services.announcer.announce(*await services.accounts.administration.end_logins(user_id, now=services.now()))
    await services.announcer.settled()


@get("/figures", summary="How many there are", tags=TAGS, responses=declared(401, 403, 429, 503))
async def figures(services: GivenServices) -> AdminFigures:
    return msgspec.convert(
        await services.accounts.administration.figures(now=services.now()), AdminFigures, from_attributes=True
    )


@post(
    "/broadcasts",
    summary="Write to everybody",
    tags=TAGS,
    status_code=202,
    before_request=needs_json,
    responses=declared(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
)
async def broadcast(
    data: JSONBody[NewBroadcast], caller: Caller, services: GivenServices, idempotency_key: IdempotencyKey = None
) -> BroadcastEntry:
    """A system message into the inbox of every active user there is now, sent in the background: ask for it by its id.
    It goes on after a restart, and nobody gets it twice."""

    async def work() -> BroadcastEntry:
        return _broadcast(await services.broadcasting.begin(data.text, by=caller.user))

    return await services.repeating.once(
        caller.user, "POST /v1/admin/broadcasts", idempotency_key, data, work, BroadcastEntry
    )


@get("/broadcasts", summary="All broadcasts", tags=TAGS, responses=declared(400, 401, 403, 429, 503))
async def broadcasts(
    services: GivenServices,
    before: Annotated[str, QueryParameter(max_length=36, description="The last id of the page before.")] = "",
    limit: Limit = 100,
) -> Response[BroadcastList]:
    """The newest first."""
    found = await services.accounts.broadcasts.newest(before=before, limit=limit + 1)
    more = None
    if len(found) > limit:
        more = following("/v1/admin/broadcasts", before=found[limit - 1].broadcast_id, limit=limit)
    return linked(BroadcastList(broadcasts=[_broadcast(one) for one in found[:limit]], next=more), more)


@get(
    "/broadcasts/{broadcast_id:str}",
    summary="How far a broadcast is",
    tags=TAGS,
    responses=declared(400, 401, 403, 404, 429, 503),
)
async def broadcast_progress(
    broadcast_id: Annotated[str, PathParameter(max_length=36)], services: GivenServices
) -> BroadcastEntry:
    return _broadcast(await services.accounts.broadcasts.find(broadcast_id))


def _user(listed: Listed) -> AdminUser:
    return msgspec.convert(listed, AdminUser, from_attributes=True)


def _broadcast(one: Broadcast) -> BroadcastEntry:
    text: str = msgspec.json.decode(one.content)["text"]
    return BroadcastEntry(one.broadcast_id, text, one.created_by, one.created, one.sent, one.finished)


ADMINS = [users, user, disable, enable, kick, figures, broadcast, broadcasts, broadcast_progress]
