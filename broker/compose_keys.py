"""The composition root's part for `aldis keys`: the master keys of a server, and how they are exchanged."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aldis.broker.compose_secrets import master_keys, open_secrets
from aldis.broker.compose_store import StartFailed, open_database
from aldis.broker.ports import StoreUnavailable
from aldis.broker.postbox import wall_clock
from aldis.config.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from aldis.bridge.accounts.master_rotation import MasterEntry, MasterRotation, Place

BATCH = 200
"""Keys wrapped again in one transaction: some milliseconds in which nobody else writes on SQLite."""
PAUSE = 0.02
"""Seconds between two batches, for who waits to write."""

_ADD = "`aldis keys add-master`"


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 used or configured wrongly."""
    options = _parser().parse_args(argv)
    overrides: dict[str, Any] = {} if options.data is None else {"data": options.data}
    try:
        settings = load(options.config, overrides)
    except SettingsError as error:
        return _say_wrong(error, 2)
    try:
        return asyncio.run(_run(settings, options))
    except (StartFailed, StoreUnavailable) as error:
        return _say_wrong(error, 1)
    except KeyboardInterrupt:
        return _say_wrong("interrupted; the same command goes on from here", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aldis keys", description="Master keys, which wrap the keys of relations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="act")
    for name, said in (
        ("list", "which there are, which one wraps, and how many relation keys are under each"),
        ("add-master", "put one more into the secrets file; it wraps nothing until rotate-master"),
        ("rotate-master", "let the new one wrap, and wrap everything again; servers may run meanwhile"),
        ("forget-master", "take one that wraps nothing any more out of database and secrets file"),
    ):
        command = commands.add_parser(name, help=said, description=said)
        command.add_argument(
            "--config", default="embedded", metavar="PROFILE", help="profile or YAML file of the server"
        )
        command.add_argument("--data", type=Path, metavar="DIR", help="folder for the database and the secrets")
        if name == "forget-master":
            command.add_argument("id", metavar="ID", help="as `aldis keys list` shows it")
    return parser


async def _run(settings: Settings, options: argparse.Namespace) -> int:
    if options.act == "add-master":
        return _add(settings)
    async with _Rotation(settings) as rotation:
        if options.act == "list":
            for entry in await rotation.entries():
                _say(_described(entry))
            return 0
        if options.act == "forget-master":
            return await _forget(settings, rotation, options.id)
        return await _rotate(settings, rotation)


class _Rotation(AbstractAsyncContextManager["MasterRotation"]):
    """The rotation over the server's database, which may be in use, and its keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> MasterRotation:
        from aldis.bridge.accounts.master_rotation import MasterRotation

        settings = self._settings
        if settings.store.backend not in ("sqlite", "mysql"):
            raise StartFailed(f"store.backend {settings.store.backend} keeps no keys")
        if settings.store.backend == "sqlite" and not (settings.data / settings.store.file).exists():
            raise StartFailed(f"there is no database {settings.data / settings.store.file}")
        self._database = open_database(settings, nullcontext())
        try:
            await self._database.ready()
            return MasterRotation(self._database, master_keys(settings, open_secrets(settings, make=False)))
        except BaseException:
            await self._database.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()


def _add(settings: Settings) -> int:
    from aldis.accounts_api.secrets_file import KEY_BYTES, SecretsError, change_master_keys
    from aldis.bridge.accounts.master_keys import id_of

    if settings.accounts.keys.master is not None:
        raise StartFailed(
            "accounts.keys.master gives the master keys: add the new one there, behind the old one and a comma, for "
            "every process, and start them again"
        )
    new = secrets.token_bytes(KEY_BYTES)
    path = settings.data / settings.accounts.secret_file
    try:
        change_master_keys(path, lambda there: [*there, new])
    except SecretsError as error:
        raise StartFailed(str(error)) from error
    _say(f"{path} has the master key {id_of(new)} now, too. Back it up again")
    if settings.cluster is not None:
        _say("Give every process of the cluster its copy, then: aldis keys rotate-master")
    return 0


async def _rotate(settings: Settings, rotation: MasterRotation) -> int:
    entries = await rotation.entries()
    new = [entry.master_id for entry in entries if entry.here and not entry.registered]
    wraps = next((entry.master_id for entry in entries if entry.wraps), None)
    if wraps is None:
        # nothing was ever wrapped, or before master keys had ids: the first one of this server is the old one
        new = [one for one in new if one != rotation.first]
    unfinished = wraps is not None and any(entry.wrapped and entry.master_id != wraps for entry in entries)
    if len(new) > 1:
        raise StartFailed(f"there are several new master keys, {', '.join(new)}: forget all but one of them first")
    if new:
        chosen = new[0]
    elif wraps is not None and unfinished:
        chosen = wraps
        _say(f"going on with {chosen}")
    elif settings.cluster is None and settings.accounts.keys.master is None:
        _add(settings)
        async with _Rotation(settings) as again:
            return await _rotate(settings, again)
    else:
        raise StartFailed(f"there is no new master key: {_ADD} makes one")
    await rotation.begin(chosen, now=wall_clock())
    _say(f"from now on {chosen} wraps")
    done, damaged = await _rewrap(rotation, chosen)
    _say(f"wrapped again: {done}")
    for user1, user2, version in damaged:
        print(f"aldis: version {version} of {user1} and {user2} does not open; left as it is", file=sys.stderr)  # noqa: T201
    _say("The old master key opens backups made before now. `aldis keys forget-master ID` takes it out")
    return 1 if damaged else 0


async def _rewrap(rotation: MasterRotation, master_id: str) -> tuple[int, list[Place]]:
    done, damaged, place = await rotation.rewrap(master_id, limit=BATCH)
    while place is not None:
        await asyncio.sleep(PAUSE)
        count, bad, place = await rotation.rewrap(master_id, after=place, limit=BATCH)
        done, damaged = done + count, damaged + bad
    return done, damaged


async def _forget(settings: Settings, rotation: MasterRotation, master_id: str) -> int:
    from aldis.accounts_api.secrets_file import SecretsError, change_master_keys
    from aldis.bridge.accounts.master_keys import id_of

    entries = {entry.master_id: entry for entry in await rotation.entries()}
    if master_id not in entries or master_id == "":
        raise StartFailed(f"there is no master key {master_id}; `aldis keys list` shows them")
    if len([entry for entry in entries.values() if entry.here]) < 2 or not await rotation.forget(master_id):
        raise StartFailed(f"the master key {master_id} is in use: rotate first")
    if entries[master_id].here and settings.accounts.keys.master is None:
        path = settings.data / settings.accounts.secret_file
        try:
            change_master_keys(path, lambda there: [key for key in there if id_of(key) != master_id])
        except SecretsError as error:
            raise StartFailed(str(error)) from error
    _say(f"the master key {master_id} is gone: backups that need it cannot be opened without a copy of it")
    return 0


def _described(entry: MasterEntry) -> str:
    facts = ["wraps" if entry.wraps else "old" if entry.registered else "new", f"{entry.wrapped} relation keys"]
    if not entry.here:
        facts.append("this server does not have it")
    return f"{entry.master_id or '(no id)':16}  {', '.join(facts)}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _say_wrong(error: object, code: int) -> int:
    print(f"aldis: {error}", file=sys.stderr)  # noqa: T201
    return code
