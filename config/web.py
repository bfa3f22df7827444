"""The web chat: whether it is served, and where it finds MQTT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from aldis.config.section import Section

# Narrower than a URL may be: this text goes into a header that says what a page may connect to.
_ADDRESS = re.compile(
    r"wss?://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]{2,45}\])(?::(?P<port>\d{1,5}))?(?:/[\w.~/-]*)?",
    re.ASCII,
)


def _websocket(url: str) -> str:
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise ValueError("must have the form wss://HOST:PORT/PATH, without a user or options")
    if found["port"] is not None and not 0 < int(found["port"]) <= 65_535:
        raise ValueError("the port must be between 1 and 65535")
    return url


class Web(Section):
    enabled: bool = True
    """Serve the web chat at `/` where the REST API is. No file of it is read or answered with otherwise."""
    mqtt_url: Annotated[str, AfterValidator(_websocket)] | None = None
    """`wss://HOST:PORT/PATH`: where browsers reach MQTT over WebSocket. Without it at the name by which they have
    reached the page, with TLS if the page has it, on the port of this process's WebSocket listener; for `aldis
    accounts`, which has none, on 8083. Needed where a balancer or a proxy gives it another name or port."""


def web_problems(web: Web, *, page_has_tls: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below `web`, and why."""
    if page_has_tls and web.mqtt_url is not None and web.mqtt_url.startswith("ws://"):
        yield ("mqtt_url",), "must begin with wss:// where http.tls is given: browsers refuse the mixture"
