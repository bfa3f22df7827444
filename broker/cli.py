"""The console command `aldis`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aldis.config.addresses import split_address
from aldis.config.layers import merge
from aldis.config.settings import Settings, SettingsError, entrances, load


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 used or configured wrongly."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["demo"]:
        from aldis.mobile_client_demo.demo import main as demo

        return demo(arguments[1:])
    if arguments[:1] == ["tls"]:
        from aldis.broker.tls_dev import main as tls

        return tls(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.explain is not None:
        from aldis.broker import config_command

        return int(getattr(config_command, options.explain)(options.config, _overrides(options)))
    try:
        settings = _load(options)
    except SettingsError as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 2
    os.umask(0o077)  # whatever we write, database and keys, is for this user only
    command: Callable[[Settings, argparse.Namespace], int] = options.run
    return command(settings, options)


def _load(options: argparse.Namespace) -> Settings:
    """Profile, variables and flags as they are now. Raises `SettingsError`."""
    overrides = _overrides(options)
    settings = load(options.config, overrides)
    derived: dict[str, Any] = {}
    if getattr(options, "lan", False):
        derived = _on_all_addresses(settings)
    if getattr(options, "tls_cert", None) or getattr(options, "tls_key", None):
        derived = merge(derived, _with_tls(settings, options.tls_cert, options.tls_key))
    return load(options.config, merge(derived, overrides)) if derived else settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aldis", description="A messaging server for standard MQTT clients.")
    parser.set_defaults(explain=None)
    parser.add_argument("--version", action="version", version=f"aldis {version('aldis')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start a server in one process")
    up.set_defaults(run=_up)
    migrate = commands.add_parser("migrate", help="make or update the database, then exit")
    migrate.set_defaults(run=_migrate)
    for command in (up, migrate):
        command.add_argument(
            "--config", default="embedded", metavar="PROFILE", help="embedded (default), lab, or a YAML file"
        )
    config = commands.add_parser("config", help="check or show the configuration")
    about = config.add_subparsers(required=True, metavar="COMMAND")
    check = about.add_parser("check", help="every problem at once; exit code 2 if there is one")
    show = about.add_parser("show", help="the values in force, and where each came from")
    for name, command in (("check", check), ("show", show)):
        command.set_defaults(explain=name)
        command.add_argument(
            "config", default="embedded", nargs="?", metavar="PROFILE", help="embedded (default), lab, or a YAML file"
        )
    for command in (up, migrate, check, show):
        command.add_argument("--data", type=Path, metavar="DIR", help="folder for the database and the secrets")
    for command in (up, check, show):
        command.add_argument("--mqtt", metavar="HOST:PORT", help="address for MQTT over TCP")
        command.add_argument("--ws", metavar="HOST:PORT", help="address for MQTT over WebSocket")
        command.add_argument("--http", metavar="HOST:PORT", help="address for the REST API and the pages")
    up.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate for every listener that has none")
    up.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    up.add_argument("--lan", action="store_true", help="listen on all addresses instead of this machine only")
    commands.add_parser("tls", help="make certificates to try TLS with (aldis tls dev --help)")
    commands.add_parser("demo", help="play a conversation against a running server (aldis demo --help)")
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The flags as nested settings."""
    overrides: dict[str, Any] = {}
    listeners: dict[str, Any] = {}
    if options.data is not None:
        overrides["data"] = options.data
    if getattr(options, "mqtt", None):
        listeners["default"] = {"type": "tcp", "bind": options.mqtt}
    if getattr(options, "ws", None):
        listeners["websocket"] = {"type": "ws", "bind": options.ws}
    if getattr(options, "http", None):
        overrides["http"] = {"bind": options.http}
    if listeners:
        overrides["listeners"] = listeners
    return overrides


def _on_all_addresses(settings: Settings) -> dict[str, Any]:
    """Every address that is for this machine only, on its port for all; what else is configured stays as it is."""

    def opened(bind: str) -> dict[str, str]:
        host, port = split_address(bind)
        loopback = host == "localhost" or (host != "" and ip_address(host).is_loopback)
        return {"bind": f"{'[::]' if ':' in host else '0.0.0.0'}:{port}" if loopback else bind}  # noqa: S104

    return {
        "listeners": {name: opened(listener.bind) for name, listener in settings.listeners.items()},
        "http": opened(settings.http.bind),
    }


def _with_tls(settings: Settings, certificate: Path | None, key: Path | None) -> dict[str, Any]:
    """This certificate wherever connections come in and none is configured."""
    if certificate is None or key is None:
        raise SettingsError("--tls-cert and --tls-key go together")
    tls = {"tls": {"certfile": certificate, "keyfile": key}}
    plain = [where for where, entrance in entrances(settings) if entrance.tls is None]
    return {
        "listeners": {name: tls for group, *names in plain for name in names if group == "listeners"},
        **({"http": tls} if ("http",) in plain else {}),
    }


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    from aldis.broker.compose_store import StartFailed, migrate_database

    try:
        revision = migrate_database(settings)
    except StartFailed as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 1
    print(f"the database is at revision {revision}")
    return 0


def _up(settings: Settings, options: argparse.Namespace) -> int:
    from aldis.broker.logs import set_up_logging
    from aldis.broker.serving import serve

    set_up_logging(settings.logging.level, settings.logging.format)
    with contextlib.suppress(KeyboardInterrupt):
        return _run(serve(settings, lambda: _load(options), _announce))
    return 0


def _run(main: Coroutine[Any, Any, int]) -> int:
    """In uvloop's event loop where there is one; asyncio's own does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _announce(server: Any) -> None:
    """What a person wants to know who has just started it."""
    for name, listener in server.settings.listeners.items():
        host, port = server.mqtt_addresses()[name]
        scheme = "ws" if listener.type == "ws" else "mqtt"
        said = f"{scheme}{'s' if listener.tls else ''}://{host}:{port}"
        print(f"{'MQTT over WebSocket' if scheme == 'ws' else 'MQTT':20}{said}", flush=True)
    if server.http_address is not None:
        host, port = server.http_address
        scheme = "https" if server.settings.http.tls else "http"
        print(f"{'REST API':20}{scheme}://{host}:{port}/docs", flush=True)
    print("ready", flush=True)
