"""TLS to a server that this program is a client of: the database, Redis."""

from __future__ import annotations

import ssl
from pathlib import Path


def tls_context(ca_file: Path | None, certfile: Path | None = None, keyfile: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer to a server whose certificate is good for the host in the URL: signed by `ca_file`, or by an
    authority that the system trusts. `certfile` and `keyfile` are our own, where the server asks for one."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile)
    return context
