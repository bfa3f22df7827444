"""`aldis tls dev`: an authority of one's own, a certificate for this server, and certificates for clients, to try TLS
with. For a server that strangers use, take a certificate that their machines trust already."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)
_CLOCKS = timedelta(hours=1)
"""How far a client's clock may be behind."""
ALWAYS = ("localhost", "127.0.0.1", "::1")


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_authority(lifetime: timedelta = LIFETIME) -> Pair:
    """A certificate authority on a new P-256 key, which may sign certificates and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Aldis development CA {os.urandom(4).hex()}")])
    builder = _begin(name, name, key, key, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Pair, hosts: Sequence[str], lifetime: timedelta = LIFETIME) -> Pair:
    """For a server under these names and addresses. Raises `ValueError` for what can be neither."""
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return _make_leaf(authority, hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, lifetime)


def make_client(
    authority: Pair, user: str, names: Sequence[x509.GeneralName] = (), lifetime: timedelta = LIFETIME
) -> Pair:
    """For a client whose common name is `user`."""
    return _make_leaf(authority, user, names, ExtendedKeyUsageOID.CLIENT_AUTH, lifetime)


def _make_leaf(
    authority: Pair,
    common_name: str,
    names: Sequence[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    lifetime: timedelta,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _begin(subject, authority.certificate.subject, key, authority.key, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def write(path: Path, content: bytes, mode: int) -> None:
    """A new file; raises `FileExistsError` rather than replace a key that may be in use."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    path.chmod(mode)  # whatever the umask


# The command


def main(argv: list[str]) -> int:
    """`argv` begins behind `aldis tls`. 0: made, 1: could not be written, 2: used wrongly."""
    options = _parser().parse_args(argv)
    folder: Path = options.out
    hosts = list(dict.fromkeys([*options.host, *ALWAYS]))
    authority = make_authority()
    try:
        files = [("ca.pem", authority.certificate_pem(), 0o644), *_files("server", make_server(authority, hosts))]
        for user in options.client:
            files += _files(f"client-{user}", make_client(authority, user))
    except ValueError as error:
        print(f"aldis: {error}", file=sys.stderr)  # noqa: T201
        return 2
    taken = [name for name, _, _ in files if (folder / name).exists()]
    if taken:
        print(f"aldis: {folder / taken[0]} is there already; choose another --out", file=sys.stderr)  # noqa: T201
        return 1
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content, mode in files:
            write(folder / name, content, mode)
    except OSError as error:
        print(f"aldis: cannot write to {folder}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print(_instructions(folder.absolute(), hosts, options.client))  # noqa: T201
    return 0


def _files(name: str, pair: Pair) -> list[tuple[str, bytes, int]]:
    return [(f"{name}.pem", pair.certificate_pem(), 0o644), (f"{name}.key", pair.key_pem(), 0o600)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aldis tls", description="Certificates to try TLS with.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    dev = commands.add_parser("dev", help="make an authority and a certificate for this server")
    dev.add_argument("--out", type=Path, default=Path("tls"), metavar="DIR", help="folder for the files (tls)")
    dev.add_argument("--host", nargs="+", default=[], metavar="NAME", help="further names or addresses of the server")
    dev.add_argument("--client", nargs="+", default=[], metavar="USER", help="users who get a client certificate")
    return parser


def _instructions(folder: Path, hosts: Sequence[str], users: Sequence[str]) -> str:
    ca = f", client_ca_file: {folder}/ca.pem, client_certificates: optional" if users else ""
    tls = f"tls: {{certfile: {folder}/server.pem, keyfile: {folder}/server.key{ca}}}"
    host = hosts[0]
    lines = [
        f"Made in {folder}: a certificate for {', '.join(hosts)}, good for a year. The key of the authority",
        "is not kept: the next call makes a new one. In the configuration:",
        "",
        "listeners:",
        f'  default: {{type: tcp, bind: "127.0.0.1:8883", {tls}}}',
        "",
        "and the same `tls` for `websocket` and `http`; or for all of them at once:",
        "",
        f"aldis up --mqtt 127.0.0.1:8883 --tls-cert {folder}/server.pem --tls-key {folder}/server.key",
        "",
        "Clients:",
        "",
        f"mosquitto_pub -h {host} -p 8883 --cafile {folder}/ca.pem -q 1 -u USER -P TOKEN -i DEVICE -t TOPIC -m hello",
        f"curl --cacert {folder}/ca.pem https://{host}:8000/healthz",
    ]
    for user in users:
        pair = f"--cert {folder}/client-{user}.pem --key {folder}/client-{user}.key"
        lines.append(f"mosquitto_sub -h {host} -p 8883 --cafile {folder}/ca.pem {pair} -u {user} -i DEVICE -t TOPIC")
    if users:
        lines += ["", "Client certificates need the plugin aldis.plugins.certificate.CertificateAuthentication."]
    return "\n".join(lines)
