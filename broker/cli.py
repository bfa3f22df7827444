"""The console command `aldis`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aldis.config.addresses import split_address
from aldis.config.layers import merge
from aldis.config.roles import check_role, role_overrides
from aldis.config.settings import Settings, SettingsError, entrances, load, serves_web

COMMANDS_OF_THEIR_OWN = {
    "chat": "aldis.mobile_client_demo.terminal.main",
    "demo": "aldis.mobile_client_demo.demo",
    "journal": "aldis.broker.journal_command",
    "keys": "aldis.broker.compose_keys",
    "tls": "aldis.broker.tls_dev",
}
"""They read their arguments themselves, and are imported only when they are called: `aldis up` needs none of them."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 used or configured wrongly."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS_OF_THEIR_OWN:
        if arguments[0] == "keys":
            os.umask(0o077)
        return int(import_module(COMMANDS_OF_THEIR_OWN[arguments[0]]).main(arguments[1:]))
    options = _parser().parse_args(arguments)
    if getattr(options, "make_secrets", False):
        return _make_secrets(options.file)
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
    overrides = merge(role_overrides(options.role), _overrides(options))
    settings = load(options.config, overrides)
    check_role(options.role, settings)
    derived: dict[str, Any] = {}
    if getattr(options, "lan", False):
        derived = _on_all_addresses(settings)
    if getattr(options, "tls_cert", None) or getattr(options, "tls_key", None):
        derived = merge(derived, _with_tls(settings, options.tls_cert, options.tls_key))
    return load(options.config, merge(derived, overrides)) if derived else settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aldis", description="A messaging server for standard MQTT clients.")
    parser.set_defaults(explain=None, role="up", config="embedded", data=None)
    parser.add_argument("--version", action="version", version=f"aldis {version('aldis')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start a server in one process")
    node = commands.add_parser("node", help="start a node of a cluster: MQTT, and HTTP for its health only")
    accounts = commands.add_parser("accounts", help="start the REST API of a cluster")
    migrate = commands.add_parser("migrate", help="make or update the database, then exit")
    config = commands.add_parser("config", help="check or show the configuration")
    about = config.add_subparsers(required=True, metavar="COMMAND")
    check = about.add_parser("check", help="every problem at once; exit code 2 if there is one")
    show = about.add_parser("show", help="the values in force, and where each came from")
    for command, run, role in ((up, _up, "up"), (node, _up, "node"), (accounts, _accounts, "accounts")):
        command.set_defaults(run=run, role=role)
    migrate.set_defaults(run=_migrate)
    profiles = "embedded, node, accounts, lab, or a YAML file"
    for command, default in ((up, "embedded"), (node, "node"), (accounts, "accounts"), (migrate, "embedded")):
        command.add_argument("--config", default=default, metavar="PROFILE", help=f"{profiles}; default: {default}")
    for name, command in (("check", check), ("show", show)):
        command.set_defaults(explain=name)
        command.add_argument("config", default="embedded", nargs="?", metavar="PROFILE", help=profiles)
    for command in (up, node, accounts, migrate, check, show):
        command.add_argument("--data", type=Path, metavar="DIR", help="folder for the database and the secrets")
    for command in (up, node, check, show):
        command.add_argument("--mqtt", metavar="HOST:PORT", help="address for MQTT over TCP")
        command.add_argument("--ws", metavar="HOST:PORT", help="address for MQTT over WebSocket")
    for command in (up, node, accounts, check, show):
        command.add_argument("--http", metavar="HOST:PORT", help="address for the REST API and the pages")
        command.add_argument("--node", metavar="NAME", help="name of this process in its cluster; default: the host's")
    for command in (up, node, accounts):
        command.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate for every listener without one")
        command.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
        command.add_argument("--lan", action="store_true", help="listen on all addresses instead of this machine only")
    admin = commands.add_parser("admin", help="say who may administer the server")
    roles = admin.add_subparsers(required=True, metavar="COMMAND")
    for name, help in (("grant", "make a user an administrator"), ("revoke", "take it back"), ("list", "who is one")):
        command = roles.add_parser(name, help=help)
        command.set_defaults(run=_admin, act=name)
        if name != "list":
            command.add_argument("user", metavar="USER")
        command.add_argument("--config", default="embedded", metavar="PROFILE", help=f"{profiles}; default: embedded")
        command.add_argument("--data", type=Path, metavar="DIR", help="folder for the database and the secrets")
    secrets = commands.add_parser("secrets", help="keys for all processes of a cluster")
    keys = secrets.add_subparsers(required=True, metavar="COMMAND")
    make = keys.add_parser("make", help="make the file that all of them need; never overwrites one")
    make.set_defaults(make_secrets=True)
    make.add_argument("file", type=Path, metavar="FILE")
    commands.add_parser("keys", help="list and exchange master keys (aldis keys --help)")
    commands.add_parser("journal", help="see what is accepted and not stored yet (aldis journal --help)")
    commands.add_parser("tls", help="make certificates to try TLS with (aldis tls dev --help)")
    commands.add_parser("chat", help="chat in a terminal (aldis chat --help)")
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
    if getattr(options, "node", None):
        overrides["cluster"] = {"node": options.node}
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


def _make_secrets(path: Path) -> int:
    from aldis.broker.compose_secrets import make_secrets
    from aldis.broker.compose_store import StartFailed

    try:
        make_secrets(path)
    except StartFailed as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 1
    print(f"made {path}. Without it the database cannot be used: back it up, apart from the database")
    return 0


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    from aldis.broker.compose_store import StartFailed, migrate_when_there
    from aldis.broker.logs import set_up_logging

    set_up_logging(settings.logging.level, settings.logging.format)
    try:
        revision = asyncio.run(migrate_when_there(settings))
    except StartFailed as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    print(f"the database is at revision {revision}")
    return 0


def _admin(settings: Settings, options: argparse.Namespace) -> int:
    from aldis.broker.compose_admin import administer

    return asyncio.run(administer(settings, options.act, getattr(options, "user", "")))


def _up(settings: Settings, options: argparse.Namespace) -> int:
    from aldis.broker.compose import Server
    from aldis.broker.reload import reload

    return _serve(settings, lambda: Server(settings), lambda server: reload(server, lambda: _load(options)))


def _accounts(settings: Settings, options: argparse.Namespace) -> int:
    from aldis.broker.compose_accounts import AccountsServer

    return _serve(settings, lambda: AccountsServer(settings), lambda server: server.reload(lambda: _load(options)))


def _serve(settings: Settings, make: Callable[[], Any], reload: Callable[[Any], object]) -> int:
    from aldis.broker.logs import set_up_logging
    from aldis.broker.serving import serve

    set_up_logging(settings.logging.level, settings.logging.format)
    with contextlib.suppress(KeyboardInterrupt):
        return _run(serve(make, reload, _announce))
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
    settings, bound = server.settings, server.mqtt_addresses()
    for name in bound:
        listener = settings.listeners[name]
        host, port = bound[name]
        scheme = "ws" if listener.type == "ws" else "mqtt"
        said = f"{scheme}{'s' if listener.tls else ''}://{host}:{port}"
        print(f"{'MQTT over WebSocket' if scheme == 'ws' else 'MQTT':20}{said}", flush=True)
    if server.http_address is not None:
        host, port = server.http_address
        scheme = "https" if settings.http.tls else "http"
        label, path = ("REST API", "docs") if settings.accounts.enabled else ("health", "readyz")
        print(f"{label:20}{scheme}://{host}:{port}/{path}", flush=True)
        if serves_web(settings):
            print(f"{'web chat':20}{scheme}://{_name_for_others(host)}:{port}/", flush=True)
    print("ready", flush=True)


def _name_for_others(host: str) -> str:
    """What to type into a browser, on a phone as well where every address is listened on."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # sends nothing: it asks the system from which address it would
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
