"""The web chat at `/`: its files, and `/chat.json`, which tells it where MQTT is.

The page handles passwords, keys and what other people have written, so its policy lets it load nothing but its own
files and talk to nobody but this server."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from litestar import MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler

from aldis.accounts_api.web_files import SHELL, WebFile, read_web_files, shell

_HOST = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
"""What is taken from a Host header; everything else is not repeated to anybody."""

_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked about again each time, and answered with 304 while nothing has changed.
    "Cache-Control": "no-cache",
}
_PAGE_HEADERS = {
    "Permissions-Policy": ", ".join(
        f"{one}=()"
        for one in (
            *("accelerometer", "autoplay", "camera", "display-capture", "geolocation"),
            *("gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "screen-wake-lock", "serial", "usb"),
        )
    ),
}
"""Of the page alone: files in it are bound by what it may do."""


class MqttPlace(NamedTuple):
    """Where browsers reach MQTT over WebSocket: at `url`, or else where they have reached the page, on this port, which
    may be known only once the listeners are open. None: nowhere, so far as this process knows."""

    url: str | None
    port: Callable[[], int | None]


def web_pages(folder: Path, mqtt: MqttPlace) -> Sequence[ControllerRouterHandler]:
    """Handlers for the files in the folder and for `/chat.json`. Reads every file, now and never again. Raises
    `WebFilesError`."""
    files = read_web_files(folder)

    def web_file(request: Request[Any, Any, Any]) -> Response[bytes]:
        policy = content_security_policy(request.headers.get("host", ""), request.scope["scheme"], mqtt)
        path = request.scope["path"].rstrip("/") or "/"
        file = shell(files, policy) if path == SHELL else files.get(path)
        if file is None:
            raise NotFoundException("there is no such file")
        headers = {**_HEADERS, "Content-Security-Policy": policy}
        if path == "/":
            headers |= _PAGE_HEADERS
            if _seems_secure(request):
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return _answer(file, request, headers)

    @get("/chat.json", include_in_schema=False, media_type=MediaType.JSON, sync_to_thread=False)
    def chat() -> dict[str, str | int | None]:
        return {"mqtt": mqtt.url, "mqtt_port": mqtt.port(), "mqtt_path": "/", "version": version("aldis")}

    serve = HTTPRouteHandler(
        [*files, SHELL], http_method=["GET", "HEAD"], include_in_schema=False, sync_to_thread=False, status_code=200
    )
    return [serve(web_file), chat]


def _seems_secure(request: Request[Any, Any, Any]) -> bool:
    """For a header that browsers heed on secure pages only, and complain of elsewhere. So it does not matter that
    anybody may say here that a proxy took the request with TLS."""
    secure = "https" in (request.scope["scheme"], request.headers.get("x-forwarded-proto", ""))
    return secure or request.headers.get("host", "").startswith(("localhost", "127.", "[::1]"))


def _answer(file: WebFile, request: Request[Any, Any, Any], headers: dict[str, str]) -> Response[bytes]:
    content, tag = file.content, f'"{file.tag}"'
    if file.packed is not None:
        headers["Vary"] = "Accept-Encoding"
        if takes_gzip(request.headers.getall("accept-encoding", [])):
            content, tag = file.packed, f'"{file.tag}-gz"'
            headers["Content-Encoding"] = "gzip"
    headers["ETag"] = tag
    known = {
        one.strip().removeprefix("W/")
        for value in request.headers.getall("if-none-match", [])
        for one in value.split(",")
    }
    if tag in known or "*" in known:
        headers.pop("Content-Encoding", None)
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    return Response(content, headers=headers, media_type=file.media_type)


def takes_gzip(accepted: Sequence[str]) -> bool:
    """By the values of Accept-Encoding: named, and not with a weight of 0."""
    for entry in (entry for value in accepted for entry in value.lower().split(",")):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", one) for one in parameters)
    return False


def content_security_policy(host: str, scheme: str, mqtt: MqttPlace) -> str:
    """The page's own files, this server, and MQTT; by the Host header as it came, which is repeated only if it looks
    like one."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            " ".join(("connect-src 'self'", *_mqtt_sources(host, scheme, mqtt))),
            "manifest-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # text can become an element or a script nowhere but where these two name a worker's file
            "require-trusted-types-for 'script'",
            "trusted-types aldis-worker aldis-engine",
        )
    )


def _mqtt_sources(host: str, scheme: str, mqtt: MqttPlace) -> Sequence[str]:
    if mqtt.url is not None:
        parts = urlsplit(mqtt.url)
        return (f"{parts.scheme}://{parts.netloc}",)
    found, port = _HOST.fullmatch(host), mqtt.port()
    if found is None or port is None:
        return ()
    # a policy has no way to write an IPv6 address
    name = "*" if found["host"].startswith("[") else found["host"]
    # ws: lets a page reach wss: as well, so a proxy in front may speak TLS without our knowing
    return (f"{'wss' if scheme == 'https' else 'ws'}://{name}:{port}",)
