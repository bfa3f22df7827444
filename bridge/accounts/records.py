"""The plain records that the accounts' repository gives back. Times are Unix milliseconds."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from aldis.broker.ports import Announcement


class RelationState(IntEnum):
    """`im_relation.state`. Stored as this number; never renumber."""

    NONE = 0
    ASKED_BY_1 = 1
    ASKED_BY_2 = 2
    FRIENDS = 3


class User(msgspec.Struct, frozen=True):
    user_id: str
    name: str
    password_hash: str
    active: bool


class SessionEntry(msgspec.Struct, frozen=True):
    session_id: str
    user_id: str
    device_id: str
    expires: int
    created: int


class Requested(msgspec.Struct, frozen=True):
    """A friend request that nobody has answered yet: `peer` is the other side, and `mine` says that I have asked."""

    peer: str
    name: str
    created: int
    mine: bool


class RelationKey(msgspec.Struct, frozen=True):
    """A relation's AES-256 key, unwrapped. Only ever for one of its two members."""

    version: int
    key: bytes


class Relation(msgspec.Struct, frozen=True):
    """How the caller stands with `peer`. `blocked` is the caller's own doing; the peer's block is not shown. `key` is
    the newest one, `key_version` its version; a sealed key has a version only. `deleted`: the peer's account is
    gone."""

    peer: str
    name: str
    friends: bool
    blocked: bool
    key: RelationKey | None
    key_version: int | None
    updated: int
    deleted: bool


class TokenEntry(msgspec.Struct, frozen=True):
    """A device token without its secret. `expires` and `last_used` may be unset."""

    token_id: str
    device_id: str
    name: str
    created: int
    expires: int | None
    last_used: int | None


class Logged(msgspec.Struct, frozen=True):
    """An announcement and its number in the log: committed, and now to be announced."""

    announcement: Announcement
    number: int


class Listed(msgspec.Struct, frozen=True):
    """An account as administrators see it; `state` is `active`, `disabled` or `deleted`."""

    user_id: str
    name: str
    state: str
    admin: bool
    created: int


class Figures(msgspec.Struct, frozen=True):
    """How many there are."""

    users_active: int
    users_disabled: int
    users_deleted: int
    admins: int
    logins: int
    tokens: int
    devices: int
    friendships: int


class Broadcast(msgspec.Struct, frozen=True):
    """A system message to everybody; `finished` is when the last one got it, None until then."""

    broadcast_id: str
    content: bytes
    created_by: str
    created: int
    place: str = ""
    sent: int = 0
    finished: int | None = None
