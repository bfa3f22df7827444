"""What can be wrong with a request about relation keys; part of the tree in `errors`.

AccountMissing
├── UnknownVersion              the relation has no such version            404
AccountConflict                                                             409
├── RelationSealed              only clients make keys here
├── NotSealed                   not both sides want it sealed
├── VersionTaken                another device was first
├── DevicesChanged              not wrapped for exactly the devices there are
└── NoDeviceKey                 the calling device has registered no public key
"""

from __future__ import annotations

from aldis.bridge.accounts.errors import AccountConflict, AccountMissing


class UnknownVersion(AccountMissing):
    """The relation has no key of that version."""


class RelationSealed(AccountConflict):
    """Both members want their keys to be made by clients: the server makes none."""


class NotSealed(AccountConflict):
    """A key made by a client needs a relation that both members want sealed."""


class VersionTaken(AccountConflict):
    """The version is not the one that comes next: fetch the keys again."""


class DevicesChanged(AccountConflict):
    """The key is not wrapped for exactly the devices that are registered now: fetch them again."""


class NoDeviceKey(AccountConflict):
    """A device that wraps keys must have registered its own public key."""
