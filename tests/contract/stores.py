"""The back ends under contract, and short names for the records the tests hand to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from aldis.bridge import migrate
from aldis.bridge.memory import MemoryStore
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.sqlite import SqliteStore
from aldis.broker.ports import Batch, Committed, CursorMove, Delivered, Kind, NewMessage, Read, Store
from tests.databases import empty_database

Reopen = Callable[[], Store]
"""Gives a store on the same data, not yet open. The one before must be closed."""


@cache
def _empty_database() -> bytes:
    """Made once: writing it out again costs a millisecond, a migration a hundred."""
    with TemporaryDirectory() as folder:
        migrate.upgrade(f"sqlite:///{folder}/empty.db")
        return (Path(folder) / "empty.db").read_bytes()


def new_database(folder: Path, name: str = "aldis.db") -> Path:
    path = folder / name
    path.write_bytes(_empty_database())
    return path


def memory(folder: Path) -> Reopen:
    store = MemoryStore()
    return lambda: store


def sqlite(folder: Path) -> Reopen:
    path = new_database(folder)
    return lambda: SqliteStore(path, busy_timeout=1.0)


def mysql(_folder: Path) -> Reopen:
    server = empty_database()
    return lambda: MySqlStore(server, largest=4_000_000)


BACK_ENDS: dict[str, Callable[[Path], Reopen]] = {"memory": memory, "sqlite": sqlite, "mysql": mysql}


def chat(
    id: str | None = None,
    *,
    sender: str = "alice",
    device: str = "phone",
    to: str = "bob",
    content: bytes = b'{"body":"hi"}',
    created: int = 1_000,
    seq: int | None = None,
    sync: bool = False,
    kind: Kind = Kind.CHAT,
    tag: object = None,
    mid: int = 0,
) -> NewMessage:
    return NewMessage(sender, device, to, content, created, kind, id, seq, sync, tag, mid)


async def commit(
    store: Store,
    *messages: NewMessage,
    moves: list[CursorMove] | None = None,
    delivered: list[Delivered] | None = None,
    reads: list[Read] | None = None,
    shards: list[tuple[int, int]] | None = None,
) -> Committed:
    return await store.commit(Batch(list(messages), moves or [], delivered or [], reads or [], shards or []))
