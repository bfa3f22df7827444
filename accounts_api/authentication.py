"""Who calls: the bearer access token, checked before anything of the request is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation
from litestar.types import Guard

from aldis.accounts_api.services import Services
from aldis.bridge.accounts.errors import NotAdmin, SessionEnded
from aldis.bridge.credentials import MalformedCredential, WrongKind, is_device_token


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Whose access token it is, of which device and login session."""

    user: str
    device: str
    session: str


Caller = NamedDependency[SkipValidation[Authenticated]]
"""The authenticated caller, for handlers behind `bearer_guard`."""
GivenServices = NamedDependency[SkipValidation[Services]]

SECURITY: list[dict[str, list[str]]] = [{"accessToken": []}]
"""The OpenAPI security requirement of a guarded call."""


def bearer_guard(services: Services) -> Guard:
    """A guard that lets a request through which carries an access token of a living session. It runs before the body
    is read."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        token = _bearer(connection.headers.get("authorization"))
        if is_device_token(token):
            raise WrongKind("a device token opens MQTT, not this API")
        grant = services.access_tokens.verify(token, services.now())
        if grant.device is None or grant.session is None:
            raise MalformedCredential("the access token names no device or no login")
        if not await services.accounts.sessions.active(grant.session):
            raise SessionEnded("this login has ended; log in again")
        services.calls.take(grant.user, services.now())
        connection.scope["user"] = Authenticated(grant.user, grant.device, grant.session)

    return guard


def admin_guard(services: Services) -> Guard:
    """A guard behind `bearer_guard` that lets administrators through. It asks the database each time: who is one no
    longer finds the door closed with the next call."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        if not await services.accounts.administration.is_admin(connection.scope["user"].user):
            raise NotAdmin("this is for administrators")

    return guard


def caller_of(request: Request[Authenticated, Any, Any]) -> Authenticated:
    """Provides `caller`."""
    return request.user


def _bearer(header: str | None) -> str:
    if header is None:
        raise MalformedCredential("an Authorization header with a bearer access token is needed")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise MalformedCredential("the Authorization header must be: Bearer, a space, the access token")
    return token.strip()
