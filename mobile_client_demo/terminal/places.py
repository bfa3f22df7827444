"""Where the server is: its REST address, and the MQTT address beside it. Pure, but for asking which port answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

PLAIN, TLS = 1883, 8883
PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"

    @property
    def address(self) -> str:
        return str(self).partition("//")[2]


def server_url(text: str) -> str:
    """With its scheme; raises `ValueError` for what is no address of a server."""
    url = text if "//" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"not an address like https://chat.example.org: {text}")
    return url.rstrip("/")


def mqtt_place(text: str, server: str) -> Place:
    """`host:port`, `host`, or with `mqtt://` or `mqtts://` before it; TLS as the server unless that says otherwise.
    Raises `ValueError`."""
    scheme, marked, rest = text.rpartition("://")
    if marked and scheme not in ("mqtt", "mqtts"):
        raise ValueError(f"not HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT: {text}")
    tls = scheme == "mqtts" if marked else urlsplit(server).scheme == "https"
    parts = urlsplit(f"//{rest}")
    if not parts.hostname or parts.path or parts.port == 0:
        raise ValueError(f"not HOST:PORT: {text}")
    return Place(parts.hostname, parts.port or (TLS if tls else PLAIN), tls)


def beside(server: str) -> list[Place]:
    """Where MQTT may be, the likeliest first: the registered ports; TLS where REST has it."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return [Place(host, TLS, True), Place(host, PLAIN, True)]
    return [Place(host, PLAIN, False)]


def answering(places: list[Place]) -> Place | None:
    """The first that takes connections."""
    for place in places:
        try:
            with socket.create_connection((place.host, place.port), timeout=PATIENCE):
                return place
        except OSError:
            continue
    return None
