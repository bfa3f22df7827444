"""The event loop that servers run on treats a connection that the database has closed in its own way."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace
from typing import Any

import aiomysql.connection  # type: ignore[import-untyped]
import pytest
import uvloop

from aldis.bridge.accounts import Accounts, Database
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import MySqlServer
from aldis.broker.ports import StoreUnavailable
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


def test_a_server_that_resets_at_once_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that is being stopped: the connection is there, and gone before the driver looks at its socket."""
    open_connection = aiomysql.connection._open_connection

    async def open_and_be_late(*arguments: Any, **named: Any) -> Any:
        opened = await open_connection(*arguments, **named)
        await asyncio.sleep(0.05)
        return opened

    monkeypatch.setattr(aiomysql.connection, "_open_connection", open_and_be_late)

    def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async def play() -> None:
        async with await asyncio.start_server(reset, "127.0.0.1") as listening:
            port = listening.sockets[0].getsockname()[1]
            server = MySqlServer(f"mysql://aldis@127.0.0.1:{port}/aldis", connect_timeout=2)
            with pytest.raises(StoreUnavailable, match=r"closed the connection at once \(2013\)"):
                await MySqlStore(server).open()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(play())
