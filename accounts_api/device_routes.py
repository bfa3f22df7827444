"""The caller's devices and their long-lived tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import uuid_utils
from litestar import Request, Response, delete, get, patch, post
from litestar.params import JSONBody, PathParameter

from aldis.accounts_api.authentication import Authenticated, Caller, GivenServices
from aldis.accounts_api.bodies import DeviceEntry, DeviceName, IssuedToken, NewToken, TokenInfo
from aldis.accounts_api.media import IdempotencyKey, needs_json
from aldis.accounts_api.paging import DEFAULT, After, Limit, page_of
from aldis.accounts_api.problems import declared
from aldis.accounts_api.services import Services
from aldis.bridge.accounts.errors import UnknownDevice
from aldis.bridge.accounts.records import TokenEntry
from aldis.bridge.accounts.retention import may_be_forgotten
from aldis.bridge.credentials import hashed, new_device_token
from aldis.broker.ports import Device

DAY = 86_400_000
DEVICE_TAGS = ["devices"]
TOKEN_TAGS = ["device tokens"]

DeviceIdInPath = Annotated[str, PathParameter(description="Percent-encoded, a slash as `%2F`.", max_length=1024)]


@get("/devices", summary="My devices", tags=DEVICE_TAGS, responses=declared(400, 401, 429, 503))
async def devices(
    caller: Caller, services: GivenServices, after: After = "", limit: Limit = DEFAULT
) -> Response[list[DeviceEntry]]:
    """Every device that has an inbox cursor, a login or a token, by device id."""
    return page_of(
        await _devices_of(caller, services),
        lambda entry: entry.device_id,
        path="/v1/devices",
        after=after,
        limit=limit,
    )


async def _devices_of(caller: Authenticated, services: Services) -> list[DeviceEntry]:
    now = services.now()
    names = await services.accounts.device_names.of(caller.user)
    connected = await services.store.devices(caller.user)
    seen = {known.device: known.last_seen for known in connected}
    expires = _expiries(connected, services.history.idle_device_days * DAY)
    logged_in = {session.device_id for session in await services.accounts.sessions.alive(caller.user, now=now)}
    tokens = [token.device_id for token in await services.accounts.tokens.of(caller.user, now=now)]
    return [
        DeviceEntry(
            device_id=device,
            name=names.get(device, ""),
            last_seen=seen.get(device),
            expires=expires.get(device),
            logged_in=device in logged_in,
            tokens=tokens.count(device),
            current=device == caller.device,
        )
        for device in sorted(seen.keys() | logged_in | set(tokens))
    ]


def _expiries(devices: Sequence[Device], idle: int) -> dict[str, int]:
    """When each is forgotten if it is not seen again; those that are not are left out."""
    if not idle:
        return {}
    going = may_be_forgotten([(one.cursor, one.last_seen) for one in devices])
    return {one.device: one.last_seen + idle for one, may_go in zip(devices, going, strict=True) if may_go}


@patch(
    "/devices/{device_id:path}",
    summary="Name a device",
    tags=DEVICE_TAGS,
    status_code=204,
    before_request=needs_json,
    responses=declared(400, 401, 404, 408, 413, 415, 429, 503),
)
async def name_device(
    data: JSONBody[DeviceName],
    device_id: DeviceIdInPath,
    request: Request[Any, Any, Any],
    caller: Caller,
    services: GivenServices,
) -> None:
    """For its owner to tell it from others; nothing else changes."""
    device = _device_in(request, device_id)
    if not any(entry.device_id == device for entry in await _devices_of(caller, services)):
        raise UnknownDevice("you have no such device")
    await services.accounts.device_names.change(caller.user, device, data.name)


@delete(
    "/devices/{device_id:path}",
    summary="Remove a device",
    tags=DEVICE_TAGS,
    responses=declared(400, 401, 404, 429, 503),
)
async def remove_device(
    device_id: DeviceIdInPath,
    request: Request[Any, Any, Any],
    caller: Caller,
    services: GivenServices,
) -> None:
    """Ends its logins, revokes its tokens, disconnects it and forgets how far it had read. Once this is confirmed,
    nothing reaches it any more; only a node that could not be told is later."""
    device = _device_in(request, device_id)
    known = any(entry.device == device for entry in await services.store.devices(caller.user))
    had_key = await services.keys.is_registered(caller.user, device)
    logged = await services.accounts.tokens.revoke_device(caller.user, device, known=known, now=services.now())
    try:
        # After that: were it first, the device could come back with a credential that still stands.
        await services.store.forget_device(caller.user, device)
        await services.accounts.device_names.change(caller.user, device, "")
    finally:
        services.announcer.announce(logged)
    await services.announcer.settled()
    if had_key:
        await services.keys.removed(caller.user)


@post(
    "/tokens",
    summary="Make a device token",
    tags=TOKEN_TAGS,
    before_request=needs_json,
    responses=declared(400, 401, 408, 409, 413, 415, 422, 429, 503),
)
async def make_token(
    data: JSONBody[NewToken], caller: Caller, services: GivenServices, idempotency_key: IdempotencyKey = None
) -> IssuedToken:
    """A long-lived MQTT password for one device, for bots and microcontrollers. It does not open this API."""
    return await services.repeating.once(
        caller.user,
        "POST /v1/tokens",
        idempotency_key,
        data,
        lambda: _make_token(data, caller, services),
        IssuedToken,
    )


async def _make_token(data: NewToken, caller: Authenticated, services: Services) -> IssuedToken:
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


@get("/tokens", summary="My device tokens", tags=TOKEN_TAGS, responses=declared(400, 401, 429, 503))
async def tokens(
    caller: Caller, services: GivenServices, after: After = "", limit: Limit = DEFAULT
) -> Response[list[TokenInfo]]:
    """Without the tokens themselves: those are not kept. The oldest first. `last_used` is right to a minute."""
    entries = [
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
    entries.sort(key=lambda entry: entry.token_id)  # ids rise with time
    return page_of(entries, lambda entry: entry.token_id, path="/v1/tokens", after=after, limit=limit)


@delete(
    "/tokens/{token_id:str}",
    summary="Revoke a device token",
    tags=TOKEN_TAGS,
    responses=declared(400, 401, 404, 429, 503),
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


GUARDED = [devices, name_device, remove_device, make_token, tokens, remove_token]
