"""What a device does so that its user's texts are for the two friends alone: it makes, wraps, opens and checks keys.

It believes the server in nothing but this: that a public key which the user has confirmed, by comparing safety numbers,
is what it was. What the server may still do is written in `docs/encryption.md`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from aldis.mobile_client_demo.encryption import KEY_BYTES, CannotDecrypt, Keyring, RelationKey
from aldis.mobile_client_demo.rest import FriendDevice, Login, Rest, WrappedKey
from aldis.mobile_client_demo.sealing import DevicePair, Place, check_of, safety_number, unwrap, wrap


class Distrusted(Exception):
    """The server shows something that nobody has confirmed: a public key, or a key of its own where keys were sealed.
    Compare safety numbers; until then nothing is wrapped, opened or encrypted."""


class SealedDevice:
    """One device with its key pair. Keys that it has opened and checked go into `keys`."""

    def __init__(self, rest: Rest, login: Login, keys: Keyring, *, pair: DevicePair | None = None) -> None:
        self._rest, self._login = rest, login
        self.keys = keys
        self.pair = pair or DevicePair()
        self.trusted: set[tuple[str, str, bytes]] = {(login.user, login.device, self.pair.public)}
        self.sealed_since: dict[str, int] = {}

    def register(self) -> None:
        self._rest.register_key(self._login, self.pair.public)

    def safety_number(self, friend: str) -> str:
        """For the user to compare with what the friend's app shows."""
        users: dict[str, dict[str, bytes]] = {self._login.user: {}, friend: {}}
        for one in self._rest.friend_devices(self._login, friend):
            users.setdefault(one.user, {})[one.device] = one.public_key
        return safety_number(users)

    def confirm(self, friend: str, number: str) -> None:
        """The user says that the friend's app shows this number. Raises `Distrusted` if it is not ours."""
        devices = self._rest.friend_devices(self._login, friend)
        if number != self.safety_number(friend):
            raise Distrusted(f"the safety number with {friend} is another one")
        self.trusted |= {(one.user, one.device, one.public_key) for one in devices}

    def seal(self, friend: str) -> int:
        """Makes the next version of the key and stores it, wrapped for every device of both; which version it is."""
        devices = self._confirmed(friend)
        version = self._rest.keys(self._login, friend).newest + 1
        key = secrets.token_bytes(KEY_BYTES)
        check = check_of(key, (self._login.user, friend), version)
        self._rest.store_sealed(self._login, friend, version, check, self._wrapped(friend, version, key, devices))
        return version

    def help(self, friend: str) -> int:
        """Wraps what this device can open for the devices that lack it; how many blobs that were."""
        added = 0
        devices = self._confirmed(friend)
        for version in sorted({version for one in devices for version in one.missing}):
            key = self.keys.version(friend, version)
            if key is not None:
                lacking = [one for one in devices if version in one.missing]
                wrapped = self._wrapped(friend, version, key.key, lacking)
                added += self._rest.add_sealed(self._login, friend, version, wrapped)
        return added

    def fetch(self, friend: str) -> list[int]:
        """Takes every version that this device can have; the sealed ones that it lacks still. Raises `Distrusted` for a
        key of the server's above a sealed one, or one wrapped by a device that nobody has confirmed; `CannotDecrypt`
        for one that does not open, or is not what the others have."""
        lacking = []
        for one in self._rest.keys(self._login, friend).versions:
            if one.key is not None:
                if one.version > self.sealed_since.get(friend, one.version):
                    raise Distrusted(f"version {one.version} for {friend} was made by the server")
                self.keys.add(friend, one.key)
            elif one.wrapped is None or one.check is None:
                lacking.append(one.version)
            else:
                self.sealed_since.setdefault(friend, one.version)
                self._open(friend, one.version, one.wrapped, one.check)
        return lacking

    def _open(self, friend: str, version: int, found: WrappedKey, check: bytes) -> None:
        if (found.by_user, found.by_device, found.public_key) not in self.trusted:
            raise Distrusted(f"version {version} comes from {found.by_user} on {found.by_device}, unconfirmed")
        user, device = self._login.user, self._login.device
        place = Place(version, found.by_user, found.by_device, user, device, (user, friend))
        key = unwrap(found.wrapped, place, self.pair, found.public_key)
        if check_of(key, (user, friend), version) != check:
            raise CannotDecrypt(f"version {version} for {friend} is not the key that the others have")
        self.keys.add(friend, RelationKey(version, key))

    def _confirmed(self, friend: str) -> list[FriendDevice]:
        devices = self._rest.friend_devices(self._login, friend)
        for one in devices:
            if (one.user, one.device, one.public_key) not in self.trusted:
                raise Distrusted(f"nobody has confirmed the public key of {one.user} on {one.device}")
        return devices

    def _wrapped(self, friend: str, version: int, key: bytes, to: Sequence[FriendDevice]) -> list[dict[str, str]]:
        user, device = self._login.user, self._login.device
        rows = []
        for one in to:
            place = Place(version, user, device, one.user, one.device, (user, friend))
            rows.append(one.row(wrap(key, place, self.pair, one.public_key)))
        return rows
