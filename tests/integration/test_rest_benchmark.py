"""The benchmark of the REST API, played once in small. Its figures say nothing then; that they are all there does."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rest, rest_calls, rest_files, servers
from benchmarks.bench import Bench

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), servers.aldis_command(), None)


@pytest.mark.parametrize("back_end", rest_calls.BACK_ENDS)
def test_the_history_is_filled_by_the_server_alone(bench: Bench, back_end: str) -> None:
    found = rest_calls.filling(bench, back_end, 60)
    assert 0 < found["messages"] <= 50 * 60 and found["rate"] > 0 and found["cpu_us"] > 0


def test_every_usual_call_is_answered_as_it_should(bench: Bench) -> None:
    rows = rest_calls.usual_calls(bench, "SQLite", 8)
    assert len(rows) == 8 and all(0 < row["p50_ms"] <= row["p99_ms"] and row["cpu_us"] > 0 for row in rows)
    table = rest.calls_table({"SQLite": rows, "MariaDB": rows})
    assert len(table) == 9 and all(len(line) == 7 for line in table)


def test_a_file_there_and_back(bench: Bench) -> None:
    found = rest_files.transfers(bench, "S3 (moto)", 3 * rest_files.MIB + 17, 1)
    assert [one["what"] for one in found] == ["upload", "download"]
    assert all(one["mib_per_s"] > 0 and one["cpu_ms_per_mib"] > 0 for one in found)
    assert len(rest.files_table({"S3 (moto)": found})) == 3


def test_only_what_stands_between_the_markers_is_rewritten(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{rest.BEGIN}\nold\n{rest.END}\nafter\n")
    rest.write(page, "new")
    assert page.read_text() == f"before\n{rest.BEGIN}\n\nnew\n\n{rest.END}\nafter\n"
    document = rest.PAGE.read_text()
    assert document.count(rest.BEGIN) == document.count(rest.END) == 1
