"""`aldis chat`: who and where, the login, and then the full screen, or lines through pipes.

Exit code 0: left, or every line was sent; 1: something failed; 2: wrong use, or no login; 3: lines wait in the outbox.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import getpass
import logging
import logging.handlers
import os
import sqlite3
import ssl
import sys
import threading
import time
from pathlib import Path

from aldis.mobile_client_demo.bot import NotOurs
from aldis.mobile_client_demo.bot.access import Access
from aldis.mobile_client_demo.rest import Login, Refused, Rest, RestError
from aldis.mobile_client_demo.terminal.home import Account, Home, InUse, platform_folder
from aldis.mobile_client_demo.terminal.look import Look, codec_of
from aldis.mobile_client_demo.terminal.places import Place, answering, beside, mqtt_place, server_url

logger = logging.getLogger(__name__)

SERVER = "http://127.0.0.1:8000"
PASSWORD = "CHAT_PASSWORD"
TIMEOUT = 20.0
FAILED, WRONG = 1, 2


class Wrong(Exception):
    """It cannot be done like this; the text is for the one who started it."""


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    try:
        return _chat(options)
    except Wrong as wrong:
        _say(f"aldis chat: {wrong}")
        return WRONG
    except (RestError, OSError, NotOurs, InUse, sqlite3.Error) as error:
        _say(f"aldis chat: {error}")
        return FAILED
    except (KeyboardInterrupt, EOFError):
        print(file=sys.stderr)
        return 130


def _say(text: str) -> None:
    """Some of it may be a server's words, to which this terminal must not listen."""
    print(Look(codec_of(os.environ)).line(text), file=sys.stderr)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aldis chat", description="Chat in a terminal, or through pipes.")
    parser.add_argument("--server", metavar="URL", help=f"REST API; default: the last one, or {SERVER}")
    parser.add_argument("--mqtt", metavar="HOST:PORT", help="MQTT; default: port 1883 beside the server, 8883 with TLS")
    parser.add_argument("--cafile", metavar="FILE", help="certificate of the server's authority, beside the usual ones")
    parser.add_argument("--user", metavar="USER", help="default: the last one")
    parser.add_argument("--device", metavar="ID", help="default: the last one, or a new one")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="logins, outbox and messages; default: as the platform"
    )
    parser.add_argument("--register", action="store_true", help="make the user first")
    parser.add_argument("--ascii", action="store_true", help="for terminals without UTF-8")
    parser.add_argument(
        "--to", metavar="USER", default="", help="send each line of the input, and wait until it is sent"
    )
    parser.add_argument("--listen", action="store_true", help="print what arrives")
    parser.add_argument("--json", action="store_true", help="one JSON object in a line for each that arrives")
    parser.add_argument("--timeout", metavar="S", type=float, default=60.0, help="wait so long for the next answer")
    options = parser.parse_args(argv)
    if options.json and not options.listen:
        parser.error("--json goes with --listen")
    return options


def _chat(options: argparse.Namespace) -> int:
    home = Home(options.data or platform_folder())
    last = home.last()
    try:
        server = server_url(options.server or last.get("server") or SERVER)
        same = server == last.get("server")
        given = options.mqtt or (last.get("mqtt") if same else None)
        place = mqtt_place(given, server) if given else None
    except ValueError as error:
        raise Wrong(str(error)) from error
    cafile = options.cafile or (last.get("cafile") if same else None)
    tls = _tls(cafile) if server.startswith("https") or (place and place.tls) else None
    user = options.user or (last.get("user") if same else None) or _asked("User: ")
    account = home.account(server, user, options.device or "")
    account.lock()
    _log_to(account)
    rest = Rest(server, timeout=TIMEOUT, tls=tls)
    login = _login(rest, account, register=options.register)
    while True:
        found = place or answering(beside(server))
        known = {"server": server, "user": user, "mqtt": str(found or ""), "cafile": cafile or ""}
        home.remember({name: value for name, value in known.items() if value})
        over, code = _run(options, account, rest, login, found or beside(server)[0], tls)
        if not over or options.to or options.listen:
            return code
        _say(f"The login of {user} on {account.device} is over ({over}).")
        login = _logged_in(rest, account, _password(f"Password of {user}, to log in again: "))


def _tls(cafile: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cafile:
        try:
            context.load_verify_locations(cafile)
        except OSError as error:
            raise Wrong(f"{cafile} is no certificate: {error}") from error
    return context


def _login(rest: Rest, account: Account, *, register: bool) -> Login:
    """The one that was kept, or a new one."""
    if register:
        password = _password(f"New password of {account.user}: ", again=True)
        try:
            rest.register(account.user, password, account.user)
        except Refused as refusal:
            raise Wrong(f"{account.user} cannot be registered: {refusal.detail or refusal.title}") from refusal
        return _logged_in(rest, account, password)
    kept = account.login()
    return kept if kept is not None else _logged_in(rest, account, _password(f"Password of {account.user}: "))


def _logged_in(rest: Rest, account: Account, password: str) -> Login:
    try:
        login = rest.login(account.user, password, account.device)
    except Refused as refusal:
        raise Wrong(f"{account.user} is not let in: {refusal.detail or refusal.title}") from refusal
    account.keep(login)
    return login


def _asked(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise Wrong("who? --user USER")
    answer = input(prompt).strip()
    if not answer:
        raise Wrong("no user, no chat")
    return answer


def _password(prompt: str, *, again: bool = False) -> str:
    """Asked for without an echo, or, where nobody can be asked, from the environment. Never from the arguments, which
    everybody on the machine can see."""
    given = os.environ.get(PASSWORD)
    if given:
        return given
    try:
        with open("/dev/tty", encoding="utf-8"):
            pass
    except OSError:
        if not sys.stdin.isatty():
            raise Wrong(f"there is no login on this device, and nobody to ask: set {PASSWORD}") from None
    password = getpass.getpass(prompt)
    if not password:
        raise Wrong("no password, no login")
    if again and getpass.getpass("The same again: ") != password:
        raise Wrong("the two passwords are not the same")
    return password


def _log_to(account: Account) -> None:
    """Nothing but the chat writes to the terminal."""
    os.close(os.open(account.log, os.O_CREAT | os.O_WRONLY, 0o600))
    handler = logging.handlers.RotatingFileHandler(account.log, maxBytes=500_000, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written, such as on a full disk, is no matter for the screen
    threading.excepthook = lambda failed: logger.error(
        "the thread %s has ended", failed.thread and failed.thread.name,
        exc_info=(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback),
    )  # fmt: skip


def _run(
    options: argparse.Namespace, account: Account, rest: Rest, login: Login, place: Place, tls: ssl.SSLContext | None
) -> tuple[str, int]:
    """Why the login is over, empty unless it is; and the exit code."""
    from aldis.mobile_client_demo.terminal.engine import Engine

    access = Access(account.user, account.device, rest=rest, login=login, keep=account.keep)
    secure = tls if place.tls else None
    codec = "ascii" if options.ascii else codec_of(os.environ)
    look = Look(codec, colours=not os.environ.get("NO_COLOR"))
    if options.to or options.listen:
        from aldis.mobile_client_demo.terminal.pipes import Pipes

        pipes = Pipes(account.user, options.to, listen=options.listen, as_json=options.json, look=look, out=sys.stdout)
        engine = Engine(account, access, place.address, secure, pipes.post)
        try:
            engine.start()
            return "", pipes.run(engine, sys.stdin if options.to else (), options.timeout)
        finally:
            engine.stop()
    if not sys.stdin.isatty() or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        raise Wrong("a chat needs a terminal; --to USER and --listen do without one")
    return _full_screen(account, access, place, secure, look)


def _full_screen(
    account: Account, access: Access, place: Place, tls: ssl.SSLContext | None, look: Look
) -> tuple[str, int]:
    from aldis.mobile_client_demo.terminal.engine import Engine
    from aldis.mobile_client_demo.terminal.screen import Screen
    from aldis.mobile_client_demo.terminal.state import State

    state = State(account.user, account.device, time.time_ns() // 1_000_000)
    screen = Screen(state, look)
    engine = Engine(account, access, place.address, tls, screen.post)
    try:
        engine.start()
        asyncio.run(screen.run(engine))
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EBADF, errno.ENOTTY):
            raise
        return "", FAILED  # the terminal is gone
    finally:
        engine.stop()
    if screen.state.waiting and not screen.state.over:
        count = screen.state.waiting
        print(f"{count} message{'s' * (count > 1)} not sent yet: the next aldis chat does it.", file=sys.stderr)
    return screen.state.over, FAILED if screen.state.over else 0
