"""TLS and balancers for tests: certificates in a folder, a TLS stream for the client of `tests.wire`, PROXY headers."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from aldis.broker.tls_dev import ALWAYS, LIFETIME, Pair, make_authority, make_client, make_server
from tests.wire import PATIENCE, Address, Client


class Papers:
    """One authority, the server's pair in `server.pem` and `server.key`, and client pairs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._authority = make_authority()
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._authority.certificate_pem())
        self.certfile, self.keyfile = folder / "server.pem", folder / "server.key"
        self.renew()

    def renew(self, lifetime: timedelta = LIFETIME) -> int:
        """A new certificate and key in place of the old ones; its serial number."""
        pair = make_server(self._authority, ALWAYS, lifetime)
        self.put(pair.certificate_pem(), pair.key_pem())
        return pair.certificate.serial_number

    def put(self, certificate: bytes, key: bytes) -> None:
        for path, content in ((self.certfile, certificate), (self.keyfile, key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.chmod(0o600)
            os.replace(new, path)

    def client(self, user: str, *names: x509.GeneralName, lifetime: timedelta = LIFETIME) -> tuple[Path, Path]:
        """Certificate and key of a client."""
        return self.keep(make_client(self._authority, user, names, lifetime))

    def keep(self, pair: Pair) -> tuple[Path, Path]:
        name = f"{pair.certificate.serial_number:x}"
        certfile, keyfile = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certfile.write_bytes(pair.certificate_pem())
        keyfile.write_bytes(pair.key_pem())
        return certfile, keyfile

    def settings(self, *places: str, **more: object) -> dict[str, object]:
        """The settings of TLS for `listeners.default` and the like."""
        values = {"certfile": self.certfile, "keyfile": self.keyfile, "reload_interval": 0.2, **more}
        return {f"{place}.tls.{name}": value for place in places for name, value in values.items()}

    def context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


class TlsStream:
    """A TLS connection; `before` is sent in plain in front of it, in one segment with the ClientHello."""

    def __init__(self, address: Address, context: ssl.SSLContext, before: bytes = b"") -> None:
        self._plain = socket.create_connection(address, PATIENCE)
        self.port = int(self._plain.getsockname()[1])
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=address[0])
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._plain.sendall(before + self._outgoing.read())
                before = b""
                if not self._fill(PATIENCE):
                    raise ConnectionResetError("the server has closed in the middle of the handshake") from None
        # what is left (Finished) travels with the first bytes sent

    @property
    def serial(self) -> int:
        """Of the server's certificate."""
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._plain.sendall(self._outgoing.read())

    def receive(self, timeout: float) -> bytes:
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self._plain.sendall(self._outgoing.read())
                if not self._fill(timeout):
                    return b""
            except ssl.SSLError:  # an alert: refused after our side of the handshake was through
                return b""

    def _fill(self, timeout: float) -> bool:
        self._plain.settimeout(max(timeout, 0.001))
        try:
            data = self._plain.recv(65_536)
        except ConnectionError:
            data = b""
        self._incoming.write(data) if data else self._incoming.write_eof()
        return bool(data)

    def close(self) -> None:
        self._plain.close()


def secure(address: Address, context: ssl.SSLContext, before: bytes = b"") -> Client:
    """A client over TLS."""
    return Client(TlsStream(address, context, before))


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxied(host: str | None, port: int = 4711, *, extra: bytes = b"") -> bytes:
    """A PROXY header of version 2 for a client at `host`; None: LOCAL, the balancer's own."""
    if host is None:
        return SIGNATURE + struct.pack("!BBH", 0x20, 0, len(extra)) + extra
    source = ip_address(host).packed
    body = source + bytes(len(source)) + struct.pack("!HH", port, 8883) + extra
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if len(source) == 4 else 0x21, len(body)) + body
