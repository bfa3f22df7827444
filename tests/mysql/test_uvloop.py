"""The event loop that servers run on treats a connection that the database has closed in its own way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import uvloop

from aldis.bridge.accounts import Accounts, Database
from aldis.bridge.mysql import MySqlStore
from tests.contract.stores import chat, commit
from tests.databases import migrated, new_name
from tests.mariadb import MariaDb


def test_connections_that_were_idle_for_too_long_are_replaced(own_server: MariaDb) -> None:
    """The server closes them after `wait_timeout`, two seconds with this `answer_timeout`: who asks later does not
    notice."""
    server = replace(migrated(own_server, new_name()), answer_timeout=0.5, pool_size=3)

    async def play() -> None:
        store = MySqlStore(server)
        accounts = Accounts(
            Database(server.engine(), asyncio.Lock()), master_key=b"m" * 32, max_friends=5, max_requests=5
        )
        await store.open()
        assert (await commit(store, chat())).stored[0].n == 1
        await accounts.users.add("ada", name="", password_hash="x", now=1)
        while own_server.ask("SELECT 1 FROM information_schema.processlist WHERE user = 'aldis'"):  # noqa: ASYNC110 it asks
            await asyncio.sleep(0.1)
        assert await accounts.users.find("ada")
        assert await store.head("bob") == 1
        assert (await commit(store, chat())).stored[0].n == 2
        await store.close()
        await accounts.close()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(play())
