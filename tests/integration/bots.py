"""Bots for tests, beside a real server."""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aldis.mobile_client_demo.bot import Bot, Message
from tests.servers import PASSWORD, Aldis, running

PATIENCE = 20.0
numbers = itertools.count()


@contextmanager
def own_server(folder: Path) -> Iterator[Aldis]:
    with running(folder / "server") as server:
        server.register("ada", "echo")
        server.befriend("ada", "echo")
        yield server


def friends(server: Aldis) -> tuple[str, str]:
    number = next(numbers)
    pair = f"ada-{number}", f"echo-{number}"
    server.register(*pair)
    server.befriend(*pair)
    return pair


def how(server: Aldis, folder: Path, user: str, device: str = "bot") -> dict[str, Any]:
    mqtt, api = (f"{host}:{port}" for host, port in (server.mqtt, server.http))
    file = folder / f"{user}-{device}.db"
    return {"user": user, "device": device, "file": file, "password": PASSWORD, "mqtt": mqtt, "api": f"http://{api}"}


def until(happened: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:g} s"
        time.sleep(0.02)


def collecting(bot: Bot) -> list[Message]:
    got: list[Message] = []
    bot.on_message(got.append)
    return got


def bodies(messages: list[Message]) -> list[Any]:
    return [message.body for message in list(messages)]


def program(name: str, server: Aldis, folder: Path, user: str) -> subprocess.Popen[str]:
    given = how(server, folder, user)
    words = [name, user, given["device"], given["file"], given["mqtt"], given["api"]]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.bot_programs", *map(str, words)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
