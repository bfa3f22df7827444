"""The REST API as one ASGI application. The only door to Litestar: import it late, it takes a while."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.status_codes import HTTP_405_METHOD_NOT_ALLOWED
from litestar.types import ControllerRouterHandler, Message, Scope

from aldis.accounts_api import (
    account_routes,
    admin_routes,
    device_routes,
    file_routes,
    friend_routes,
    health_routes,
    history_routes,
    key_routes,
    login_routes,
)
from aldis.accounts_api.answering import BodyTimeout, ConditionalGet
from aldis.accounts_api.api_document import StrictDocument
from aldis.accounts_api.authentication import SECURITY, admin_guard, bearer_guard, caller_of
from aldis.accounts_api.docs_page import docs, docs_files
from aldis.accounts_api.media import JsonRequest
from aldis.accounts_api.operations import Operations
from aldis.accounts_api.problems import answer_problem
from aldis.accounts_api.services import Services

_HEADERS = {
    # An API's answers are data: nothing in them may run, load or be framed.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Tokens and keys are in the answers: no cache may keep them.
    "Cache-Control": "no-store",
}


def create_app(services: Services, *, extra: Sequence[ControllerRouterHandler] = ()) -> Litestar:
    """The application over these services; `extra` are more routes for the same server, such as web pages.

    It opens and closes nothing but the password threads; the back ends belong to the caller. It leaves logging alone.
    """

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        services.housekeeping.start()
        if services.file_housekeeping is not None:
            services.file_housekeeping.start()
        yield
        if services.file_housekeeping is not None:
            await services.file_housekeeping.stop()
        await services.housekeeping.stop()
        services.passwords.close()

    guarded = Router(
        path="/v1",
        route_handlers=[
            *login_routes.GUARDED,
            *account_routes.GUARDED,
            *friend_routes.GUARDED,
            *key_routes.GUARDED,
            *history_routes.GUARDED,
            *device_routes.GUARDED,
            *file_routes.GUARDED,
            Router(path="/admin", route_handlers=[*admin_routes.ADMINS], guards=[admin_guard(services)]),
        ],
        middleware=[ConditionalGet()],
        guards=[bearer_guard(services)],
        dependencies={"caller": Provide(caller_of, sync_to_thread=False)},
        security=SECURITY,
    )
    public = Router(path="/v1", route_handlers=[*login_routes.OPEN])
    return Litestar(
        [guarded, public, *health_routes.OPEN, docs, docs_files(), *extra],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False, use_cache=True),
            "operations": Provide(lambda: services.operations, sync_to_thread=False, use_cache=True),
        },
        exception_handlers={Exception: answer_problem},
        before_send=[_add_headers],
        cors_config=_cors(services.settings.cors_origins),
        lifespan=[lifespan],
        logging_config=None,
        middleware=[BodyTimeout(services.settings.body_timeout)],
        openapi_config=_openapi(),
        request_class=JsonRequest,
        request_max_body_size=services.settings.max_body_size,
    )


def create_operations_app(operations: Operations) -> Litestar:
    """Health and metrics only, for a server without accounts."""
    return Litestar(
        [*health_routes.OPEN],
        dependencies={"operations": Provide(lambda: operations, sync_to_thread=False, use_cache=True)},
        exception_handlers={Exception: answer_problem},
        before_send=[_add_headers],
        logging_config=None,
        openapi_config=None,
    )


def _cors(origins: Sequence[str]) -> CORSConfig | None:
    """Which other web pages a browser lets call the API. Tokens travel in a header, never in a cookie, so no page can
    use a login that is not its own."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Link", "Retry-After"],
        max_age=600,
    )


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Aldis",
        version=version("aldis"),
        description="Accounts, friends, devices and tokens. Messages themselves travel by MQTT.",
        path="/schema",
        # The pages that Litestar would add load their scripts from another host.
        render_plugins=[StrictDocument()],
        components=Components(
            security_schemes={
                "accessToken": SecurityScheme(
                    type="http", scheme="bearer", bearer_format="JWT", description="The access token of a login."
                )
            }
        ),
    )


async def _add_headers(message: Message, scope: Scope) -> None:
    """On every answer, errors and files included; what an answer says itself stands."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if message["status"] == HTTP_405_METHOD_NOT_ALLOWED or "allow" in headers:
            headers["Allow"] = ", ".join(_methods(scope))


def _methods(scope: Scope) -> list[str]:
    """What the path of this call takes. Litestar's own answer to OPTIONS knows only a part where several handlers share
    a path, and its 405 says nothing."""
    path = scope["path"].rstrip("/") or "/"
    methods: set[str] = set()
    for route in scope["litestar_app"].routes:
        pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(route.path_format))
        if re.fullmatch(pattern, path):
            methods.update(getattr(route, "methods", ()))
    return sorted(methods)
