"""What was said, on the disk of this device: SQLite. The server has it too; this is for reading while offline, for what
the server has refused, and for what was not read yet.

Methods are for any thread, and what they say is on disk when they return. Texts are kept as they were read, so whoever
can read the file can read them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.terminal.state import Contact, Line, Standing

_TABLES = """
CREATE TABLE IF NOT EXISTS line (
    place INTEGER PRIMARY KEY, peer TEXT NOT NULL, mid INTEGER, id TEXT, mine INTEGER NOT NULL, ts INTEGER NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, problem TEXT NOT NULL, failed TEXT NOT NULL, unread INTEGER NOT NULL,
    UNIQUE (peer, mid), UNIQUE (id)
);
CREATE TABLE IF NOT EXISTS contact (
    user TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', standing TEXT NOT NULL DEFAULT 'past',
    delivered INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0, shown INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unread ON line (peer) WHERE unread = 1;
"""
_COLUMNS = "mid, id, mine, ts, kind, body, problem, failed"


class Archive:
    """Opened when made; raises `sqlite3.DatabaseError` for a file that is none, or none of ours."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(path, timeout=2, check_same_thread=False, isolation_level=None)
        try:
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=FULL")
            self._sql.executescript(_TABLES)
            self._sql.execute(f"SELECT {_COLUMNS}, unread FROM line LIMIT 1")  # noqa: S608 - the text is ours
        except sqlite3.DatabaseError:
            self._sql.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._sql.close()

    @contextmanager
    def _stored(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    # Lines

    def take(self, peer: str, lines: Iterable[Line]) -> None:
        """Each once. What comes again may become readable, or get its number; never the reverse."""
        with self._stored() as sql:
            for line in lines:
                self._take(sql, peer, line, unread=False)

    def arrived(self, peer: str, line: Line) -> bool:
        """It came through the inbox: whether it is one more that was not read."""
        with self._stored() as sql:
            shown, *_ = sql.execute("SELECT shown FROM contact WHERE user = ?", (peer,)).fetchone() or (0,)
            unread = not line.mine and line.mid > shown
            if not self._take(sql, peer, line, unread=unread) and unread:
                turned = sql.execute(
                    "UPDATE line SET unread = 1 WHERE peer = ? AND mid = ? AND unread = 0", (peer, line.mid)
                )
                return turned.rowcount == 1
            return unread

    def _take(self, sql: sqlite3.Connection, peer: str, line: Line, *, unread: bool) -> bool:
        """Whether it is new."""
        sql.execute("INSERT OR IGNORE INTO contact (user) VALUES (?)", (peer,))
        if line.id and line.mid:
            sql.execute("UPDATE line SET mid = ?, failed = '' WHERE id = ? AND mid IS NULL", (line.mid, line.id))
        if line.mid and not line.problem:
            sql.execute(
                "UPDATE line SET kind = ?, body = ?, problem = '' WHERE peer = ? AND mid = ? AND problem <> ''",
                (line.kind, _body(line), peer, line.mid),
            )
        values = (peer, line.mid or None, line.id or None, line.mine, line.ts, line.kind, _body(line), line.problem)
        added = sql.execute(
            "INSERT INTO line (peer, mid, id, mine, ts, kind, body, problem, failed, unread) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*values, line.failed, unread),
        )
        return added.rowcount == 1

    def settled(self, id: str, *, mid: int = 0, failed: str = "") -> None:
        with self._stored() as sql:
            # the history may have told of it before, as of one that some device of ours has sent
            sql.execute(
                "DELETE FROM line WHERE mine AND id IS NULL AND mid = ? "
                "AND peer = (SELECT peer FROM line WHERE id = ?)",
                (mid, id),
            )
            sql.execute("UPDATE line SET mid = ?, failed = ? WHERE id = ?", (mid or None, failed, id))

    def waiting(self) -> list[tuple[str, Line]]:
        """What the server has not answered, as far as is known here, by peer."""
        with self._lock:
            rows = self._sql.execute(
                f"SELECT peer, {_COLUMNS} FROM line WHERE mine AND mid IS NULL AND failed = '' ORDER BY place"  # noqa: S608
            ).fetchall()
        return [(peer, _line(*row)) for peer, *row in rows]

    def lines(self, peer: str, *, below: int = 0, limit: int = 100) -> tuple[Line, ...]:
        """The newest of a conversation, oldest first, or those below a number."""
        with self._lock:
            rows = self._sql.execute(
                f"SELECT {_COLUMNS} FROM line WHERE peer = ? AND (? = 0 OR mid < ?) "  # noqa: S608
                "ORDER BY mid IS NULL DESC, mid DESC LIMIT ?",
                (peer, below, below, limit),
            ).fetchall()
        return tuple(_line(*row) for row in reversed(rows))

    # Contacts

    def contacts(self) -> list[Contact]:
        with self._lock:
            counts = dict(self._sql.execute("SELECT peer, COUNT(*) FROM line WHERE unread = 1 GROUP BY peer"))
            rows = self._sql.execute("SELECT user, name, standing, delivered, read, shown FROM contact").fetchall()
        return [
            Contact(user, name, standing, unread=counts.get(user, 0), delivered=delivered, read=read, shown=shown)
            for user, name, standing, delivered, read, shown in rows
        ]

    def people(self, everybody: Iterable[tuple[str, str, Standing]]) -> None:
        """All that there are now."""
        with self._stored() as sql:
            sql.execute("UPDATE contact SET standing = 'past'")
            sql.executemany(
                "INSERT INTO contact (user, name, standing) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (user) DO UPDATE SET name = ?2, standing = ?3",
                list(everybody),
            )
            sql.execute(
                "DELETE FROM contact WHERE standing = 'past' AND user NOT IN (SELECT peer FROM line GROUP BY peer)"
            )

    def progressed(self, user: str, delivered: int, read: int) -> None:
        with self._stored() as sql:
            sql.execute(
                "UPDATE contact SET delivered = MAX(delivered, ?), read = MAX(read, ?) WHERE user = ?",
                (delivered, read, user),
            )

    def shown(self, user: str, mid: int) -> None:
        with self._stored() as sql:
            sql.execute("UPDATE contact SET shown = MAX(shown, ?) WHERE user = ?", (mid, user))
            sql.execute("UPDATE line SET unread = 0 WHERE peer = ? AND mid <= ?", (user, mid))


def _body(line: Line) -> str:
    return line.file.body() if line.file is not None else line.text


def _line(mid: int | None, id: str | None, mine: int, ts: int, kind: str, body: str, problem: str, failed: str) -> Line:
    return line_of(
        mine=bool(mine), mid=mid or 0, id=id or "", ts=ts, kind=kind, body=body, problem=problem, failed=failed
    )


def line_of(
    *, mine: bool, mid: int, id: str, ts: int, kind: str, body: str, problem: str = "", failed: str = ""
) -> Line:
    file = None
    if kind == "file" and not problem:
        try:
            file = FileMessage.read(body)
        except (ValueError, CannotDecrypt) as error:
            problem = f"not a file message: {error}"
    key = f"o{id}" if mine and id else f"m{mid}"
    text = "" if file is not None else body
    return Line(key, mine, ts, text, mid, id, kind, file, problem, failed)
