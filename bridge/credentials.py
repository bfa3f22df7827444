"""The three credentials of Aldis, made and checked: pure, and importable by the connector's plugins.

| credential | looks like | checked against |
|---|---|---|
| access token | JWT, HS256 | its signature and expiry; then the session it names |
| device token | `aldis_dt_…` | SHA-256 in `im_token` |
| refresh token | `aldis_rt_…` | its seal; then SHA-256 in `im_session` |

None can stand in for another: each has its own form, its own key or table, and its own check.

    CredentialError            the client's fault: 401, or CONNACK 4/5
    ├── MalformedCredential    not one of ours, or altered
    ├── WrongKind              ours, but for another purpose
    └── ExpiredCredential      ours, and its time is over
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import jwt

from aldis.broker.ports import Grant

ALGORITHM = "HS256"
ACCESS_TYPE = "at+jwt"
"""The header's `typ` for access tokens (RFC 9068), so that no other JWT under the same key passes as one."""
AUDIENCE = "aldis"
KEY_BYTES = 32
DEVICE_TOKEN_PREFIX = "aldis_dt_"
REFRESH_TOKEN_PREFIX = "aldis_rt_"
MAX_CREDENTIAL_LENGTH = 4_096
"""Characters; nothing longer is even parsed."""

_REQUIRED = ["iss", "aud", "sub", "dev", "sid", "iat", "exp", "jti"]
_SEAL_BYTES = 16


class CredentialError(Exception):
    """The credential does not prove anything. The text is for people and never contains the credential."""


class MalformedCredential(CredentialError):
    """Not a credential of this server: wrong form, wrong key, wrong issuer, or altered."""


class WrongKind(CredentialError):
    """A credential of this server that is good for something else."""


class ExpiredCredential(CredentialError):
    """It was good once."""


class AccessTokens:
    """Issues and checks the access tokens of one server. Immutable, safe to share.

    `key` is the 32-byte signing key. Whether the session behind a token still stands is not known here: ask
    `Directory.session_active` with the grant's session.
    """

    def __init__(self, key: bytes, issuer: str = "aldis") -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a signing key needs {KEY_BYTES} bytes")
        self._key = bytes(key)
        self._issuer = issuer

    def issue(self, *, user: str, device: str, session: str, now_ms: int, lifetime: float) -> str:
        """A token for this user's device, good for `lifetime` seconds from `now_ms`."""
        issued = now_ms // 1000
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": user,
            "dev": device,
            "sid": session,
            "iat": issued,
            "exp": issued + int(lifetime),
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": ACCESS_TYPE})

    def verify(self, token: str, now_ms: int) -> Grant:
        """What the token proves at `now_ms`, there being no leeway. Raises a `CredentialError`."""
        if token.startswith((DEVICE_TOKEN_PREFIX, REFRESH_TOKEN_PREFIX)):
            raise WrongKind("this token is not an access token")
        if len(token) > MAX_CREDENTIAL_LENGTH:
            raise MalformedCredential("longer than any token of this server")
        try:
            # The clock is the caller's, so PyJWT must not compare times with its own.
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError) as error:
            raise WrongKind("this token was made for something else") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise MalformedCredential("not an access token of this server") from error
        if decoded["header"].get("typ") != ACCESS_TYPE:
            raise WrongKind("this token is not an access token")
        return _grant(decoded["payload"], now_ms)


def _grant(claims: dict[str, Any], now_ms: int) -> Grant:
    user, device, session, expires = claims["sub"], claims["dev"], claims["sid"], claims["exp"]
    if not (isinstance(user, str) and isinstance(device, str) and isinstance(session, str)):
        raise MalformedCredential("a claim has the wrong type")
    if not isinstance(expires, int) or isinstance(expires, bool):
        raise MalformedCredential("a claim has the wrong type")
    if now_ms >= expires * 1000:
        raise ExpiredCredential("the access token has expired")
    return Grant(user=user, device=device, expires=expires * 1000, session=session)


class RefreshTokens:
    """Makes opaque refresh tokens that carry the id of their session under a seal.

    The seal lets the server tell a token it once gave out (its reuse ends the session) from an invented one
    (which must not be able to end anything). Only the SHA-256 of the newest one is stored.
    """

    def __init__(self, key: bytes) -> None:
        # A key of its own: a seal can never be mistaken for the signature of something else.
        self._key = hmac.digest(key, b"aldis refresh token seal 1", "sha256")
        self._next = hmac.digest(key, b"aldis refresh token after another 1", "sha256")

    def issue(self, session: str) -> str:
        """A new token with 256 random bits for this session."""
        return self._token(session, secrets.token_bytes(32))

    def following(self, token: str, key: str) -> str:
        """The one that comes after `token` for a request with this Idempotency-Key: each time the same, so that a lost
        answer can be given again although nobody has kept it, and without the server's key as hard to guess as 256
        random bits. Raises `MalformedCredential` unless this server made `token`."""
        session = self.session_of(token)
        return self._token(session, hmac.digest(self._next, f"{token} {key}".encode(), "sha256"))

    def _token(self, session: str, secret: bytes) -> str:
        body = session.encode() + b"." + secret
        return REFRESH_TOKEN_PREFIX + urlsafe_b64encode(self._seal(body) + body).decode().rstrip("=")

    def session_of(self, token: str) -> str:
        """The session that the token belongs to. Raises `MalformedCredential` unless this server made it."""
        if not token.startswith(REFRESH_TOKEN_PREFIX) or len(token) > MAX_CREDENTIAL_LENGTH or not token.isascii():
            raise MalformedCredential("not a refresh token of this server")
        encoded = token.removeprefix(REFRESH_TOKEN_PREFIX)
        try:
            raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError as error:
            raise MalformedCredential("not a refresh token of this server") from error
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(body)):
            raise MalformedCredential("not a refresh token of this server")
        # The canonical text only: base64 has several spellings of one value, and the stored hash is of the text.
        if urlsafe_b64encode(raw).decode().rstrip("=") != encoded:
            raise MalformedCredential("not a refresh token of this server")
        return body[:-33].decode()

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SEAL_BYTES]


def new_device_token() -> str:
    """A long-lived token with 256 random bits, recognisable by its prefix to people and to secret scanners."""
    return DEVICE_TOKEN_PREFIX + secrets.token_urlsafe(32)


def is_device_token(credential: str) -> bool:
    """Whether to look the credential up with `Directory.token(hashed(credential))` instead of verifying a JWT."""
    return credential.startswith(DEVICE_TOKEN_PREFIX) and len(credential) <= MAX_CREDENTIAL_LENGTH


def hashed(token: str) -> bytes:
    """How a random token is stored: SHA-256. Slow hashing is for what people think up, not for 256 random bits.
    Any text is hashable, so that garbage in a password field is simply an unknown token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
