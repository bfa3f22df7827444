"""The REST calls that a phone app makes before it greets the broker. Standard library only.

RestError           what every call may raise
├── Refused         the server said no: an RFC 9457 problem with its status, title and detail
├── Unreachable     nobody answered in time
└── Garbled         somebody answered, but not with this API
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import secrets
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from aldis.mobile_client_demo.encryption import ALGORITHM, KEY_BYTES, RelationKey

_NEXT = re.compile(r'<(/[^>]*)>;\s*rel="next"')
"""Only a path of the same server: our token goes along."""


class RestError(Exception):
    """Base of all failures of a REST call."""


class Refused(RestError):
    """The server answered with an error status. `problem` says that it was a proper `application/problem+json`."""

    def __init__(self, call: str, status: int, title: str, detail: str, problem: bool) -> None:
        super().__init__(f"{call}: {status} {title}" + (f" ({detail})" if detail and detail != title else ""))
        self.status = status
        self.title, self.detail = title, detail
        self.problem = problem


class Unreachable(RestError):
    """No answer: refused connection, timeout, unknown host."""


class Garbled(RestError):
    """An answer that is not this API's."""


@dataclass(frozen=True, slots=True)
class Login:
    """One login of one device. The access token is the device's MQTT password; both stay out of the repr.

    `refresh_key` is by which the server knows a refresh again whose answer was lost. Who keeps a login over restarts
    keeps it, too."""

    user: str
    device: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    refresh_key: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Relation:
    friend: str
    state: str
    key: RelationKey | None
    name: str = ""
    deleted: bool = False
    """The friend's account is gone: what was said can be read, and nobody writes."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A sealed key as a device has wrapped it for the calling one, with the public key that it had then."""

    wrapped: bytes
    by_user: str
    by_device: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """`key` where the server made it; else `check`, and `wrapped` once somebody has wrapped it for this device."""

    version: int
    key: RelationKey | None
    check: bytes | None
    wrapped: WrappedKey | None
    stale: bool


@dataclass(frozen=True, slots=True)
class Keys:
    newest: int
    sealed: bool
    versions: list[KeyVersion]


@dataclass(frozen=True, slots=True)
class FriendDevice:
    """A device of one of two friends, with its public key and the sealed versions that it lacks."""

    user: str
    device: str
    public_key: bytes
    missing: list[int]

    def row(self, wrapped: bytes) -> dict[str, str]:
        """A key that was wrapped for it, as the server takes it."""
        key, blob = (base64.b64encode(value).decode() for value in (self.public_key, wrapped))
        return {"user_id": self.user, "device_id": self.device, "public_key": key, "wrapped": blob}


class Rest:
    """One server's accounts API. Every call takes at most `timeout` seconds per network step."""

    def __init__(self, url: str, *, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http address: {url}")
        self.url = url
        # http.client rather than urllib: a proxy from the environment must not stand between us and a local server.
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._timeout = timeout

    def connect(self) -> tuple[http.client.HTTPConnection, str]:
        """A connection for a call that streams, and what its path begins with. The caller closes it."""
        return self._new_connection(), self._base

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)

    def alive(self) -> None:
        """Returns if an HTTP server answers at all, whatever it says; else raises `Unreachable` or `Garbled`."""
        self._exchange("GET", "/healthz", {}, None)

    def register(self, user: str, password: str, name: str) -> None:
        self.call("POST", "/v1/users", {"user_id": user, "password": password, "name": name})

    def login(self, user: str, password: str, device: str) -> Login:
        answer = self.call("POST", "/v1/login", {"user_id": user, "password": password, "device_id": device})
        return Login(user, device, _text(answer, "access_token"), _text(answer, "refresh_token"))

    def refresh(self, login: Login) -> Login:
        """The next pair of tokens. The refresh token of `login` is used up, even if the answer is lost: then ask again,
        soon, with this same `login`."""
        body, headers = {"refresh_token": login.refresh_token}, {"Idempotency-Key": login.refresh_key}
        answer = self.call("POST", "/v1/token/refresh", body, headers=headers)
        return Login(login.user, login.device, _text(answer, "access_token"), _text(answer, "refresh_token"))

    def request_friend(self, login: Login, to: str) -> None:
        self.call("POST", "/v1/friend-requests", {"to": to}, login)

    def accept_friend(self, login: Login, asking: str) -> None:
        self.call("POST", f"/v1/friend-requests/{quote(asking, safe='')}/accept", None, login)

    def relations(self, login: Login) -> list[Relation]:
        """Every relation of the user with its key, where the server gives one: between friends."""
        rows = self.pages("/v1/relations", login)
        return [
            Relation(
                _text(row, "user_id"), _text(row, "state"), _key(row), str(row.get("name") or ""),
                bool(row.get("deleted")),
            )
            for row in rows
        ]  # fmt: skip

    def keys(self, login: Login, friend: str) -> Keys:
        """Every version of the key that the user shares with this friend."""
        answer = self.call("GET", f"/v1/relations/{quote(friend, safe='')}/keys", None, login)
        return _keys(answer)

    def rotate_key(self, login: Login, friend: str, after: int) -> Keys:
        """The newest version, made now unless it is newer than `after` already."""
        return _keys(self.call("POST", f"/v1/relations/{quote(friend, safe='')}/rotate-key?after={after}", None, login))

    def register_key(self, login: Login, public_key: bytes) -> None:
        self.call("PUT", "/v1/device-key", {"public_key": base64.b64encode(public_key).decode()}, login)

    def friend_devices(self, login: Login, friend: str) -> list[FriendDevice]:
        answer = self.call("GET", f"/v1/relations/{quote(friend, safe='')}/devices", None, login)
        if not isinstance(answer, list):
            raise Garbled("the devices are no list")
        if any(ord(letter) < 32 for row in answer for letter in _text(row, "user_id") + _text(row, "device_id")):
            # in the text that is wrapped and compared, it could pass for the line of another device
            raise Garbled("an id has a control character")
        return [
            FriendDevice(
                _text(row, "user_id"), _text(row, "device_id"), _octets(row, "public_key"), list(row["missing"])
            )
            for row in answer
        ]

    def want_sealed(self, login: Login, friend: str) -> bool:
        """Whether it is sealed now: both want it."""
        answer = self.call("PUT", f"/v1/relations/{quote(friend, safe='')}/sealed", None, login)
        return _text(answer, "mode") == "sealed"

    def store_sealed(self, login: Login, friend: str, version: int, check: bytes, keys: list[dict[str, str]]) -> None:
        body = {"version": version, "check": base64.b64encode(check).decode(), "keys": keys}
        self.call("POST", f"/v1/relations/{quote(friend, safe='')}/sealed-keys", body, login)

    def add_sealed(self, login: Login, friend: str, version: int, keys: list[dict[str, str]]) -> int:
        """How many devices lacked it."""
        path = f"/v1/relations/{quote(friend, safe='')}/sealed-keys/{version}"
        return int(self.call("PUT", path, {"keys": keys}, login)["added"])

    def remove_device(self, login: Login, device: str) -> None:
        self.call("DELETE", f"/v1/devices/{quote(device, safe='')}", None, login)

    def pages(self, path: str, login: Login) -> list[Any]:
        """A whole list: the server gives it in pages, and says in a header where the next one is (RFC 8288)."""
        rows: list[Any] = []
        following: str | None = path
        while following is not None:
            answered: dict[str, str] = {}
            answer = self.call("GET", following, None, login, answered=answered)
            if not isinstance(answer, list):
                raise Garbled(f"GET {path}: the answer is not a list")
            rows += answer
            found = _NEXT.search(answered.get("Link", ""))
            following = found.group(1) if found is not None and answer else None
        return rows

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        login: Login | None = None,
        *,
        headers: dict[str, str] | None = None,
        answered: dict[str, str] | None = None,
    ) -> Any:
        """The decoded answer of any call of this API, None where there is none. `answered` is filled with the headers
        of the answer."""
        sent = {**(headers or {}), "Accept": "application/json, application/problem+json"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if login is not None:
            sent["Authorization"] = f"Bearer {login.access_token}"
        status, told, data = self._exchange(method, path, sent, None if body is None else json.dumps(body).encode())
        content_type = told.get("Content-Type", "")
        if answered is not None:
            answered.update(told)
        call = f"{method} {path}"
        problem = content_type.partition(";")[0].strip().lower() == "application/problem+json"
        try:
            document = json.loads(data) if data else None
        except ValueError:
            document = None
            if status < 400:
                raise Garbled(f"{call}: {status}, but the answer is not JSON") from None
        if status >= 400:
            fields = document if isinstance(document, dict) else {}
            title = str(fields.get("title") or http.client.responses.get(status, "error"))
            raise Refused(call, status, title, str(fields.get("detail") or ""), problem and bool(fields))
        if status >= 300:
            raise Garbled(f"{call}: an unexpected status {status}")
        return document

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by name in title case, and what came behind them."""
        connection = self._new_connection()
        try:
            connection.request(method, self._base + path, content, {**headers, "Connection": "close"})
            response = connection.getresponse()
            return response.status, {name.title(): value for name, value in response.headers.items()}, response.read()
        except http.client.HTTPException as error:
            raise Garbled(f"{self.url} answers, but not in HTTP ({type(error).__name__})") from error
        except OSError as error:
            raise Unreachable(f"{self.url} does not answer: {error}") from error
        finally:
            connection.close()


def _text(row: object, name: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value:
        raise Garbled(f"the answer lacks {name}")
    return value


def _key(row: dict[str, Any]) -> RelationKey | None:
    key = row.get("key")
    if key is None:
        return None
    if not isinstance(key, dict) or key.get("alg") != ALGORITHM or type(key.get("version")) is not int:
        raise Garbled(f"a relation's key must be version, alg {ALGORITHM} and key")
    try:
        return RelationKey(key["version"], base64.b64decode(_text(key, "key"), validate=True))
    except (binascii.Error, ValueError) as error:
        raise Garbled(f"a relation's key cannot be used: {error}") from error


def _octets(row: object, name: str) -> bytes:
    try:
        return base64.b64decode(_text(row, name), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Garbled(f"{name} is not base64") from error


def _keys(answer: Any) -> Keys:
    rows = answer.get("keys") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or type(answer.get("newest")) is not int:
        raise Garbled("the keys of a relation must be newest, mode and keys")
    return Keys(answer["newest"], _text(answer, "mode") == "sealed", [_key_version(row) for row in rows])


def _key_version(row: Any) -> KeyVersion:
    if not isinstance(row, dict) or type(row.get("version")) is not int or row.get("alg") != ALGORITHM:
        raise Garbled(f"a key must be version, alg {ALGORITHM} and more")
    if row.get("kind") == "server":
        key = _octets(row, "key")
        if len(key) != KEY_BYTES:
            raise Garbled(f"a relation's key has {len(key)} bytes")
        return KeyVersion(row["version"], RelationKey(row["version"], key), None, None, bool(row.get("stale")))
    wrapped, by = None, row.get("by")
    if row.get("wrapped") is not None:
        public_key = _octets(by, "public_key")
        wrapped = WrappedKey(_octets(row, "wrapped"), _text(by, "user_id"), _text(by, "device_id"), public_key)
    return KeyVersion(row["version"], None, _octets(row, "check"), wrapped, bool(row.get("stale")))
