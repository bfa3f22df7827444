"""TLS: contexts made from the settings, exchanged for new ones when the certificates change, and what a client
certificate says about its user.

A context is never changed once it is in use. `ServerTls.context` is replaced by a new one as a whole, after that has
been made without a complaint; a connection keeps the one it began with. So a bad pair of files harms nobody, an
authority taken out of the client CA file is out for every new connection, and tickets of old sessions end with their
context."""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aldis.config.entrance import Tls, tls_file_problems
from aldis.config.layers import dotted
from aldis.config.settings import Settings, entrances

logger = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""

_USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_ALTERNATIVE_NAMES = {"uri": "URI", "email": "email"}


class TlsError(Exception):
    """These certificates cannot be used; the text names the setting and what is wrong with it."""


class ServerContext(ssl.SSLContext):
    """An SSLContext that knows how a client certificate names its user."""

    client_certificate_user = "common_name"


class ServerTls:
    """The TLS of one listener. `context` is for the next handshake."""

    def __init__(self, key: str, settings: Tls) -> None:
        self.key = key
        self._settings = settings
        self._files = [path for path in (settings.certfile, settings.keyfile, settings.client_ca_file) if path]
        self._seen = self._state()
        self._next_look = 0.0
        self.context = make_context(key, settings)
        self._tell("certificate loaded")

    def reload(self) -> bool:
        """Reads the files again, for connections from now on. False, and an error in the log, if they are no good; the
        old ones stay in use then."""
        self._seen = self._state()  # before they are read: what is written meanwhile is another change
        try:
            self.context = make_context(self.key, self._settings)
        except TlsError as error:
            logger.error("certificate not reloaded, the old one stays in use: %s", error)
            return False
        self._tell("certificate reloaded")
        return True

    def look(self, now: float) -> None:
        """Reloads if the files have changed since they were last read; looks once per `reload_interval`."""
        if now >= self._next_look:
            self._next_look = now + self._settings.reload_interval
            if self._state() != self._seen:
                self.reload()

    def _state(self) -> list[tuple[int, int, int] | None]:
        """Changes when a file does, also behind a symbolic link."""
        found: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                stat = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return found

    def _tell(self, what: str) -> None:
        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate(self._settings.certfile.read_bytes())
        except (OSError, ValueError):  # OpenSSL has read it a moment ago; this is only for the log
            return
        until = certificate.not_valid_after_utc
        extra = {"setting": self.key, "serial": f"{certificate.serial_number:x}", "valid_until": until.isoformat()}
        if until <= datetime.now(UTC):
            logger.warning("%s, but it has expired", what, extra=extra)
        else:
            logger.info(what, extra=extra)


class Certificates:
    """Everything of one process that has TLS."""

    def __init__(self) -> None:
        self._all: list[ServerTls] = []

    def add(self, key: str, settings: Tls) -> ServerTls:
        """`key` is where it stands in the settings. Raises `TlsError`."""
        made = ServerTls(key, settings)
        self._all.append(made)
        return made

    def reload(self) -> bool:
        """All of them, each for itself; false if any stays with its old certificate."""
        reloaded = [each.reload() for each in self._all]
        return all(reloaded)

    def look(self, now: float) -> None:
        """For the node's tick: a comparison each, and a few `stat` calls per `reload_interval`."""
        for each in self._all:
            each.look(now)


def tls_problems(settings: Settings) -> list[str]:
    """What a start would say of the certificates; nothing is kept open."""
    problems = []
    for key, entrance in entrances(settings):
        if entrance.tls is not None:
            try:
                make_context(dotted((*key, "tls")), entrance.tls)
            except TlsError as error:
                problems.append(str(error))
    return problems


def make_context(key: str, settings: Tls) -> ServerContext:
    """Raises `TlsError` naming the setting below `key` that is wrong."""
    for (*_, name), problem in tls_file_problems(settings):
        raise TlsError(f"{key}.{name}: {problem}")
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.client_certificate_user = settings.client_certificate_user
    try:
        context.load_cert_chain(settings.certfile, settings.keyfile, password=_refuse_pass_phrase(key))
    except ssl.SSLError as error:
        raise TlsError(_about_pair(key, settings, error)) from error
    except OSError as error:
        raise TlsError(f"{key}.certfile: {os.strerror(error.errno or 0)}") from error
    if settings.client_ca_file is not None:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"{key}.client_ca_file: no certificates in {settings.client_ca_file}") from error
        required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _refuse_pass_phrase(key: str) -> Callable[[], str]:
    """Else OpenSSL would ask for it on the terminal."""

    def refuse() -> str:
        raise TlsError(f"{key}.keyfile: must not be protected by a pass phrase: nobody is there to type it")

    return refuse


def _about_pair(key: str, settings: Tls, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}.keyfile: {settings.keyfile} is not the key of the certificate in {settings.certfile}"
    if b"PRIVATE KEY-----" not in _content(settings.keyfile):
        return f"{key}.keyfile: no PEM key in {settings.keyfile}"
    if b"-----BEGIN CERTIFICATE-----" not in _content(settings.certfile):
        return f"{key}.certfile: no PEM certificate in {settings.certfile}"
    return f"{key}.certfile: cannot use {settings.certfile} with {settings.keyfile}: {error.reason or error}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# Client certificates


def certificate_user(ssl_object: object) -> str | None:
    """The user id that the client's certificate names, "" if it names none; None if no certificate was verified, or the
    connection has no TLS of ours."""
    if not isinstance(ssl_object, ssl.SSLObject) or not isinstance(ssl_object.context, ServerContext):
        return None
    context = ssl_object.context
    if context.verify_mode == ssl.CERT_NONE:
        return None
    certificate = ssl_object.getpeercert()
    return _named_user(certificate, context.client_certificate_user) if certificate else None


def _named_user(certificate: object, form: str) -> str:
    assert isinstance(certificate, dict)
    if form == "common_name":
        names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
        user = names[0] if len(names) == 1 else ""
    else:
        kind, _, pattern = form.partition(":")
        before, _, after = pattern.partition("*")
        fitting = (
            value[len(before) : len(value) - len(after)]
            for name, value in certificate.get("subjectAltName", ())
            if name == _ALTERNATIVE_NAMES[kind]
            and len(value) > len(before) + len(after)
            and value.startswith(before)
            and value.endswith(after)
        )
        user = next(fitting, "")
    return user if _USER_ID.fullmatch(user) else ""
