"""Friend requests, relations with their keys, blocks."""

from __future__ import annotations

import base64
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import (
    Befriending,
    FriendRequest,
    FriendRequests,
    IncomingRequest,
    Key,
    OutgoingRequest,
    RelationEntry,
)
from aldis.accounts_api.media import needs_json
from aldis.accounts_api.paging import DEFAULT, After, Limit, following, linked, page
from aldis.accounts_api.problems import declared
from aldis.bridge.accounts.records import Relation

TAGS = ["friends"]

Peer = Annotated[
    str,
    PathParameter(pattern="^[A-Za-z0-9_.-]+$", min_length=1, max_length=64, description="The other user's id."),
]


@post(
    "/friend-requests",
    summary="Ask to be friends",
    tags=TAGS,
    status_code=200,
    before_request=needs_json,
    responses=declared(400, 401, 404, 408, 409, 413, 415, 429, 503),
)
async def ask(data: JSONBody[FriendRequest], caller: Caller, services: GivenServices) -> Befriending:
    """If the other side has asked already, the two are friends now. Repeating changes nothing. The answer to somebody
    who has been blocked is the same as to anybody else, but the other side sees nothing of it."""
    pair = await services.friendships.ask(caller.user, data.to)
    return Befriending(user_id=data.to, state="friends" if pair.friends else "requested")


@get("/friend-requests", summary="Unanswered requests", tags=TAGS, responses=declared(400, 401, 429, 503))
async def requests(
    caller: Caller, services: GivenServices, after: After = "", limit: Limit = DEFAULT
) -> Response[FriendRequests]:
    """Requests to and from the caller that nobody has answered, by the other's user id: `limit` of both together."""
    found = await services.accounts.lists.requests(caller.user, after=after, limit=limit + 1)
    more = following("/v1/friend-requests", after=found[limit - 1].peer, limit=limit) if len(found) > limit else None
    incoming = [IncomingRequest(one.peer, one.name, one.created) for one in found[:limit] if not one.mine]
    outgoing = [OutgoingRequest(one.peer, one.name, one.created) for one in found[:limit] if one.mine]
    return linked(FriendRequests(incoming=incoming, outgoing=outgoing, next=more), more)


@post(
    "/friend-requests/{user_id:str}/accept",
    summary="Accept a request",
    tags=TAGS,
    status_code=200,
    responses=declared(400, 401, 404, 409, 429, 503),
)
async def accept(user_id: Peer, caller: Caller, services: GivenServices) -> Befriending:
    """Makes the two friends, with a new key of their own. Repeating changes nothing."""
    await services.friendships.accept(caller.user, user_id)
    return Befriending(user_id=user_id, state="friends")


@post(
    "/friend-requests/{user_id:str}/decline",
    summary="Decline a request",
    tags=TAGS,
    status_code=204,
    responses=declared(400, 401, 404, 429, 503),
)
async def decline(user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """The asker is not told, and may ask again."""
    await services.friendships.decline(caller.user, user_id)


@get("/relations", summary="Friends and keys", tags=TAGS, responses=declared(400, 401, 429, 503))
async def relations(
    caller: Caller, services: GivenServices, after: After = "", limit: Limit = DEFAULT
) -> Response[list[RelationEntry]]:
    """The caller's friends with the keys shared with each, and whom the caller has blocked, by user id."""
    found = await services.accounts.lists.relations(caller.user, after=after, limit=limit + 1)
    return page([_entry(one) for one in found], lambda entry: entry.user_id, path="/v1/relations", limit=limit)


@delete("/friends/{user_id:str}", summary="End a friendship", tags=TAGS, responses=declared(400, 401, 404, 429, 503))
async def unfriend(user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """For both sides, at once. The key is destroyed; a new friendship gets another one."""
    await services.friendships.unfriend(caller.user, user_id)


@put(
    "/blocks/{user_id:str}",
    summary="Block a user",
    tags=TAGS,
    status_code=204,
    responses=declared(400, 401, 404, 429, 503),
)
async def block(user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """Neither can write to the other until it is taken back; the other side is not told. Takes the caller's own request
    back and hides the other's. A friendship sleeps meanwhile."""
    await services.friendships.block(caller.user, user_id)


@delete("/blocks/{user_id:str}", summary="Take a block back", tags=TAGS, responses=declared(400, 401, 404, 429, 503))
async def unblock(user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """A friendship from before goes on; requests made meanwhile are gone."""
    await services.friendships.unblock(caller.user, user_id)


def _entry(relation: Relation) -> RelationEntry:
    key = None
    if relation.key is not None:
        key = Key(version=relation.key.version, alg="A256GCM", key=base64.b64encode(relation.key.key).decode())
    return RelationEntry(
        user_id=relation.peer,
        name=relation.name,
        state="blocked" if relation.blocked else "friends",
        key=key,
        key_version=relation.key_version,
        deleted=relation.deleted,
    )


GUARDED = [ask, requests, accept, decline, relations, unfriend, block, unblock]
