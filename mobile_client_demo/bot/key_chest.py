"""The relation keys of a bot: on disk, so that it encrypts while offline, and fetched when one is missing.

Keys that the server makes and sealed ones alike (`sealed_device.py`). A bot has no eyes to compare safety numbers:
its owner does that once, with `safety_number` and `confirm`.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.bot.disk import Disk
from aldis.mobile_client_demo.encryption import CannotDecrypt, Keyring, RelationKey, key_version
from aldis.mobile_client_demo.rest import RestError
from aldis.mobile_client_demo.sealed_device import Distrusted, SealedDevice
from aldis.mobile_client_demo.sealing import DevicePair
from aldis.mobile_client_demo.wire import Item

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class NoKey(Exception):
    """There is no key for this friend, and none can be had now."""


class _StoredKeyring(Keyring):
    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk
        for friend, key in disk.relation_keys():
            super().add(friend, key)

    def add(self, friend: str, key: RelationKey) -> None:
        if self.version(friend, key.version) != key:
            self._disk.add_key(friend, key)
        super().add(friend, key)

    def add_all(self, keys: list[tuple[str, RelationKey]]) -> None:
        if keys:
            self._disk.add_keys(keys)
        for friend, key in keys:
            super().add(friend, key)


class KeyChest:
    """Thread-safe; calls may take as long as a REST call does, so the network thread makes none."""

    def __init__(self, disk: Disk, access: Access, user: str) -> None:
        self._disk, self._access, self._user = disk, access, user
        self._keys = _StoredKeyring(disk)
        self._lock = threading.RLock()
        self._behind: set[str] = set()
        """Friends with whom there is a newer version than we have."""

    def encrypt(self, friend: str, text: str) -> dict[str, Any]:
        """`enc` and `body`, under the newest version that can be had. Raises `NoKey`, `Distrusted`, `CannotDecrypt`."""
        with self._lock:
            has = self._has(friend)
            if not has or friend in self._behind:
                try:
                    self._fetch(friend)
                except (RestError, NoLogin) as error:
                    if not has:
                        raise NoKey(f"no key for {friend}: {error}") from error
            elif self._keys.is_worn(friend):
                self._rotate(friend)
            try:
                return self._keys.encrypt(friend, sender=self._user, text=text)
            except KeyError:
                raise NoKey(f"no key for {friend}: no friend, or nobody has wrapped one for this device") from None

    def decrypt(self, item: Item) -> str:
        """The text of an encrypted item. Raises `CannotDecrypt`."""
        friend = item.recipient if item.sender == self._user else item.sender
        with self._lock:
            version = key_version(item.content)
            if version is not None and self._keys.version(friend, version) is None:
                try:
                    self._fetch(friend)
                except (RestError, NoLogin, Distrusted) as error:
                    raise CannotDecrypt(f"no key of version {version} for {friend}: {error}") from error
            return self._keys.decrypt(friend, sender=item.sender, recipient=item.recipient, content=item.content)

    def told(self, friend: str) -> None:
        """The server says that the keys with this friend have changed. A failure is logged, and made good when the next
        text is encrypted."""
        with self._lock:
            if not self._has(friend):
                return
            self._behind.add(friend)
            try:
                self._fetch(friend)
            except (RestError, NoLogin, Distrusted, CannotDecrypt) as error:
                logger.warning("the new key with %s cannot be had yet: %s", friend, error)

    def offered(self, keys: Iterable[tuple[str, RelationKey]]) -> None:
        """The newest keys, from the list of relations. Taken only where this device has none and has never seen a
        sealed one."""
        with self._lock:
            sealed = self._kept().get("since", {})
            self._keys.add_all(
                [(friend, key) for friend, key in keys if friend not in sealed and not self._has(friend)]
            )

    def rotate(self, friend: str) -> int:
        """Makes the next version, by the server or, where it is sealed, here; which one it is. Raises `RestError`,
        `NoLogin`, `Distrusted`."""
        with self._lock:
            now = self._access.call(lambda rest, login: rest.keys(login, friend))
            if now.sealed:
                version = self._with_device(lambda device: device.seal(friend))
            else:
                version = self._access.call(lambda rest, login: rest.rotate_key(login, friend, now.newest)).newest
            self._fetch(friend)
            return version

    # Sealed relations

    def seal(self, friend: str) -> bool:
        """Says that this side wants it; whether the friend does, too. If so, makes a sealed version where there is none
        that is good, and wraps for devices that lack one what this one has. Raises `RestError`, `NoLogin`, and
        `Distrusted` where a device is unconfirmed."""
        with self._lock:
            if not self._access.call(lambda rest, login: rest.want_sealed(login, friend)):
                return False
            now = self._access.call(lambda rest, login: rest.keys(login, friend))
            if any(one.version == now.newest and (one.key is not None or one.stale) for one in now.versions):
                self._with_device(lambda device: device.seal(friend))
            self._fetch(friend)
            self._with_device(lambda device: device.help(friend))
            return True

    def register(self) -> None:
        """Makes this device one for which friends wrap keys."""
        self._with_device(SealedDevice.register)

    def safety_number(self, friend: str) -> str:
        return self._with_device(lambda device: device.safety_number(friend))

    def confirm(self, friend: str, number: str) -> None:
        """The owner has compared it. Raises `Distrusted`."""
        self._with_device(lambda device: device.confirm(friend, number))

    def _has(self, friend: str) -> bool:
        try:
            self._keys.newest(friend)
        except KeyError:
            return False
        return True

    def _fetch(self, friend: str) -> None:
        self._with_device(lambda device: device.fetch(friend))
        self._behind.discard(friend)

    def _rotate(self, friend: str) -> None:
        after = self._keys.newest(friend).version
        try:
            self._access.call(lambda rest, login: rest.rotate_key(login, friend, after))
            self._fetch(friend)
        except (RestError, NoLogin) as error:
            logger.warning("no new key with %s, the old one goes on: %s", friend, error)

    def _kept(self) -> Any:
        return json.loads(self._disk.remembered("sealed") or "{}")

    def _with_device(self, work: Callable[[SealedDevice], Answer]) -> Answer:
        """Work as a device with the key pair, and what was confirmed, of all runs before."""
        with self._lock:
            kept = self._kept()
            private = base64.b64decode(kept["private"]) if kept else X25519PrivateKey.generate().private_bytes_raw()
            pair = DevicePair(X25519PrivateKey.from_private_bytes(private))

            def made(device: SealedDevice) -> Answer:
                device.trusted |= {(user, id, bytes.fromhex(key)) for user, id, key in kept.get("trusted", ())}
                device.sealed_since.update(kept.get("since", {}))
                try:
                    return work(device)
                finally:
                    trusted = sorted((user, id, key.hex()) for user, id, key in device.trusted)
                    now = {
                        "private": base64.b64encode(private).decode(), "trusted": trusted, "since": device.sealed_since,
                    }  # fmt: skip
                    if json.loads(json.dumps(now)) != kept:
                        self._disk.remember("sealed", json.dumps(now))

            return self._access.call(lambda rest, login: made(SealedDevice(rest, login, self._keys, pair=pair)))
