"""The whole server on a real MariaDB."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aldis.bridge.schema import REVISION
from tests.databases import new_name
from tests.integration.flood import check_tables, flooding
from tests.mariadb import PASSWORD as DATABASE_PASSWORD
from tests.mariadb import MariaDb, new_server, shared_server
from tests.people import people
from tests.servers import ALDIS, Aldis, RestError, environment, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    database = new_name("aldis_demo")
    shared_server().ask(f"CREATE DATABASE {database}")
    with running(tmp_path_factory.mktemp("node"), "mysql", {"store.url": shared_server().url(database)}) as server:
        yield server


def test_the_demo_keeps_every_promise(server: Aldis) -> None:
    played = subprocess.run(
        [
            *(ALDIS, "demo", "--messages", "100"),
            *("--mqtt", f"127.0.0.1:{server.mqtt[1]}", "--http", f"http://127.0.0.1:{server.http[1]}"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "BROKEN" not in played.stdout
    assert list((server.data).glob("*.db*")) == [], "nothing is kept in a file beside the secrets"


@pytest.fixture
def database() -> Iterator[MariaDb]:
    """A server of its own with an empty database `aldis`."""
    server = new_server().start()
    server.ask("CREATE DATABASE aldis")
    yield server
    server.stop()


IMPATIENT = {"store.answer_timeout": 1, "store.connect_timeout": 1, "timeouts.commit_retry": 0.1}


def test_the_database_is_killed_in_mid_flood(tmp_path: Path, database: MariaDb) -> None:
    """No acknowledged message is lost, none comes twice, all are in order, receipts are true; the node lives on, and
    nobody's connection ends."""
    settings = {**IMPATIENT, "store.url": database.url("aldis")}
    with running(tmp_path, "mysql", settings) as server, flooding(server) as flood:
        for _ in range(3):
            flood.go_on(300)
            database.kill()
            time.sleep(0.5)
            database.start()
        flood.go_on(300)
        database.pause()
        time.sleep(1.5)
        database.resume()
        flood.go_on(300)
        flood.finish()
        assert server.stop() == 0
        flood.check()
        assert check_tables(lambda statement: database.ask(statement, "aldis")) == flood.acknowledged()


def test_both_are_killed_in_mid_flood(tmp_path: Path, database: MariaDb) -> None:
    settings = {**IMPATIENT, "store.url": database.url("aldis")}
    with running(tmp_path, "mysql", settings) as server, flooding(server) as flood:
        for first, second in ((server.kill, database.kill), (database.kill, server.kill)):
            flood.go_on(300)
            first()
            second()
            database.start()
            server.start()
        flood.go_on(300)
        flood.finish()
        server.stop()
        flood.check()
        assert check_tables(lambda statement: database.ask(statement, "aldis")) == flood.acknowledged()


def test_while_the_database_is_away_nothing_is_acknowledged(tmp_path: Path, database: MariaDb) -> None:
    with running(tmp_path, "mysql", {**IMPATIENT, "store.url": database.url("aldis")}) as server:
        ada, bob = people(server, "ada", "bob")
        with ada.online() as phone, bob.online() as other:
            other.caught_up()
            phone.say(bob, {"id": "before", "body": 1})
            other.chats(1)
            phone.until(lambda: phone.receipts("delivered"))
            database.stop()
            phone.send(phone.chat_packet(bob, {"id": "while", "body": 2}, id=77))
            time.sleep(1.5)
            with pytest.raises(RestError) as refused:
                server.rest("GET", "/readyz")
            assert refused.value.status == 503
            assert (phone.settled(), other.settled()) == ([], []), "nobody is told of what is not committed"
            database.start()
            other.chats(2)
            assert [chat["body"] for chat in other.documents()] == [1, 2]
            phone.until(lambda: [one["id"] for one in phone.receipts("sent")] == ["before", "while"])
            assert server.rest("GET", "/readyz") is not None


def run(*arguments: str, settings: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ALDIS), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(settings),
    )


def test_the_command_line(tmp_path: Path, database: MariaDb) -> None:
    """Migrates, and never tells the password, whatever is wrong."""
    word = tmp_path / "word"
    word.write_text(f"{DATABASE_PASSWORD}\n")
    word.chmod(0o600)
    bare = f"mysql://aldis@127.0.0.1:{database.port}/aldis"
    good = {"store.url": bare, "store.password_file": word}
    done = run("migrate", "--config", "mysql", settings=good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the database is at revision {REVISION}\n"
    shown = run("config", "show", "mysql", settings={"store.url": database.url("aldis")})
    assert shown.returncode == 0 and "store.backend" in shown.stdout
    refusals = [
        run("migrate", "--config", "mysql", settings={"store.url": bare}),
        run("migrate", "--config", "mysql", settings={"store.url": database.url("aldis_none")}),
        run(
            "migrate",
            "--config",
            "mysql",
            settings={
                "store.url": database.url("aldis").replace(f":{database.port}", ":1"),
                "store.wait_at_start": 0,
            },
        ),
        run("migrate", "--config", "mysql", settings={**good, "store.tls": "{}"}),
        run(
            "up",
            "--config",
            "mysql",
            f"--data={tmp_path}/data",
            settings={"store.url": bare, "http.bind": "127.0.0.1:0"},
        ),
    ]
    for refused in refusals:
        assert refused.returncode == 1, refused
        assert refused.stderr.startswith("aldis: ") and "Traceback" not in refused.stderr, refused.stderr
    for said in [shown, *refusals]:
        assert "s3cret" not in said.stdout + said.stderr
    database.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    weak = run("up", "--config", "mysql", f"--data={tmp_path}/data", settings=good)
    assert weak.returncode == 1 and "Set it to 1, or allow 2 by store.flush_every_second" in weak.stderr


def test_the_rights_that_the_documentation_names_are_enough(tmp_path: Path, database: MariaDb) -> None:
    text = Path("docs/operations.md").read_text()
    rights = re.findall(r"GRANT (.*) ON aldis\.\* TO", text)
    assert len(rights) == 1
    database.ask("CREATE USER small@'127.0.0.1' IDENTIFIED BY 'x'")
    database.ask(f"GRANT {rights[0]} ON aldis.* TO small@'127.0.0.1'")
    url = f"mysql://small:x@127.0.0.1:{database.port}/aldis"
    with running(tmp_path, "mysql", {"store.url": url}) as server:
        ada, bob = people(server, "ada", "bob")
        with ada.online() as phone, bob.online() as other:
            phone.say(bob, {"body": "hi"})
            assert [chat["body"] for chat in other.chats(1)] == ["hi"]
