"""New key versions and public keys of devices: changed first, then everybody concerned is told in the inbox.

The notice is a hint, as with friendships: if it cannot be stored, the change stands, and clients find it when they next
fetch keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from aldis.accounts_api.attempts import Attempts
from aldis.accounts_api.notices import post_notice
from aldis.bridge.accounts import Accounts
from aldis.bridge.accounts.sealed_keys import DeviceKey, Sealing
from aldis.bridge.accounts.shared_keys import PairKeys
from aldis.broker.ports import Postbox
from aldis.config.relation_keys import RelationKeys


class KeyExchange:
    """What one device of `me`, who has been authenticated, does about keys. The errors are those of `SharedKeys` and
    `SealedKeys`, and `TooManyAttempts`."""

    def __init__(self, accounts: Accounts, postbox: Postbox, settings: RelationKeys, now: Callable[[], int]) -> None:
        self._shared = accounts.keys
        self._sealed = accounts.sealed
        self._postbox = postbox
        self._settings = settings
        self._now = now
        self._making = Attempts(burst=settings.burst, per_minute=settings.per_minute)
        self._registering = Attempts(burst=settings.burst, per_minute=settings.per_minute)

    async def keys(self, me: str, device: str, peer: str, versions: Collection[int] | None) -> PairKeys:
        return await self._shared.of(me, peer, device=device, versions=versions)

    async def rotate(self, me: str, device: str, peer: str, after: int | None) -> PairKeys:
        """The newest version, after the server has made it or, by `after`, found that somebody else has."""
        self._making.take(f"{me} {peer}", self._now())
        limit = self._settings.max_versions
        made = await self._shared.rotate(me, peer, after=after, limit=limit, now=self._now())
        keys = await self._shared.of(me, peer, device=device)
        if made:
            await self._tell_both(me, peer, {"type": "key_rotated", "version": keys.newest, "kind": "server"})
        return keys

    async def register(self, me: str, device: str, public_key: bytes) -> None:
        self._registering.take(me, self._now())
        limit = self._settings.max_devices
        sealed_with = await self._sealed.register(me, device, public_key, limit=limit, now=self._now())
        if sealed_with is not None:
            await self._tell_devices_changed(me, sealed_with)

    async def is_registered(self, me: str, device: str) -> bool:
        return await self._sealed.is_registered(me, device)

    async def removed(self, me: str) -> None:
        """A device with a public key is one of mine no longer: tells those who wrap keys for it."""
        await self._tell_devices_changed(me, await self._sealed.with_whom(me))

    async def devices(self, me: str, peer: str) -> list[DeviceKey]:
        return await self._sealed.devices(me, peer)

    async def want_sealed(self, me: str, peer: str) -> list[str]:
        """Who wants it sealed now."""
        self._making.take(f"{me} {peer}", self._now())
        wanted_by, new = await self._sealed.want(me, peer, now=self._now())
        if new:
            await self._tell_both(me, peer, {"type": "seal_changed", "wanted_by": wanted_by})
        return wanted_by

    async def leave_sealed(self, me: str, peer: str) -> None:
        left = await self._sealed.leave(me, peer)
        if left is not None:
            await self._tell_both(me, peer, {"type": "seal_changed", "wanted_by": left})

    async def make_sealed(
        self, me: str, device: str, peer: str, version: int, check: bytes, sealings: Sequence[Sealing]
    ) -> None:
        self._making.take(f"{me} {peer}", self._now())
        limit = self._settings.max_versions
        made = await self._sealed.make(me, device, peer, version, check, sealings, limit=limit, now=self._now())
        if made:
            await self._tell_both(me, peer, {"type": "key_rotated", "version": version, "kind": "sealed"})

    async def add_sealed(self, me: str, device: str, peer: str, version: int, sealings: Sequence[Sealing]) -> int:
        added = await self._sealed.add(me, device, peer, version, sealings, now=self._now())
        others = {one.user for one in sealings}
        for user in sorted(others) if added else []:
            other = peer if user == me else me
            await self._post(user, {"type": "key_wrapped", "user_id": other, "version": version})
        return added

    async def _tell_both(self, me: str, peer: str, notice: dict[str, Any]) -> None:
        for user, other in ((me, peer), (peer, me)):
            await self._post(user, {**notice, "user_id": other})

    async def _tell_devices_changed(self, me: str, sealed_with: Sequence[str]) -> None:
        for user in (me, *sealed_with) if sealed_with else ():
            await self._post(user, {"type": "device_keys_changed", "user_id": me})

    async def _post(self, user: str, notice: dict[str, Any]) -> None:
        await post_notice(self._postbox, user, notice)
