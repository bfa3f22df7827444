"""`aldis demo`: stock MQTT clients against a running server, and a list of the promises it has kept.

With `--nodes` the people are spread over several nodes of one server, devices change nodes, and more is promised.

Exit code 0: every promise kept; 1: at least one broken; 2: the server cannot be reached.
"""

from __future__ import annotations

import argparse
import socket
import sys

from aldis.mobile_client_demo import crossing
from aldis.mobile_client_demo.journal import Journal
from aldis.mobile_client_demo.promises import Checklist
from aldis.mobile_client_demo.rest import Garbled, Rest, Unreachable
from aldis.mobile_client_demo.scenes import PROMISES, SCENES, play
from aldis.mobile_client_demo.stage import Stage
from aldis.mobile_client_demo.transcript import Transcript

KEPT, BROKEN, UNREACHABLE = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Plays the story and returns the exit code. Wrong options end in argparse's usage message and its code 2."""
    options = _options(argv)
    addresses: list[tuple[str, int]] = options.nodes or [options.mqtt]
    try:
        options.http.alive()
    except (Unreachable, Garbled) as error:
        return _unreachable(str(error))
    for host, port in addresses:
        try:
            with socket.create_connection((host, port), timeout=options.timeout):
                pass
        except OSError as error:
            return _unreachable(f"MQTT at {host}:{port} does not answer: {error}")
    journal = Journal()
    scenes, asked = (SCENES + crossing.SCENES, PROMISES | crossing.PROMISES) if options.nodes else (SCENES, PROMISES)
    transcript, checks = Transcript(sys.stdout, journal), Checklist(asked)
    where = ", ".join(f"{host}:{port}" for host, port in addresses)
    transcript.title(f"Aldis demo: MQTT {where}, REST {options.http.url}")
    stage = Stage(
        journal, transcript, checks, options.http,
        addresses=addresses, messages=options.messages, timeout=options.timeout,
    )  # fmt: skip
    try:
        play(stage, scenes)
    except KeyboardInterrupt:
        transcript.broken("interrupted")
        checks.stopped("interrupted")
    promises = checks.finish()
    transcript.promises(promises)
    return KEPT if all(promise.kept for promise in promises) else BROKEN


def _unreachable(reason: str) -> int:
    print(f"aldis demo: {reason}\nIs the server running? Start one with: aldis up", file=sys.stderr)
    return UNREACHABLE


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aldis demo", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--mqtt", type=_address, default="127.0.0.1:1883", metavar="HOST:PORT", help="MQTT listener")
    parser.add_argument(
        "--nodes", type=_addresses, metavar="HOST:PORT,HOST:PORT", help="MQTT listeners of several nodes, for --mqtt"
    )
    parser.add_argument("--http", default="http://127.0.0.1:8000", metavar="URL", help="REST API")
    parser.add_argument("--messages", type=_burst, default=10, metavar="N", help="messages in each burst")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait for anything")
    options = parser.parse_args(argv)
    if options.timeout <= 0:
        parser.error("--timeout must be above 0")
    try:
        options.http = Rest(options.http, timeout=options.timeout)
    except ValueError as error:
        parser.error(str(error))
    return options


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"not HOST:PORT: {text}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _addresses(text: str) -> list[tuple[str, int]]:
    found = [_address(one) for one in text.split(",")]
    if len(found) < 2:
        raise argparse.ArgumentTypeError(f"not two or more of HOST:PORT: {text}")
    return found


def _burst(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"not a whole number from 2: {text}")
    return int(text)
