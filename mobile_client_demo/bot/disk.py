"""What a bot must remember over a crash: its outbox, how far it has handled its inbox, and its keys. SQLite.

One file belongs to one device of one user on one server, and to one process at a time. Methods are for any thread. A
method that says *stored* returns after the commit and its fsync; what is merely *noted* is written with the next one.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aldis.mobile_client_demo.encryption import RelationKey
from aldis.mobile_client_demo.outbox import Outgoing

_TABLES = """
CREATE TABLE IF NOT EXISTS bot (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, ordered INTEGER NOT NULL,
    seq INTEGER, content TEXT NOT NULL, cause INTEGER, settled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS peer (
    name TEXT PRIMARY KEY, seq INTEGER NOT NULL DEFAULT 0, shown INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS relation_key (
    friend TEXT NOT NULL, version INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (friend, version)
) WITHOUT ROWID;
"""


class NotOurs(Exception):
    """The file belongs to another device, or another process is using it."""


class Disk:
    """Opened when made; `close` writes what was noted."""

    def __init__(self, path: Path, user: str, device: str) -> None:
        # It holds keys and messages: nobody else reads it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._notes: list[tuple[str, tuple[object, ...]]] = []
        self._sql = sqlite3.connect(path, timeout=2, check_same_thread=False, isolation_level=None)
        try:
            self._open(path, user, device)
        except sqlite3.OperationalError as error:
            self._sql.close()
            raise NotOurs(f"{path} cannot be used now: {error}") from error
        except NotOurs:
            self._sql.close()
            raise

    def _open(self, path: Path, user: str, device: str) -> None:
        # Held until the end: of two processes on one file, each would send what the other has sent.
        self._sql.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._sql.execute("PRAGMA journal_mode=WAL")
        self._sql.execute("PRAGMA synchronous=FULL")
        with self._stored():
            for statement in _TABLES.split(";"):
                self._sql.execute(statement)
            # Between a commit and its note in memory a crash may leave these.
            self._sql.execute(
                "DELETE FROM outbox WHERE settled = 1 AND cause <= (SELECT value FROM bot WHERE name = 'handled')"
            )
            owner, new = f"{user}\n{device}", secrets.token_hex(4)
            for name, value in (("owner", owner), ("prefix", new), ("count", 0), ("handled", 0)):
                self._sql.execute("INSERT OR IGNORE INTO bot VALUES (?, ?)", (name, value))
        if self._value("owner") != owner:
            raise NotOurs(f"{path} belongs to {str(self._value('owner')).replace(chr(10), ' on ')}")
        self.prefix = str(self._value("prefix"))
        self.count = int(str(self._value("count")))
        self.handled = int(str(self._value("handled")))
        """The highest n that was handled."""

    @contextmanager
    def _stored(self) -> Iterator[None]:
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in self._notes:
                    self._sql.execute(statement, values)
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:  # a full disk has ended it already
                    self._sql.execute("ROLLBACK")
                raise
            self._notes = []

    def _note(self, statement: str, *values: object) -> None:
        with self._lock:
            self._notes.append((statement, values))

    def write_notes(self) -> None:
        with self._lock:
            if self._notes:
                with self._stored():
                    pass

    def close(self) -> None:
        with self._lock:
            try:
                self.write_notes()
            finally:
                self._sql.close()

    def _value(self, name: str) -> object:
        with self._lock:
            row = self._sql.execute("SELECT value FROM bot WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    # The outbox

    def outbox(self) -> list[tuple[Outgoing, bool]]:
        """In the order of sending, each with whether it is settled."""
        with self._lock:
            rows = self._sql.execute(
                "SELECT id, recipient, ordered, seq, content, cause, settled FROM outbox ORDER BY place"
            ).fetchall()
        return [
            (Outgoing(id, to, seq, "", json.loads(content), ordered=bool(ordered), cause=cause), bool(settled))
            for id, to, ordered, seq, content, cause, settled in rows
        ]

    def add(self, message: Outgoing, count: int) -> None:
        """Stored. `count` is that of the outbox, so that no id comes twice."""
        content = json.dumps(message.content, ensure_ascii=False)
        with self._stored():
            self._sql.execute(
                "INSERT INTO outbox (id, recipient, ordered, seq, content, cause) VALUES (?, ?, ?, ?, ?, ?)",
                (message.id, message.to, message.ordered, message.seq, content, message.cause),
            )
            self._sql.execute("UPDATE bot SET value = ? WHERE name = 'count'", (count,))

    def numbered(self, message: Outgoing) -> None:
        """Stored: it must leave with the same seq after a crash."""
        with self._stored():
            self._sql.execute(
                "UPDATE outbox SET seq = ?, content = ? WHERE id = ?",
                (message.seq, json.dumps(message.content, ensure_ascii=False), message.id),
            )

    def settled(self, message: Outgoing) -> None:
        """Noted. After a crash it may leave again, under the same id. What an item has caused stays until that is
        handled."""
        with self._lock:
            if message.seq is not None and not message.failed:
                self._note(
                    "INSERT INTO peer (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = MAX(seq, ?2)",
                    message.to, message.seq,
                )  # fmt: skip
            if message.cause is None or message.cause <= self.handled:
                self._note("DELETE FROM outbox WHERE id = ?", message.id)
            else:
                self._note("UPDATE outbox SET settled = 1 WHERE id = ?", message.id)

    def last_seq(self, to: str) -> int:
        with self._lock:
            self.write_notes()
            row = self._sql.execute("SELECT seq FROM peer WHERE name = ?", (to,)).fetchone()
        return 0 if row is None else int(row[0])

    def forgotten(self, to: str) -> None:
        """Noted: the server counts from 1 again."""
        self._note("UPDATE peer SET seq = 0 WHERE name = ?", to)

    # The inbox

    def has_handled(self, n: int) -> None:
        """Stored."""
        with self._lock:
            with self._stored():
                self._sql.execute("UPDATE bot SET value = ? WHERE name = 'handled'", (n,))
                self._sql.execute("DELETE FROM outbox WHERE settled = 1 AND cause <= ?", (n,))
            self.handled = n

    def shown(self, peer: str, up_to: int) -> None:
        """Stored: the peer is to be told that everything up to this mid was shown."""
        with self._stored():
            self._sql.execute(
                "INSERT INTO peer (name, shown) VALUES (?1, ?2) "
                "ON CONFLICT (name) DO UPDATE SET shown = MAX(shown, ?2)",
                (peer, up_to),
            )

    def told(self, peer: str, up_to: int) -> None:
        """Noted."""
        self._note("UPDATE peer SET told = MAX(told, ?) WHERE name = ?", up_to, peer)

    def untold(self) -> list[tuple[str, int]]:
        with self._lock:
            self.write_notes()
            return [(name, mid) for name, mid in self._sql.execute("SELECT name, shown FROM peer WHERE told < shown")]

    # Keys

    def relation_keys(self) -> list[tuple[str, RelationKey]]:
        with self._lock:
            rows = self._sql.execute("SELECT friend, version, key FROM relation_key").fetchall()
        return [(friend, RelationKey(version, key)) for friend, version, key in rows]

    def add_key(self, friend: str, key: RelationKey) -> None:
        with self._stored():
            self._sql.execute("INSERT OR REPLACE INTO relation_key VALUES (?, ?, ?)", (friend, key.version, key.key))

    def add_keys(self, keys: Iterable[tuple[str, RelationKey]]) -> None:
        with self._stored():
            rows = [(friend, key.version, key.key) for friend, key in keys]
            self._sql.executemany("INSERT OR REPLACE INTO relation_key VALUES (?, ?, ?)", rows)

    def remembered(self, name: str) -> str | None:
        value = self._value(name)
        return None if value is None else str(value)

    def remember(self, name: str, value: str) -> None:
        with self._stored():
            self._sql.execute("INSERT OR REPLACE INTO bot VALUES (?, ?)", (name, value))
