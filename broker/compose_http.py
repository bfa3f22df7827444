"""The composition root's part for HTTP: one server over an application, behind whatever stands in front of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aldis.broker.arrival import Gate, Way
from aldis.broker.listener import Listener
from aldis.broker.tls import Certificates
from aldis.config.addresses import split_address
from aldis.config.layers import Key, dotted
from aldis.config.settings import Settings, entrances

if TYPE_CHECKING:
    from aldis.broker.http import HttpServer


def open_ways(settings: Settings, certificates: Certificates) -> dict[Key, Way]:
    """TLS and balancers in front of whatever listens, by its key. Raises `TlsError`."""
    ways: dict[Key, Way] = {}
    for key, entrance in entrances(settings):
        tls = None if entrance.tls is None else certificates.add(dotted((*key, "tls")), entrance.tls)
        trusted = entrance.proxy_trusted if entrance.proxy_protocol == "required" else None
        if tls is not None or trusted is not None:
            ways[key] = Way(tls, trusted)
    return ways


def http_server(
    app: Any,
    settings: Settings,
    way: Way | None,
    patience: Callable[[], float],
    spawn: Callable[[Coroutine[Any, Any, None], str], None],
) -> HttpServer:
    """Not started yet. `patience` and `spawn` are for what is in front, see `Gate`."""
    from aldis.broker.http import HttpServer

    host, port = split_address(settings.http.bind)
    listener = Listener("http", settings.http.max_connections)
    return HttpServer(
        app,
        host,
        port,
        max_connections=settings.http.max_connections,
        shutdown=settings.timeouts.shutdown,
        gate=None if way is None else Gate(way, listener, patience, spawn),
    )
