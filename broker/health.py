"""`python -m aldis.broker.health`: asks a server on this machine how it is. For the health checks of containers, so it
loads nothing heavy.

Exit code 0: it says that it is well; 1: it does not, or nobody answers.
"""

from __future__ import annotations

import argparse
import sys
from http.client import HTTPConnection, HTTPException

PROXY_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
"""PROXY protocol, version 2: a connection of the balancer itself."""


class _ThroughProxy(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.sendall(PROXY_LOCAL)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aldis.broker.health", description=__doc__)
    parser.add_argument("address", nargs="?", default="127.0.0.1:8000", metavar="HOST:PORT", help="where http.bind is")
    parser.add_argument("--path", default="/healthz", help="/healthz: is it alive; /readyz: can it do its work")
    parser.add_argument("--proxy", action="store_true", help="http.proxy_protocol is required there")
    parser.add_argument("--timeout", type=float, default=4.0, metavar="S")
    options = parser.parse_args(argv)
    host, _, port = options.address.rpartition(":")
    kind = _ThroughProxy if options.proxy else HTTPConnection
    connection = kind(host.strip("[]"), int(port), timeout=options.timeout)
    try:
        connection.request("GET", options.path)
        answer = connection.getresponse()
        said = answer.read(4_096).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return _ill(f"{options.address} does not answer: {str(error) or type(error).__name__}")
    finally:
        connection.close()
    return 0 if answer.status == 200 else _ill(f"{answer.status}: {said}")


def _ill(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
