"""The versions of relation keys, made by the server or sealed between devices."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

from litestar import delete, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter

from aldis.accounts_api.authentication import Caller, GivenServices
from aldis.accounts_api.friend_routes import Peer
from aldis.accounts_api.key_bodies import (
    WRAPPED_BYTES,
    Added,
    DevicePublicKey,
    MoreSealedKeys,
    NewSealedKey,
    RegisteredKey,
    RelationDevice,
    RelationKeyList,
    VersionedKey,
    Wanted,
    WrappedBy,
    WrappedKey,
    octets,
)
from aldis.accounts_api.media import needs_json
from aldis.accounts_api.problems import declared
from aldis.bridge.accounts.sealed_keys import Sealing
from aldis.bridge.accounts.shared_keys import KeyVersion, PairKeys

TAGS = ["relation keys"]

WantedVersion = Annotated[int, PathParameter(ge=1, le=2_147_483_647, description="A sealed version.")]


@get("/relations/{user_id:str}/keys", summary="Key versions", tags=TAGS, responses=declared(400, 401, 404, 429, 503))
async def keys(
    user_id: Peer,
    caller: Caller,
    services: GivenServices,
    version: Annotated[
        list[int] | None, QueryParameter(max_items=200, description="Only these versions; may be repeated.")
    ] = None,
) -> RelationKeyList:
    """The key that the caller shares with this friend: all versions, rising, or those asked for. What is sealed comes
    as it was wrapped for the calling device, and for no other."""
    found = await services.keys.keys(caller.user, caller.device, user_id, version)
    return _key_list(user_id, found)


@post(
    "/relations/{user_id:str}/rotate-key",
    summary="Make a new key version",
    tags=TAGS,
    status_code=200,
    responses=declared(400, 401, 404, 409, 429, 503),
)
async def rotate(
    user_id: Peer,
    caller: Caller,
    services: GivenServices,
    after: Annotated[int | None, QueryParameter(ge=1, description="Only if this is still the newest version.")] = None,
) -> RelationKeyList:
    """The server makes the next version; older ones stay, and messages under them are as good as before. Both members
    are told by a system message. The answer has the newest version only; with `after` it may be repeated."""
    found = await services.keys.rotate(caller.user, caller.device, user_id, after)
    newest = PairKeys(found.newest, found.wanted_by, found.versions[-1:])
    return _key_list(user_id, newest)


@put(
    "/device-key",
    summary="Register this device's public key",
    tags=TAGS,
    before_request=needs_json,
    responses=declared(400, 401, 408, 409, 413, 415, 429, 503),
)
async def register(data: JSONBody[DevicePublicKey], caller: Caller, services: GivenServices) -> RegisteredKey:
    """The X25519 public key of the calling device, for which others wrap sealed keys. Only the device itself, by its
    own login, can register it. With another key, what was wrapped for the old one is gone."""
    await services.keys.register(caller.user, caller.device, octets(data.public_key, 32, "public_key"))
    return RegisteredKey(caller.device, data.public_key)


@get(
    "/relations/{user_id:str}/devices",
    summary="Devices with public keys",
    tags=TAGS,
    responses=declared(400, 401, 404, 429, 503),
)
async def devices(user_id: Peer, caller: Caller, services: GivenServices) -> list[RelationDevice]:
    """The devices of both members for which sealed keys are to be wrapped, and which versions each of them lacks."""
    return [
        RelationDevice(one.user, one.device, _base64(one.public_key), one.created, one.missing)
        for one in await services.keys.devices(caller.user, user_id)
    ]


@put(
    "/relations/{user_id:str}/sealed",
    summary="Want a relation sealed",
    tags=TAGS,
    responses=declared(400, 401, 404, 409, 429, 503),
)
async def want_sealed(user_id: Peer, caller: Caller, services: GivenServices) -> Wanted:
    """Sealed it is when both members want it: then the server makes no more keys for it, a client must."""
    wanted_by = await services.keys.want_sealed(caller.user, user_id)
    return Wanted(user_id, "sealed" if len(wanted_by) == 2 else "server", wanted_by)


@delete(
    "/relations/{user_id:str}/sealed",
    summary="Want a relation sealed no longer",
    tags=TAGS,
    responses=declared(400, 401, 404, 429, 503),
)
async def leave_sealed(user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """The newest version stays the newest; the next one may be the server's."""
    await services.keys.leave_sealed(caller.user, user_id)


@post(
    "/relations/{user_id:str}/sealed-keys",
    summary="Store a new sealed version",
    tags=TAGS,
    status_code=204,
    before_request=needs_json,
    responses=declared(400, 401, 404, 408, 409, 413, 415, 429, 503),
)
async def make_sealed(data: JSONBody[NewSealedKey], user_id: Peer, caller: Caller, services: GivenServices) -> None:
    """The next version, made and wrapped by the calling device for exactly the devices that both members have
    registered. The very same may be sent again."""
    check = octets(data.check, 32, "check")
    await services.keys.make_sealed(caller.user, caller.device, user_id, data.version, check, _sealings(data.keys))


@put(
    "/relations/{user_id:str}/sealed-keys/{version:int}",
    summary="Wrap a sealed version for more devices",
    tags=TAGS,
    before_request=needs_json,
    responses=declared(400, 401, 404, 408, 409, 413, 415, 429, 503),
)
async def add_sealed(
    data: JSONBody[MoreSealedKeys], user_id: Peer, version: WantedVersion, caller: Caller, services: GivenServices
) -> Added:
    """For devices that were registered later, by a device that has the version. What a device has already stays."""
    keys = _sealings(data.keys)
    return Added(await services.keys.add_sealed(caller.user, caller.device, user_id, version, keys))


def _key_list(peer: str, found: PairKeys) -> RelationKeyList:
    return RelationKeyList(peer, found.mode, found.wanted_by, found.newest, [_version(one) for one in found.versions])


def _version(one: KeyVersion) -> VersionedKey:
    by = one.wrapped
    return VersionedKey(
        version=one.version,
        kind="server" if one.key is not None else "sealed",
        alg="A256GCM",
        created=one.created,
        stale=one.stale,
        key=None if one.key is None else _base64(one.key),
        check=None if one.check is None else _base64(one.check),
        wrapped=None if by is None else _base64(by.wrapped),
        by=None if by is None else WrappedBy(by.by_user, by.by_device, _base64(by.by_key)),
    )


def _sealings(keys: Sequence[WrappedKey]) -> list[Sealing]:
    return [
        Sealing(
            one.user_id,
            one.device_id,
            octets(one.public_key, 32, "public_key"),
            octets(one.wrapped, WRAPPED_BYTES, "wrapped"),
        )
        for one in keys
    ]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


GUARDED = [keys, rotate, register, devices, want_sealed, leave_sealed, make_sealed, add_sealed]
