"""What the examples are told on the command line; secrets come from the environment, where `ps` does not show them."""

from __future__ import annotations

import argparse
import os
from typing import Any


def parser(what: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=what, epilog="BOT_TOKEN is a device token, BOT_PASSWORD a password.")
    made.add_argument("--user", required=True)
    made.add_argument("--device", required=True)
    made.add_argument("--file", help="the bot's memory (default: USER-DEVICE.db)")
    made.add_argument("--mqtt", default="127.0.0.1:1883", metavar="HOST:PORT")
    made.add_argument("--api", default="http://127.0.0.1:8000", metavar="URL")
    return made


def access(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Bot`."""
    return {
        "user": given.user,
        "device": given.device,
        "file": given.file or f"{given.user}-{given.device}.db",
        "mqtt": given.mqtt,
        "api": given.api,
        "token": os.environ.get("BOT_TOKEN", ""),
        "password": os.environ.get("BOT_PASSWORD", ""),
    }
