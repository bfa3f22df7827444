"""The benchmarks of the cluster, played once in small: real nodes, MariaDB, Redis and aedes. Figures of so short a run
say nothing; that they are all there, and that nothing was lost, does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import cluster_scenarios, servers
from benchmarks.bench import Bench, InvalidRun
from benchmarks.results import Outcome
from benchmarks.servers import Server, ServerError

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    work = tmp_path_factory.mktemp("bench")
    return Bench(work, servers.aldis_command(), None, rounds=1, seconds=0.5, warmup=0.3, scale=0.02)


def check(outcome: Outcome, *loads: str) -> None:
    assert not outcome.problems
    assert all(
        math.isfinite(row.figure if row.aldis is None and row.figure else row.aldis or 0) for row in outcome.rows
    )
    assert tuple(outcome.loads) == loads
    for runs in outcome.loads.values():
        assert all(run["messages"] > 0 and run["cpu_us"] > 0 for run in runs)


def test_across_two_nodes_beside_aedes(bench: Bench) -> None:
    outcome = cluster_scenarios.cluster_g(bench)
    check(outcome, "aedes full", "aedes third", "aldis full", "aldis third")
    (ours,), (theirs,) = outcome.loads["aldis full"], outcome.loads["aedes full"]
    assert set(ours["parts_us"]) == {"node 1", "node 2", "mariadbd", "redis"}
    assert set(theirs["parts_us"]) == {"node 1", "node 2", "redis"}
    for run in (ours, theirs):
        assert all(cost > 0 for cost in run["parts_us"].values()), "every process had to do with it"
        assert run["cpu_us"] == pytest.approx(sum(run["parts_us"].values()))
    assert ours["arrived_p50_ms"] > 0 and ours["sent_p50_ms"] > 0 and theirs["arrived_p50_ms"] > 0


def test_a_backlog_on_two_nodes(bench: Bench) -> None:
    check(cluster_scenarios.backlog_h(bench), "aldis drain")


def test_one_process_on_mariadb(bench: Bench) -> None:
    outcome = cluster_scenarios.mariadb_j(bench)
    check(outcome, "aldis full", "aldis third")
    assert set(outcome.loads["aldis full"][0]["parts_us"]) == {"aldis", "mariadbd"}


def test_both_modes_of_acceptance_side_by_side(bench: Bench) -> None:
    outcome = cluster_scenarios.journal_k(bench)
    check(outcome, "commit, full", "commit, third", "journal, full", "journal, third")


def test_two_nodes_that_know_nothing_of_each_other_are_an_invalid_run(bench: Bench) -> None:
    """What is measured is that messages cross: without that there is no result."""
    with bench.mosquitto() as one, bench.mosquitto() as two:
        apart = Server("two brokers", {"one": one.pid, "two": two.pid}, [one.port, two.port], 0)
        with pytest.raises(InvalidRun, match="0 received"):
            shape = {"pairs": 2, "window": 1, "idle": 0, "payload": 128, "warmup": 0.1, "seconds": 0.2, "patience": 1}
            bench.load("relay", apart, **shape)


def test_the_files_of_the_database_are_made_once_and_copied(bench: Bench, tmp_path: Path) -> None:
    files, people = bench.in_mariadb(100)
    assert bench.in_mariadb(100) == (files, people)
    assert len(people) == 100 and (files / "secrets.json").stat().st_mode & 0o077 == 0
    before = sum(path.stat().st_mtime for path in files.rglob("*") if path.is_file())
    with bench.aldis_on_mariadb(files) as server:
        assert set(server.processes) == {"aldis", "mariadbd"}
    assert sum(path.stat().st_mtime for path in files.rglob("*") if path.is_file()) == before


def test_a_preparation_that_failed_is_tried_again_by_the_next_scenario(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ["false"], None)
    with pytest.raises(ServerError, match="migrate"):
        bench.in_mariadb(2)
    bench.command = servers.aldis_command()
    _, people = bench.in_mariadb(2)
    assert len(people) == 2
