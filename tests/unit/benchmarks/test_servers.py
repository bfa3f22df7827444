"""Ports, programs and processes of the servers under test."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.servers import Server, ServerError, free_port, program, running


def test_no_port_is_given_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = iter([5001, 5001, 5001, 5002])

    class Probe(socket.socket):
        def bind(self, address: object) -> None:
            pass

        def getsockname(self) -> tuple[str, int]:
            return ("127.0.0.1", next(offered))

    monkeypatch.setattr(servers.socket, "socket", Probe)
    monkeypatch.setattr(servers, "_given", set())
    assert [free_port(), free_port()] == [5001, 5002]


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(ServerError, match=r"no-such-program is not installed .*some-package"):
        program("no-such-program", "some-package")


def test_of_several_nodes_there_is_no_single_one() -> None:
    cluster = Server("cluster", {"one": 1, "two": 2}, [1, 2], 0)
    with pytest.raises(ValueError):
        _ = cluster.pid
    with pytest.raises(ValueError):
        _ = cluster.port


def test_a_server_that_ends_by_itself_is_an_error_that_tells_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, sys; sys.exit('no ' + os.environ['WHAT'])"]
    started = running(command, tmp_path / "log", None, lambda: False, {"WHAT": "luck"})
    with pytest.raises(ServerError, match="no luck"), started:
        pass


def test_a_server_that_ends_during_the_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    command = [sys.executable, "-c", "print('bye', flush=True)"]

    def said() -> bool:
        return b"bye" in (tmp_path / "log").read_bytes()

    with pytest.raises(ServerError, match="bye"), running(command, tmp_path / "log", None, said) as pid:
        while Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] != "Z":  # ended, and not yet waited for
            time.sleep(0.01)
