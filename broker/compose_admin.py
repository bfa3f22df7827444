"""`aldis admin`: who may administer the server, said by whoever may read its database, beside a running server."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from aldis.broker.compose_store import StartFailed, open_database
from aldis.broker.ports import StoreUnavailable
from aldis.broker.postbox import wall_clock
from aldis.config.settings import Settings


async def administer(settings: Settings, act: str, user: str) -> int:
    """`grant`, `revoke` or `list`. The exit code: 0 done, 1 not, and why on the standard error."""
    from aldis.bridge.accounts.administration import Administration
    from aldis.bridge.accounts.announcement_log import AnnouncementLog
    from aldis.bridge.accounts.errors import UnknownUser

    if settings.store.backend not in ("sqlite", "mysql"):
        return _refuse(f"store.backend is {settings.store.backend}: there are no accounts")
    if settings.store.backend == "sqlite" and not (settings.data / settings.store.file).exists():
        return _refuse(f"there is no database {settings.data / settings.store.file}: start the server first")
    try:
        database = open_database(settings, nullcontext())
        try:
            await database.ready()
            administration = Administration(database, AnnouncementLog(database))
            if act == "list":
                for name in await administration.admins():
                    print(name)
            elif act == "grant":
                await administration.grant(user, now=wall_clock())
                print(f"{user} is an administrator")
            elif await administration.withdraw(user):
                print(f"{user} is no administrator any more")
            else:
                return _refuse(f"{user} is no administrator")
        finally:
            await database.close()
    except UnknownUser:
        return _refuse(f"there is no user {user}: register first, then grant")
    except (StoreUnavailable, StartFailed) as error:
        return _refuse(str(error))
    return 0


def _refuse(why: str) -> int:
    print(f"aldis: {why}", file=sys.stderr)
    return 1
