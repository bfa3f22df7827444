"""The JSON bodies of the REST API, in and out: shapes and limits, nothing else. Times are Unix milliseconds.

An unknown field in a request is refused: a misspelt `expires_in` must not give a token for ever.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

UserId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_.-]+$",
        min_length=1,
        max_length=64,
        description="Letters, digits, `_`, `.` and `-`; not `.` or `..`. Case matters.",
        examples=["alice"],
    ),
]
DeviceId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="The device's MQTT client identifier: no control characters, no space at either end, "
        "and something other than `.` and `/` in it.",
        examples=["phone"],
    ),
]
Password = Annotated[str, Meta(min_length=8, max_length=256, examples=["correct horse battery"])]
Name = Annotated[str, Meta(max_length=128, description="A name for people to read, without control characters.")]
Token = Annotated[str, Meta(min_length=1, max_length=4096)]
Lifetime = Annotated[int, Meta(ge=1, le=315_360_000, description="Seconds; at most ten years.")]
Time = Annotated[int, Meta(description="Unix time in milliseconds.")]


def _check_user_id(user_id: str) -> None:
    # The pattern above is what clients see; its `$` would let a trailing newline through.
    if not USER_ID.fullmatch(user_id) or user_id in (".", ".."):
        raise ValueError("not a user id: 1 to 64 letters, digits, '_', '.' and '-', and neither '.' nor '..'")


def _check_text(text: str, what: str) -> None:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError(f"control characters are not allowed in a {what}")


def _check_device_id(device_id: str) -> None:
    _check_text(device_id, "device id")
    # MySQL compares without regard to spaces at the end: "a" and "a " would be two devices here and one there.
    if device_id != device_id.strip():
        raise ValueError("a device id may not begin or end with a space")
    # Such an id could not be named in a path: HTTP clients and servers resolve it away.
    if not device_id.strip("./"):
        raise ValueError("a device id needs a character other than '.' and '/'")


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Base of what clients send."""


class Registration(Body):
    user_id: UserId
    password: Password
    name: Name = ""

    def __post_init__(self) -> None:
        _check_user_id(self.user_id)
        _check_text(self.name, "name")


class Login(Body):
    user_id: UserId
    password: Annotated[str, Meta(max_length=256)]
    device_id: DeviceId

    def __post_init__(self) -> None:
        _check_user_id(self.user_id)
        _check_device_id(self.device_id)


class Refresh(Body):
    refresh_token: Token


class FriendRequest(Body):
    to: UserId

    def __post_init__(self) -> None:
        _check_user_id(self.to)


class NewToken(Body):
    device_id: DeviceId
    name: Annotated[str, Meta(min_length=1, max_length=128, description="What the token is for, for people to read.")]
    expires_in: Lifetime | None = None

    def __post_init__(self) -> None:
        _check_device_id(self.device_id)
        _check_text(self.name, "name")


class NewPassword(Body):
    """`old_password` is the one in force."""

    old_password: Annotated[str, Meta(max_length=256)]
    password: Password


class Deletion(Body):
    """The password, once more: an account is deleted by its owner, not by whoever holds a token."""

    password: Annotated[str, Meta(max_length=256)]


class DeviceName(Body):
    name: Annotated[str, Meta(max_length=128, description="For people to read; empty takes the name away.")]

    def __post_init__(self) -> None:
        _check_text(self.name, "name")


class NewBroadcast(Body):
    text: Annotated[str, Meta(min_length=1, max_length=4096, description="What every user is to read.")]


class Registered(msgspec.Struct, frozen=True):
    user_id: str
    name: str
    created: Time


class Tokens(msgspec.Struct, frozen=True):
    """`expires_in` is the access token's life in seconds. The access token is the device's MQTT password."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"


class Befriending(msgspec.Struct, frozen=True):
    """How the caller stands with `user_id` now."""

    user_id: str
    state: Literal["requested", "friends"]


class IncomingRequest(msgspec.Struct, frozen=True):
    sender: str = msgspec.field(name="from")
    name: str
    created: Time


class OutgoingRequest(msgspec.Struct, frozen=True):
    to: str
    name: str
    created: Time


class FriendRequests(msgspec.Struct, frozen=True):
    """`next` is the path of the next page, null after the last one."""

    incoming: list[IncomingRequest]
    outgoing: list[OutgoingRequest]
    next: str | None


class Key(msgspec.Struct, frozen=True):
    """The relation's AES-256 key, base64; the same for both members and nobody else."""

    version: int
    alg: Literal["A256GCM"]
    key: str


class RelationEntry(msgspec.Struct, frozen=True):
    """`blocked` means by the caller. A blocked friend keeps the key, so that old messages stay readable. `key` is the
    newest version, null where that one is sealed: `GET /v1/relations/{user_id}/keys` tells more. `deleted`: the other's
    account is gone, and nobody can write to it any more."""

    user_id: str
    name: str
    state: Literal["friends", "blocked"]
    key: Key | None
    key_version: int | None
    deleted: bool


class Account(msgspec.Struct, frozen=True):
    """The caller. `device_id` is the device of the access token."""

    user_id: str
    name: str
    device_id: str
    admin: bool


class DeviceEntry(msgspec.Struct, frozen=True):
    """`last_seen` is null for a device that has logged in but never connected; `name` is empty where none was given.
    `expires` is when it is forgotten what the device has taken, unless it connects before; null where it is not."""

    device_id: str
    name: str
    last_seen: int | None
    expires: int | None
    logged_in: bool
    tokens: int
    current: bool


class TokenInfo(msgspec.Struct, frozen=True):
    token_id: str
    device_id: str
    name: str
    created: Time
    expires: int | None
    last_used: int | None


class IssuedToken(msgspec.Struct, frozen=True):
    """`token` is shown here and never again."""

    token_id: str
    token: str
    device_id: str
    name: str
    created: Time
    expires: int | None


class HistoryMessage(msgspec.Struct, frozen=True):
    """`message` is the sender's JSON object as it was published; `ts` is when the server took it."""

    mid: int
    ts: Time
    sender: str = msgspec.field(name="from")
    to: str
    message: dict[str, Any]


class HistoryPage(msgspec.Struct, frozen=True):
    """`next` is the path of the next page in the same direction, null after the last one."""

    messages: list[HistoryMessage]
    next: str | None


class AdminUser(msgspec.Struct, frozen=True):
    user_id: str
    name: str
    state: Literal["active", "disabled", "deleted"]
    admin: bool
    created: Time


class AdminUsers(msgspec.Struct, frozen=True):
    """`next` is the path of the next page, null after the last one."""

    users: list[AdminUser]
    next: str | None


class BroadcastEntry(msgspec.Struct, frozen=True):
    """`sent` counts the users who have it in their inbox; `finished` is null until everybody has."""

    broadcast_id: str
    text: str
    created_by: str
    created: Time
    sent: int
    finished: int | None


class BroadcastList(msgspec.Struct, frozen=True):
    """`next` is the path of the next page, null after the last one."""

    broadcasts: list[BroadcastEntry]
    next: str | None


class AdminFigures(msgspec.Struct, frozen=True):
    """How many there are now."""

    users_active: int
    users_disabled: int
    users_deleted: int
    admins: int
    logins: int
    tokens: int
    devices: int
    friendships: int


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"] = "ok"


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457. `type` never changes its meaning; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
