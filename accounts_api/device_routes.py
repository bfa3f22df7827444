"""The caller's devices and their long-lived tokens."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import uuid_utils
from litestar import Request, delete, get, post
from litestar.params import JSONBody, PathParameter

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.bodies import DeviceEntry, IssuedToken, NewToken, TokenInfo
from aldis.accounts_api.media import needs_json
from aldis.accounts_api.problems import declared
from aldis.bridge.accounts.errors import UnknownDevice
from aldis.bridge.accounts.records import TokenEntry
from aldis.bridge.credentials import hashed, new_device_token

DEVICE_TAGS = ["devices"]
TOKEN_TAGS = ["device tokens"]


@get("/devices", summary="My devices", tags=DEVICE_TAGS, responses=declared(401, 503))
async def devices(caller: Caller, services: GivenServices) -> list[DeviceEntry]:
    """Every device that has an inbox cursor, a login or a token, by device id."""
    now = services.now()
    seen = {known.device: known.last_seen for known in await services.store.devices(caller.user)}
    logged_in = {session.device_id for session in await services.accounts.sessions.alive(caller.user, now=now)}
    tokens = [token.device_id for token in await services.accounts.tokens.of(caller.user, now=now)]
    return [
        DeviceEntry(
            device_id=device,
            last_seen=seen.get(device),
            logged_in=device in logged_in,
            tokens=tokens.count(device),
            current=device == caller.device,
        )
        for device in sorted(seen.keys() | logged_in | set(tokens))
    ]


@delete(
    "/devices/{device_id:path}", summary="Remove a device", tags=DEVICE_TAGS, responses=declared(400, 401, 404, 503)
)
async def remove_device(
    device_id: Annotated[str, PathParameter(description="Percent-encoded, a slash as `%2F`.", max_length=1024)],
    request: Request[Any, Any, Any],
    caller: Caller,
    services: GivenServices,
) -> None:
    """Ends its logins, revokes its tokens, disconnects it and forgets how far it had read. Once this is confirmed,
    nothing reaches it any more; only a node that could not be told is later."""
    device = _device_in(request, device_id)
    known = any(entry.device == device for entry in await services.store.devices(caller.user))
    logged = await services.accounts.tokens.revoke_device(caller.user, device, known=known, now=services.now())
    try:
        # After that: were it first, the device could come back with a credential that still stands.
        await services.store.forget_device(caller.user, device)
    finally:
        services.announcer.announce(logged)
    await services.announcer.settled()


@post(
    "/tokens",
    summary="Make a device token",
    tags=TOKEN_TAGS,
    before_request=needs_json,
    responses=declared(400, 401, 409, 413, 415, 503),
)
async def make_token(data: JSONBody[NewToken], caller: Caller, services: GivenServices) -> IssuedToken:
    """A long-lived MQTT password for one device, for bots and microcontrollers. It does not open this API."""
    now = services.now()
    token = new_device_token()
    entry = TokenEntry(
        token_id=str(uuid_utils.uuid7()),
        device_id=data.device_id,
        name=data.name,
        created=now,
        expires=None if data.expires_in is None else now + data.expires_in * 1000,
        last_used=None,
    )
    limit = services.settings.max_tokens_per_user
    await services.accounts.tokens.add(caller.user, entry, hashed=hashed(token), limit=limit)
    return IssuedToken(
        token_id=entry.token_id,
        token=token,
        device_id=entry.device_id,
        name=entry.name,
        created=entry.created,
        expires=entry.expires,
    )


@get("/tokens", summary="My device tokens", tags=TOKEN_TAGS, responses=declared(401, 503))
async def tokens(caller: Caller, services: GivenServices) -> list[TokenInfo]:
    """Without the tokens themselves: those are not kept. `last_used` is right to a minute."""
    return [
        TokenInfo(
            token_id=entry.token_id,
            device_id=entry.device_id,
            name=entry.name,
            created=entry.created,
            expires=entry.expires,
            last_used=entry.last_used,
        )
        for entry in await services.accounts.tokens.of(caller.user, now=services.now())
    ]


@delete(
    "/tokens/{token_id:str}", summary="Revoke a device token", tags=TOKEN_TAGS, responses=declared(400, 401, 404, 503)
)
async def remove_token(
    token_id: Annotated[str, PathParameter(max_length=64)], caller: Caller, services: GivenServices
) -> None:
    """Disconnects what was opened with it."""
    services.announcer.announce(await services.accounts.tokens.remove(caller.user, token_id, now=services.now()))
    await services.announcer.settled()


def _device_in(request: Request[Any, Any, Any], device_id: str) -> str:
    """The device id as it was sent. Litestar's path parameter has lost slashes at its ends; the raw path has not."""
    raw = request.scope.get("raw_path") or b""
    _, found, tail = raw.partition(b"/devices/")
    if not found:
        return device_id.removeprefix("/")
    try:
        return unquote_to_bytes(tail).decode()
    except UnicodeDecodeError as error:
        raise UnknownDevice("you have no such device") from error


GUARDED = [devices, remove_device, make_token, tokens, remove_token]
