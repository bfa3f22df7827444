"""The composition root's part for the web chat: where its files are, and where its browsers find MQTT."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aldis.broker.compose_store import StartFailed
from aldis.config.addresses import split_address
from aldis.config.settings import Settings, serves_web

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

logger = logging.getLogger(__name__)

USUAL_PORT = 8083
"""Where a cluster's balancer takes MQTT over WebSocket, unless `web.mqtt_url` says otherwise."""


def web_chat(
    settings: Settings, bound: Callable[[], Mapping[str, tuple[str, int]]] | None = None
) -> Sequence[ControllerRouterHandler]:
    """The web chat for the REST API's server, if these settings have one. `bound` gives the addresses of this process's
    listeners by name, once they are open; an accounts process has none. Blocks for a moment. Raises `StartFailed`."""
    if not serves_web(settings):
        return ()
    from aldis.accounts_api.web_files import WebFilesError
    from aldis.accounts_api.web_pages import MqttPlace, web_pages

    listeners = {} if bound is None else settings.listeners
    name = next((name for name, listener in listeners.items() if listener.type == "ws"), None)
    _warn(settings, name, alone=bound is not None)

    def port() -> int | None:
        if bound is None:
            return USUAL_PORT
        if name is None:
            return None
        # the page is served a moment before MQTT is, and a page that knows no port would not find it later either
        opened = bound().get(name)
        return opened[1] if opened else split_address(settings.listeners[name].bind)[1] or None

    try:
        return web_pages(_folder(), MqttPlace(settings.web.mqtt_url, port))
    except WebFilesError as error:
        raise StartFailed(str(error)) from error


def _folder() -> Path:
    """The same whether the program is installed or runs from its source. It is not imported: we want files alone."""
    package = find_spec("aldis.mobile_client_demo")
    if package is None or package.origin is None:
        raise StartFailed(
            "the package aldis.mobile_client_demo is missing, and the web chat with it; web.enabled: false"
        )
    return Path(package.origin).parent / "web"


def _warn(settings: Settings, name: str | None, *, alone: bool) -> None:
    """Of a page that would open and then find no MQTT. No reason not to start: everybody else is served."""
    if settings.web.mqtt_url is not None or not alone:
        return
    if name is None:
        logger.warning("the web chat has no listener of type ws to talk to: set web.mqtt_url or web.enabled")
    elif settings.http.tls is not None and settings.listeners[name].tls is None:
        logger.warning(
            "the web chat has TLS and listeners.%s has none, so browsers will not connect: set web.mqtt_url", name
        )
