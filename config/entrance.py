"""How connections come in: TLS, and a balancer in front. The same settings for every MQTT listener and for HTTP."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from aldis.config.section import Seconds, Section

_FORM = re.compile(r"(uri|email):[^*]*\*[^*]*")

Network = IPv4Network | IPv6Network


def _user_form(form: str) -> str:
    if form != "common_name" and not _FORM.fullmatch(form):
        raise ValueError("must be 'common_name', 'uri:' or 'email:' and a name in which one * stands for the user")
    return form


def _word(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class Tls(Section):
    certfile: Path
    """PEM file: the server's certificate, followed by those between it and its root."""
    keyfile: Path
    """PEM file: the private key, without a pass phrase. Refused if everybody on the machine may read it."""
    client_ca_file: Path | None = None
    """PEM file: the authorities whose client certificates are accepted. Only these, never those of the system."""
    client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate. If one is shown it must be good; `required`: nobody without."""
    client_certificate_user: Annotated[str, AfterValidator(_user_form)] = "common_name"
    """What in a client certificate is the user id: `common_name` of the subject, or the first alternative name of a
    form in which `*` stands for it: `uri:urn:example:user:*`, `email:*@example.org`. See
    `aldis.plugins.certificate.CertificateAuthentication`, which alone acts on it."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """Of TLS. 1.2 with forward secrecy and authenticated ciphers only: many microcontrollers cannot do 1.3 yet."""
    reload_interval: Seconds = 10.0
    """Seconds between two looks at whether the files have changed; new ones are for new connections."""


class Entrance(Section):
    tls: Tls | None = None
    """Certificate and key for TLS; without it connections come in plain."""
    proxy_protocol: Annotated[Literal["off", "required"], BeforeValidator(_word)] = "off"
    """`required`: every connection begins with a PROXY protocol v2 header, in front of TLS, and its address is that of
    the client. Only for a listener that nobody reaches but through the balancer."""
    proxy_trusted: tuple[Network, ...] = ()
    """Networks of the balancers, `10.1.0.0/24`, `::1/128`. With `required`, connections from elsewhere are closed."""


def entrance_problems(entrance: Entrance) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below the entrance, and why."""
    if entrance.proxy_protocol == "required" and not entrance.proxy_trusted:
        yield ("proxy_trusted",), "must name the balancer's networks where proxy_protocol is required"
    if entrance.proxy_protocol == "off" and entrance.proxy_trusted:
        yield ("proxy_trusted",), "has no meaning while proxy_protocol is off"
    tls = entrance.tls
    if tls is None:
        return
    if tls.client_certificates != "none" and tls.client_ca_file is None:
        yield ("tls", "client_ca_file"), f"must be given where client_certificates is {tls.client_certificates}"
    if tls.client_certificates == "none" and tls.client_ca_file is not None:
        yield ("tls", "client_ca_file"), "has no meaning while client_certificates is none"
    yield from tls_file_problems(tls)


def tls_file_problems(tls: Tls) -> Iterator[tuple[tuple[str, ...], str]]:
    """What can be seen of the files from outside."""
    for name in ("certfile", "keyfile", "client_ca_file"):
        path: Path | None = getattr(tls, name)
        problem = file_problem(path) if path is not None else None
        if problem is None and path is not None and name == "keyfile":
            problem = key_problem(path)
        if problem is not None:
            yield ("tls", name), problem


def file_problem(path: Path) -> str | None:
    """Why the file cannot be read, None if it can."""
    try:
        if not path.is_file():
            return f"{path} is not a file" if path.exists() else f"there is no file {path}"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    return None if os.access(path, os.R_OK) else f"cannot read {path}: not permitted to this user"


def key_problem(path: Path) -> str | None:
    """A key that everybody on the machine may read is no secret, and nobody reads a warning: it is refused. A group may
    read it, because that is how systems share keys with servers that do not run as root."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return f"{path} has mode {mode:04o}: others may read or change it; chmod 0600 or 0640"
    return None
