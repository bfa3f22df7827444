"""Migrations make exactly what the schema declares, or nothing."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from aldis.bridge import migrate
from aldis.bridge.schema import REVISION, metadata
from aldis.bridge.sqlite_connection import DatabaseLock


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def declared(path: Path) -> dict[str, str | None]:
    """Name and SQL text of everything in the database but Alembic's own table. Where lines break says nothing: SQLite
    keeps what it was given, and a column that was added later stands in the line of the one before."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name != 'alembic_version'").fetchall()
    return {name: None if sql is None else " ".join(sql.split()) for name, sql in rows}


def test_the_migrated_database_is_what_the_schema_declares(tmp_path: Path) -> None:
    migrate.upgrade(url(tmp_path / "migrated.db"))
    engine = create_engine(url(tmp_path / "declared.db"))
    metadata.create_all(engine)
    engine.dispose()
    # The text also shows what comparing metadata does not: keys, AUTOINCREMENT, WITHOUT ROWID.
    assert declared(tmp_path / "migrated.db") == declared(tmp_path / "declared.db")


def test_autogenerate_finds_no_drift(tmp_path: Path) -> None:
    migrate.upgrade(url(tmp_path / "a.db"))
    engine = create_engine(url(tmp_path / "a.db"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_same_holds_for_mysql() -> None:
    output = io.StringIO()
    context = MigrationContext.configure(dialect_name="mysql", opts={"as_sql": True, "output_buffer": output})
    for script in sorted((migrate.SCRIPTS / "versions").glob("0*.py")):
        spec = importlib.util.spec_from_file_location(script.stem, script)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with Operations.context(context):
            module.upgrade()
    dialect = mysql.dialect()
    expected = []
    for table in metadata.sorted_tables:
        expected.append(str(CreateTable(table).compile(dialect=dialect)))
        expected += [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
    assert sorted(outcome(statements(output.getvalue()))) == sorted(statements(";".join(expected)))


def statements(text: str) -> list[str]:
    return [one for part in text.split(";") if (one := re.sub(r"\s+", " ", part).strip())]


def outcome(run: list[str]) -> list[str]:
    """What creates the tables and indexes as they are in the end, whatever was made, added and dropped on the way; rows
    are not looked at."""
    made: list[str] = []

    def table(name: str) -> int:
        (place,) = [index for index, one in enumerate(made) if one.startswith(f"CREATE TABLE {name} ")]
        return place

    for one in run:
        if (dropped := re.fullmatch(r"ALTER TABLE (\w+) DROP COLUMN (\w+)", one)) is not None:
            place = table(dropped[1])
            made[place], count = re.subn(rf" {dropped[2]} [^,]*,", "", made[place])
            assert count == 1
        elif (added := re.fullmatch(r"ALTER TABLE (\w+) ADD COLUMN (.*)", one)) is not None:
            place = table(added[1])
            made[place], count = re.subn(r", PRIMARY KEY", f", {added[2]}, PRIMARY KEY", made[place])
            assert count == 1
        elif (gone := re.fullmatch(r"DROP INDEX (\w+) ON (\w+)", one)) is not None:
            (old,) = [index for index in made if index.startswith(f"CREATE INDEX {gone[1]} ON {gone[2]} ")]
            made.remove(old)
        elif not one.startswith("INSERT"):
            made.append(one)
    return made


def test_an_up_to_date_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "aldis.db"
    assert migrate.expected_revision() == REVISION
    migrate.upgrade(url(path))
    assert migrate.current_revision(url(path)) == REVISION
    before = path.read_bytes()
    migrate.upgrade(url(path))
    assert path.read_bytes() == before


def test_the_url_of_the_running_server_is_understood(tmp_path: Path) -> None:
    migrate.upgrade(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    assert migrate.current_revision(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") == REVISION


def test_an_empty_database_has_no_revision(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    assert migrate.current_revision(url(tmp_path / "a.db")) is None


def test_a_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    migrate.upgrade(url(path))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '7777'")
    before = path.read_bytes()
    with pytest.raises(migrate.MigrationRefused, match=r"revision 7777.*newer version"):
        migrate.upgrade(url(path))
    assert path.read_bytes() == before


def test_a_locked_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(migrate.MigrationRefused, match="database is locked"):
        migrate.upgrade(url(path))
    other.execute("COMMIT")
    other.close()
    migrate.upgrade(url(path))


def test_the_tables_of_a_running_server_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.1)
    migrate.upgrade(url(path))
    server = DatabaseLock(path)
    server.acquire()
    migrate.upgrade(url(path))  # nothing to do: the server is not disturbed
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM alembic_version")
    with pytest.raises(migrate.MigrationRefused, match=f"another server .process {os.getpid()}."):
        migrate.upgrade(url(path))
    server.release()


def test_something_else_than_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database\n" * 100)
    with pytest.raises(migrate.MigrationRefused, match="not a database"):
        migrate.upgrade(url(tmp_path / "a.db"))


def test_a_migration_that_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            migrate.upgrade(url(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    migrate.upgrade(url(path))
    assert "im_receipt" in declared(path)


def test_servers_that_start_at_once_migrate_in_turn(tmp_path: Path) -> None:
    code = "import sys; from aldis.bridge import migrate; migrate.upgrade(sys.argv[1])"
    arguments = [sys.executable, "-c", code, url(tmp_path / "a.db")]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: subprocess.run(arguments, capture_output=True, check=False), range(4)))
    assert [(result.returncode, result.stderr) for result in results] == [(0, b"")] * 4
    assert migrate.current_revision(url(tmp_path / "a.db")) == REVISION


def test_keys_of_relations_move_with_their_versions_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    engine = create_engine(url(path))

    def go(work: Callable[..., None], revision: str) -> None:
        with engine.begin() as connection:
            config = migrate.configuration()
            config.attributes["connection"] = connection
            work(config, revision)

    go(command.upgrade, "0005")
    rows = [("alice", "bob", 3, 0, b"wrapped", 2, 1, 5), ("alice", "carol", 0, 0, None, 7, 1, 6)]
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO im_relation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    go(command.upgrade, "0006")
    with sqlite3.connect(path) as connection:
        moved = connection.execute("SELECT * FROM im_relation_key").fetchall()
        versions = connection.execute("SELECT user_id2, key_version FROM im_relation ORDER BY user_id2").fetchall()
    assert moved == [("alice", "bob", 2, "", b"wrapped", None, 0, 5)]
    assert versions == [("bob", 2), ("carol", 7)], "the counting goes on"
    go(command.downgrade, "0005")
    with sqlite3.connect(path) as connection:
        back = connection.execute(
            "SELECT user_id2, key_version, encrypt_key FROM im_relation ORDER BY user_id2"
        ).fetchall()
    engine.dispose()
    assert back == [("bob", 2, b"wrapped"), ("carol", 7, None)]


def test_the_way_back_removes_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    migrate.upgrade(url(path))
    engine = create_engine(url(path))
    with engine.begin() as connection:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    engine.dispose()
    assert set(declared(path)) <= {"sqlite_sequence"}
