"""What an acknowledgement is worth: kill -9, SIGTERM, a full disk and a locked database in the middle of a flood.

kill -9 keeps the page cache: it tests order and atomicity, not fsync.
"""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.flood import Flood, check_store, flooding
from tests.people import people
from tests.servers import Aldis, RestError, running
from tests.wire import PINGREQ, PINGRESP

IMPATIENT = {"store.busy_timeout": 0.3, "timeouts.commit_retry": 0.1}


def test_kill_9_in_mid_flood(tmp_path: Path) -> None:
    """Four rounds. No acknowledged message is lost, none comes twice, all are in order, receipts are true."""
    with running(tmp_path) as server, flooding(server) as flood:
        for _ in range(4):
            flood.go_on(400)
            before = flood.connections()
            server.kill()
            server.start()
            flood.come_back(before)
        flood.go_on(400)
        flood.finish()
        server.stop()
        flood.check()
        assert check_store(server.data / "aldis.db") == flood.acknowledged()


def test_sigterm_in_mid_flood(tmp_path: Path) -> None:
    """What was acknowledged is there; exit code 0 within the shutdown time-out; nothing is left to be repaired."""
    with running(tmp_path, settings={"timeouts.shutdown": 5}) as server, flooding(server) as flood:
        for _ in range(2):
            flood.go_on(300)
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 6
            server.start()
        flood.go_on(300)
        flood.finish()
        server.stop()
        flood.check()
        assert check_store(server.data / "aldis.db") == flood.acknowledged()


@pytest.mark.alone
def test_sigterm_while_the_database_is_locked(tmp_path: Path) -> None:
    """The server gives up after its time-out, says so, and has acknowledged nothing that is not there."""
    settings = {"timeouts.shutdown": 1, **IMPATIENT}
    with running(tmp_path, settings=settings) as server, flooding(server) as flood:
        flood.go_on(200)
        with locked(server):
            server.logged("the store is unavailable")
            began = time.monotonic()
            server.process.terminate()
            server.ended = True
            assert server.wait() == 1
            assert time.monotonic() - began < 2
        server.logged("stopped with .* messages neither committed nor acknowledged")
        server.start()
        flood.go_on(200)
        flood.finish()
        server.stop()
        flood.check()


# A store that cannot write for a while


@contextmanager
def locked(server: Aldis) -> Iterator[None]:
    """Another process holds the database."""
    hold = (
        "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10);"
        "database.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(server.data / "aldis.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()


@contextmanager
def limited(server: Aldis) -> Iterator[None]:
    """No file of the server may grow any more (RLIMIT_FSIZE); its log is small enough to go on."""
    size = max(os.path.getsize(server.folder / "log") + 16_384, 65_536)
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(server: Aldis) -> Iterator[None]:
    """Not a byte is left on the disk."""
    filler = server.data / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65_536):
                pass
        except OSError:
            pass
    yield
    filler.unlink()


Trouble = Callable[[Aldis], AbstractContextManager[None]]


def live_through(server: Aldis, flood: Flood, trouble: Trouble) -> None:
    """No acknowledgement while it lasts, though pings are answered; one line at its begin and one at its end; then it
    goes on by itself, and the invariants hold."""
    (ada,) = people(server, "ada")
    with ada.dial() as bystander:
        flood.go_on(300)
        since = len(server.log)
        with trouble(server):
            server.logged("ERROR.*the store is unavailable, nothing is acknowledged until it is back", since=since)
            time.sleep(0.3)  # for the clients to read what was acknowledged before
            before = flood.acknowledged()
            for _ in range(5):
                time.sleep(0.2)
                bystander.send(PINGREQ)
                bystander.expect(PINGRESP, timeout=1)
            assert flood.acknowledged() == before
            assert "available again" not in server.log[since:]
        server.logged("WARNING.*the store is available again", since=since)
        flood.go_on(300)
        server.logged("the store is unavailable", since=since)
    flood.finish()
    server.stop()
    flood.check()
    assert check_store(server.data / "aldis.db") == flood.acknowledged()


def test_a_locked_database(tmp_path: Path) -> None:
    with running(tmp_path, settings=IMPATIENT) as server, flooding(server) as flood:
        live_through(server, flood, locked)


def test_no_file_may_grow(tmp_path: Path) -> None:
    with running(tmp_path, settings=IMPATIENT) as server, flooding(server) as flood:
        live_through(server, flood, limited)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, where this user may mount one; else a folder, and RLIMIT_FSIZE has to do."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False, capture_output=True
        ).returncode
        == 0
    )
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    full = filled if os.path.ismount(small_disk) else limited
    with running(tmp_path, settings=IMPATIENT, data=small_disk / "data") as server, flooding(server) as flood:
        live_through(server, flood, full)


def test_rest_says_503_while_the_database_is_locked(tmp_path: Path) -> None:
    with running(tmp_path, settings=IMPATIENT) as server:
        (ada,) = people(server, "ada")
        with locked(server), pytest.raises(RestError) as refused:
            server.register("bob")
        assert refused.value.status == 503
        server.register("bob")
        assert ada.token("phone")


# Starts that are refused


def refused_start(server: Aldis) -> str:
    ended = subprocess.run(server.command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr.splitlines()[-1]


def test_a_second_server_on_the_same_data_folder(tmp_path: Path) -> None:
    """Is refused with the first one's process id; the first one notices nothing. After its end, even by kill -9, the
    next one may start."""
    with running(tmp_path / "first") as first:
        second = Aldis(tmp_path / "second", data=first.data)
        said = refused_start(second)
        assert f"another server (process {first.process.pid}) is using" in said
        people(first, "ada")
        first.process.send_signal(signal.SIGSTOP)  # a first one that hangs is still the first one
        assert str(first.process.pid) in refused_start(second)
        first.process.send_signal(signal.SIGCONT)
        first.kill()
        second.start()
        assert second.stop() == 0


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    """Is not touched."""
    with running(tmp_path) as server:
        server.stop()
        path = server.data / "aldis.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        before = path.read_bytes()
        said = refused_start(server)
        assert "9999" in said and "newer" in said
        assert path.read_bytes() == before


def test_what_is_no_database(tmp_path: Path) -> None:
    server = Aldis(tmp_path)
    server.data.mkdir(mode=0o700)
    (server.data / "aldis.db").write_bytes(b"these are my letters" * 500)
    assert "not a database" in refused_start(server)
    assert (server.data / "aldis.db").read_bytes() == b"these are my letters" * 500
